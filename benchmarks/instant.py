"""Reranking from kept vectors beside the same model without them: ratios in one run, stages, and bytes a text.

    python benchmarks/instant.py [--candidates 100 1000] [--rounds 20] [--precision fp32 int8] [--model embedded]
    python benchmarks/instant.py --opening 100000
    python benchmarks/instant.py --indexing 1000 --encoder all-MiniLM-L6-v2

Candidates are real Wikipedia passages in lengths as a retriever returns them (median 85 words). Each round asks every
system once, in turn, with another question, so that all systems see the same moments of the machine; the first round is
not counted. Times are medians of wall time, with the middle 90 % beside them; a ratio is the median over rounds of the
ratio in that round. `stages` divides the time of a call from kept vectors:

- query: the encoder, for the query alone;
- join: rows of the store -> arrays;
- compare: products, maxima and signals;
- rest: all else, from `rerank` to the ranking: keys, look-ups, threads, sorting, the trace.

``--opening`` writes a folder of that many made rows, as large as those of 100 tokens at int8, and measures in a process
of its own how long it takes to open it and to read 100 rows, and how its memory grows. ``--indexing`` encodes that many
texts with `index`, and with ``encode`` of sentence-transformers (token vectors, batches of 32) and the encoder that
`embedded` has, in turn, three times each.

Run it on an idle machine: it prints the load average, and the ratios of a busy one mean little.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median, quantiles
from time import perf_counter
from typing import Any

from rag_rerank import Candidate, Reranker, build
from rag_rerank.backends.local.kept_vectors.disk_store import DiskStore
from rag_rerank.backends.local.late_interaction import engine as engine_module
from rag_rerank.backends.local.late_interaction.text_vectors import RowLayout
from rag_rerank.diagnostics.sample_texts import questions, skewed_question

UNCACHED = "without a store"


def systems(model: str, precisions: list[str], folder: Path) -> Iterator[tuple[str, Reranker]]:
    """Yield the systems by name: the model without kept vectors, then each precision in memory and in a folder."""
    yield UNCACHED, build({"type": "late_interaction", "model": model, "store": None})
    for precision in precisions:
        node = {"type": "late_interaction", "model": model, "precision": precision}
        yield f"{precision}, memory", build({**node, "store": {"max_bytes": 8 * 2**30}})
        yield f"{precision}, folder", build({**node, "store": {"path": str(folder / precision)}})


@contextmanager
def stage_times(times: dict[str, float]) -> Iterator[None]:
    """Add the seconds of the stages of each call to ``times`` while this block runs."""
    places = {
        "query": (engine_module.LateInteractionEngine, "token_vectors"),
        "join": (RowLayout, "join"),
        "scores": (engine_module.LateInteractionEngine, "scores"),
    }
    originals = {name: getattr(*place) for name, place in places.items()}

    def timed(name: str) -> Callable[..., Any]:
        def work(*args: Any, **options: Any) -> Any:
            started = perf_counter()
            try:
                return originals[name](*args, **options)
            finally:
                times[name] = times.get(name, 0.0) + perf_counter() - started

        return work

    try:
        for name, place in places.items():
            setattr(*place, timed(name))
        yield
    finally:
        for name, place in places.items():
            setattr(*place, originals[name])


def seconds_of(reranker: Reranker, query: str, candidates: list[Candidate]) -> float:
    started = perf_counter()
    reranker.rerank(query, candidates)
    return perf_counter() - started


def spread(values: list[float]) -> str:
    """Return the median in milliseconds, and the middle 90 %."""
    low, *_, high = quantiles(values, n=20) if len(values) > 1 else (values[0], values[0])
    return f"{1000 * median(values):9.2f} ms [{1000 * low:.2f}, {1000 * high:.2f}]"


def measure(count: int, rounds: int, rerankers: dict[str, Reranker]) -> None:
    texts = skewed_question(count).texts
    candidates = [Candidate(str(i), text) for i, text in enumerate(texts)]
    queries = [question.query for question in questions()]
    for name, reranker in rerankers.items():
        if name != UNCACHED:
            report = reranker.index(texts)  # type: ignore[attr-defined]
            kilobytes = report.store.bytes_per_text / 1000
            print(f"{name:16} {report.store.texts} texts kept, {kilobytes:.1f} kB each")
    times: dict[str, list[float]] = {name: [] for name in rerankers}
    stages: dict[str, list[dict[str, float]]] = {name: [] for name in rerankers}
    for number in range(rounds + 1):
        order = list(rerankers.items())[:: 1 if number % 2 else -1]
        for name, reranker in order:
            of_call: dict[str, float] = {}
            with stage_times(of_call):
                seconds = seconds_of(reranker, queries[number % len(queries)], candidates)
            if number:
                times[name].append(seconds)
                stages[name].append({**of_call, "whole": seconds})
    print(f"\n{count} candidates, {rounds} rounds")
    for name, values in times.items():
        ratio = median(slow / fast for slow, fast in zip(times[UNCACHED], values, strict=True))
        print(f"{name:16} {spread(values)}   1/{ratio:.0f}")
        if name != UNCACHED:
            print(f"{'':16} {stage_line(stages[name])}")
    print()


def stage_line(stages: list[dict[str, float]]) -> str:
    """Return the medians of the stages in milliseconds."""
    parts = {
        "query": [one.get("query", 0.0) for one in stages],
        "join": [one.get("join", 0.0) for one in stages],
        "compare": [one.get("scores", 0.0) - one.get("join", 0.0) for one in stages],
        "rest": [one["whole"] - one.get("query", 0.0) - one.get("scores", 0.0) for one in stages],
    }
    return ", ".join(f"{name} {1000 * median(values):.2f}" for name, values in parts.items())


OPENING = """
import hashlib, resource, sys
from time import perf_counter
from rag_rerank.backends.local.kept_vectors.disk_store import DiskStore
import lmdb
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
started = perf_counter()
store = DiskStore(sys.argv[1], max_bytes=2**34)
opened = perf_counter()
step = int(sys.argv[2]) // 100
rows = store.get([hashlib.sha256(str(i * step).encode()).digest() for i in range(100)])
read = perf_counter()
assert all(rows)
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(f"opened in {1000 * (opened - started):.1f} ms, 100 rows read in {1000 * (read - opened):.1f} ms,", end=" ")
print(f"memory +{(after - before) / 1024:.0f} MiB")
"""


def measure_opening(count: int) -> None:
    """Write a folder of rows, and open it in a new process."""
    row = os.urandom(100 * 390 + 850)
    with tempfile.TemporaryDirectory() as folder:
        store = DiskStore(folder, max_bytes=2**34)
        for start in range(0, count, 1000):
            numbers = range(start, min(start + 1000, count))
            store.put({hashlib.sha256(str(i).encode()).digest(): row for i in numbers})
        print(f"{store.stats.texts} rows, {store.stats.bytes / 1e9:.2f} GB", flush=True)
        store.close()
        for _ in range(3):
            subprocess.run([sys.executable, "-c", OPENING, folder, str(count)], check=True)


def measure_indexing(count: int, encoder: str, model: str) -> None:
    """Encode the same texts by `index` and by sentence-transformers, in turn."""
    from sentence_transformers import SentenceTransformer

    texts = skewed_question(count).texts
    peer = SentenceTransformer(encoder, device="cpu")
    peer.max_seq_length = 512
    ratios = []
    for _ in range(3):
        with build({"type": "late_interaction", "model": model, "store": {"max_bytes": 2**34}}) as reranker:
            reranker.warm_up()
            started = perf_counter()
            reranker.index(texts)  # type: ignore[attr-defined]
            ours = perf_counter() - started
        started = perf_counter()
        peer.encode(list(texts), output_value="token_embeddings", batch_size=32)
        theirs = perf_counter() - started
        ratios.append(theirs / ours)
        print(
            f"index {count / ours:.0f} texts/s, sentence-transformers {count / theirs:.0f} texts/s: {ratios[-1]:.2f}x"
        )
    print(f"median {median(ratios):.2f}x")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--candidates", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--precision", nargs="+", default=["fp32", "int8"])
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--opening", type=int, metavar="ROWS")
    parser.add_argument("--indexing", type=int, metavar="TEXTS")
    parser.add_argument("--encoder", default="sentence-transformers/all-MiniLM-L6-v2")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    print(f"{platform.machine()}, {os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}")
    if options.opening:
        measure_opening(options.opening)
    if options.indexing:
        measure_indexing(options.indexing, options.encoder, options.model)
    if options.opening or options.indexing:
        return
    with tempfile.TemporaryDirectory() as folder:
        rerankers = dict(systems(options.model, options.precision, Path(folder)))
        for count in options.candidates:
            measure(count, options.rounds, rerankers)
        for reranker in rerankers.values():
            reranker.close()


if __name__ == "__main__":
    main()
