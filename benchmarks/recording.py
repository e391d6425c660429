"""What recording costs a call, and what it costs the process behind the call.

    python benchmarks/recording.py [--candidates 100] [--rounds 300]

Calls of a reranker that has nothing to compute, which is the worst case: all that is measured is the library, and any
model takes longer. Candidates have 100 words each. Three ways take turns call by call: nobody records, hashes are
recorded, texts are recorded. All times are processor time of the thread, so that a busy machine bears on them little.

- "a call": of the thread that calls `rerank`, median. Before the next call everything is written, outside the time.
- "behind it": of a `flush` where the writer's thread is not let begin, so that all of the work is in it: making one
  record, and appending it to the file.
"""

from __future__ import annotations

import argparse
import random
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median, quantiles
from time import thread_time

import rag_rerank
from rag_rerank import Candidate
from rag_rerank.records import Recorder, recorder
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
def later() -> Iterator[None]:
    """Let no thread begin to write."""
    start, recorder.start = recorder.start, lambda work: None  # type: ignore[assignment,misc,return-value]
    try:
        yield
    finally:
        recorder.start = start


def measured(reranker: ScriptedReranker, asked: list[Candidate], rounds: int, folder: Path) -> None:
    ways: dict[str, Recorder | None] = {
        "nobody records": None,
        "hashes": rag_rerank.recording(folder / "hashes.jsonl"),
        "texts": rag_rerank.recording(folder / "texts.jsonl", texts=True),
    }
    calls: dict[str, list[float]] = {way: [] for way in ways}
    behind: dict[str, list[float]] = {way: [] for way in ways}
    reranker.rerank(QUERY, asked)
    for i in range(rounds):
        for way, traces in ways.items():
            if traces is None:
                calls[way].append(once(reranker, asked))
                continue
            with traces:
                calls[way].append(once(reranker, asked))
            if i % 5 == 0:
                with later(), traces:
                    reranker.rerank(QUERY, asked)
                    started = thread_time()
                    traces.flush()
                    behind[way].append(thread_time() - started)
    plain = median(calls["nobody records"])
    print(f"{len(asked)} candidates, {rounds} calls each way")
    for way, traces in ways.items():
        middle = median(calls[way])
        low, _, high = quantiles(calls[way])
        facts = [f"{way:15} a call {middle * 1e6:9,.0f} µs (quartiles {low * 1e6:,.0f} to {high * 1e6:,.0f})"]
        if traces is not None:
            size = (folder / f"{way}.jsonl").stat().st_size / traces.counts.recorded
            facts += [
                f"{(middle - plain) * 1e6:+.0f} µs, ratio {middle / plain:.3f}",
                f"behind it {median(behind[way]) * 1e3:.2f} ms, {size / 1024:.0f} KiB a record",
            ]
            assert traces.counts.losses == 0
        print("; ".join(facts), flush=True)


def once(reranker: ScriptedReranker, asked: list[Candidate]) -> float:
    started = thread_time()
    reranker.rerank(QUERY, asked)
    return thread_time() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--candidates", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=300)
    options = parser.parse_args()
    asked = candidates(options.candidates)
    with tempfile.TemporaryDirectory() as folder:
        measured(ScriptedReranker(), asked, options.rounds, Path(folder))


if __name__ == "__main__":
    main()
