"""The cost of recording: for a call, and for the process after the call.

    python benchmarks/recording.py [--candidates 100] [--rounds 300]

The reranker computes nothing, which is the worst case: only the library is measured, and any model takes longer.
Candidates have 100 words each. Three settings take turns call by call: no recording, hashes, texts. All times are
processor time of the thread, so that a busy machine changes them little.

- "a call": the thread that calls `rerank`, median. Before the next call everything is written, outside the time.
- "afterwards": a `flush` while no writer thread may start, so that it does all the work: it builds one record, and
  appends it to the file.
"""

from __future__ import annotations

import argparse
import random
import tempfile
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from statistics import median, quantiles
from time import thread_time

import rag_rerank
from rag_rerank import Candidate
from rag_rerank.execution import background
from rag_rerank.records import Recorder
from rag_rerank.testing import ScriptedReranker

QUERY = "how deep is the lake in the south"
WORDS = ("the", "water", "is", "warm", "and", "deep", "in", "old", "lake", "near", "town", "where", "people", "swim")


def candidates(count: int) -> list[Candidate]:
    chance = random.Random(7)
    return [
        Candidate(f"doc-{i}", " ".join(chance.choices(WORDS, k=100)), score=1 / (i + 1), metadata={"page": i})
        for i in range(count)
    ]


@contextmanager
def no_writer_thread() -> Iterator[None]:
    """Start no thread that writes."""
    start = background.start_thread
    background.start_thread = lambda work: Future()
    try:
        yield
    finally:
        background.start_thread = start


def measure(reranker: ScriptedReranker, texts: list[Candidate], rounds: int, folder: Path) -> None:
    settings: dict[str, Recorder | None] = {
        "no recording": None,
        "hashes": rag_rerank.recording(folder / "hashes.jsonl"),
        "texts": rag_rerank.recording(folder / "texts.jsonl", texts=True),
    }
    calls: dict[str, list[float]] = {setting: [] for setting in settings}
    afterwards: dict[str, list[float]] = {setting: [] for setting in settings}
    reranker.rerank(QUERY, texts)
    for i in range(rounds):
        for setting, traces in settings.items():
            if traces is None:
                calls[setting].append(seconds_of_call(reranker, texts))
                continue
            with traces:
                calls[setting].append(seconds_of_call(reranker, texts))
            if i % 5 == 0:
                with no_writer_thread(), traces:
                    reranker.rerank(QUERY, texts)
                    started = thread_time()
                    traces.flush()
                    afterwards[setting].append(thread_time() - started)
    plain = median(calls["no recording"])
    print(f"{len(texts)} candidates, {rounds} calls each setting")
    for setting, traces in settings.items():
        middle = median(calls[setting])
        low, _, high = quantiles(calls[setting])
        facts = [f"{setting:15} a call {middle * 1e6:9,.0f} µs (quartiles {low * 1e6:,.0f} to {high * 1e6:,.0f})"]
        if traces is not None:
            size = (folder / f"{setting}.jsonl").stat().st_size / traces.counts.recorded
            facts += [
                f"{(middle - plain) * 1e6:+.0f} µs, ratio {middle / plain:.3f}",
                f"afterwards {median(afterwards[setting]) * 1e3:.2f} ms, {size / 1024:.0f} KiB a record",
            ]
            assert traces.counts.losses == 0
        print("; ".join(facts), flush=True)


def seconds_of_call(reranker: ScriptedReranker, texts: list[Candidate]) -> float:
    started = thread_time()
    reranker.rerank(QUERY, texts)
    return thread_time() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--candidates", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=300)
    options = parser.parse_args()
    texts = candidates(options.candidates)
    with tempfile.TemporaryDirectory() as folder:
        measure(ScriptedReranker(), texts, options.rounds, Path(folder))


if __name__ == "__main__":
    main()
