"""Ranking quality of a reranker over the BM25 top-100 of judged collections, against BM25 alone.

    python benchmarks/quality.py COLLECTIONS --reranker embedded --collection trec-dl19 --collection nq-qed

COLLECTIONS is a folder with one folder a collection: ``corpus.jsonl`` and ``queries.jsonl`` in BEIR's form,
``qrels.tsv`` (``qrels-full.tsv`` is preferred where there is one) and ``bm25-top100.trec.gz``, a TREC run. Title and
text are joined by a space. Every judged query counts (or the first ``--queries`` in the file's order); documents
below ``--depth`` keep their BM25 order behind the reranked ones. Measures are those of ir-measures, with linear gain
as trec_eval has it. The interval is a paired bootstrap over queries (10,000 samples, fixed seed).
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import ir_measures
import numpy as np
from ir_measures import RR, Qrel, ScoredDoc, nDCG

import rag_rerank
from rag_rerank import Candidate, TruncationWarning

MEASURES = (nDCG @ 10, RR @ 10)


def jsonl(file: Path) -> Iterator[dict[str, str]]:
    with file.open(encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def read(folder: Path) -> tuple[dict[str, str], dict[str, str], list[Qrel], dict[str, list[tuple[str, float]]]]:
    corpus = {d["_id"]: f"{d.get('title') or ''} {d['text']}".strip() for d in jsonl(folder / "corpus.jsonl")}
    queries = {q["_id"]: q["text"] for q in jsonl(folder / "queries.jsonl")}
    full = folder / "qrels-full.tsv"
    rows = (full if full.exists() else folder / "qrels.tsv").read_text(encoding="utf-8").splitlines()[1:]
    qrels = [Qrel(q, d, int(float(grade))) for q, d, grade in (row.split("\t") for row in rows)]
    run: dict[str, list[tuple[str, float]]] = {}
    with gzip.open(folder / "bm25-top100.trec.gz", "rt", encoding="utf-8") as lines:
        for line in lines:
            query, _, document, _, score, _ = line.split()
            run.setdefault(query, []).append((document, float(score)))
    return corpus, queries, qrels, {q: sorted(hits, key=lambda h: -h[1]) for q, hits in run.items()}


def per_query(qrels: list[Qrel], orders: dict[str, list[str]]) -> dict[str, dict[str, float]]:
    run = [ScoredDoc(q, d, -float(rank)) for q, order in orders.items() for rank, d in enumerate(order)]
    values: dict[str, dict[str, float]] = {str(m): {} for m in MEASURES}
    for metric in ir_measures.iter_calc(list(MEASURES), qrels, run):
        values[str(metric.measure)][metric.query_id] = metric.value
    return values


def interval(differences: np.ndarray) -> tuple[float, float]:
    rng = np.random.default_rng(0)
    means = differences[rng.integers(0, len(differences), (10_000, len(differences)))].mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("collections", type=Path)
    parser.add_argument("--reranker", default="embedded", help="name or config file")
    parser.add_argument("--collection", action="append", required=True)
    parser.add_argument("--depth", type=int, default=100)
    parser.add_argument("--queries", type=int)
    options = parser.parse_args()
    if not options.collections.is_dir():
        sys.exit(f"no such folder: {options.collections}")
    warnings.simplefilter("ignore", TruncationWarning)
    reranker = rag_rerank.build(options.reranker)
    reranker.warm_up()
    for name in options.collection:
        corpus, queries, qrels, run = read(options.collections / name)
        judged = {qrel.query_id for qrel in qrels}
        chosen = [q for q in queries if q in judged and q in run][: options.queries]
        qrels = [qrel for qrel in qrels if qrel.query_id in set(chosen)]
        first_stage = {q: [d for d, _ in run[q]] for q in chosen}
        reranked, cut, started = {}, 0, time.perf_counter()
        for q in chosen:
            head = [Candidate(d, corpus[d], score=s) for d, s in run[q][: options.depth]]
            ranking = reranker.rerank(queries[q], head)
            cut += sum(hit.coverage is not None and hit.coverage.truncated for hit in ranking)
            reranked[q] = [hit.id for hit in ranking] + first_stage[q][options.depth :]
        seconds = time.perf_counter() - started
        before, after = per_query(qrels, first_stage), per_query(qrels, reranked)
        pairs = sum(min(options.depth, len(run[q])) for q in chosen)
        print(f"{name}: {len(chosen)} queries, {pairs} pairs, {cut} texts cut, {seconds:.0f} s")
        for measure in map(str, MEASURES):
            change = np.array([after[measure][q] - before[measure][q] for q in before[measure]])
            low, high = interval(change)
            print(
                f"  {measure:8} BM25 {np.mean(list(before[measure].values())):.4f}  {reranker.label} "
                f"{np.mean(list(after[measure].values())):.4f}  change {change.mean():+.4f} [{low:+.4f}, {high:+.4f}]  "
                f"helped {int((change > 0).sum())}, hurt {int((change < 0).sum())}, same {int((change == 0).sum())}",
                flush=True,
            )


if __name__ == "__main__":
    main()
