"""Ranking quality of a reranker over the BM25 top-100 of judged collections, against BM25 alone.

    python benchmarks/quality.py COLLECTIONS --reranker embedded --collection trec-dl19 --collection nq-qed

COLLECTIONS is a folder with one folder a collection in BEIR's form, with a run (`rag_rerank.evaluation.reading.read`).
Every judged query counts (or the first ``--queries`` in the file's order); documents below ``--depth`` keep their BM25
order behind the reranked ones. Measures are those of ir-measures, with linear gain as trec_eval has it.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from ir_measures import RR, iter_calc, nDCG
from paired import interval

import rag_rerank
from rag_rerank import TruncationWarning
from rag_rerank.evaluation.judged import Judged
from rag_rerank.evaluation.reading import read

MEASURES = (nDCG @ 10, RR @ 10)


def measured(judged: Judged, orders: Mapping[str, Sequence[str]]) -> dict[str, dict[str, float]]:
    """Return measure -> query -> value, for an order of document ids by query."""
    qrels = {query.id: dict(query.grades) for query in judged.queries}
    run = {query: {d: -float(rank) for rank, d in enumerate(order)} for query, order in orders.items()}
    values: dict[str, dict[str, float]] = {str(measure): dict.fromkeys(qrels, 0.0) for measure in MEASURES}
    for metric in iter_calc(list(MEASURES), qrels, run):
        values[str(metric.measure)][metric.query_id] = metric.value
    return values


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
        judged = read(options.collections / name, queries=options.queries)
        first_stage = {query.id: [candidate.id for candidate in query.candidates] for query in judged.queries}
        reranked, pairs, cut, started = {}, 0, 0, time.perf_counter()
        for query in judged.queries:
            ranking = reranker.rerank(query.text, query.candidates[: options.depth])
            pairs += len(ranking)
            cut += sum(hit.coverage is not None and hit.coverage.truncated for hit in ranking)
            reranked[query.id] = [hit.id for hit in ranking] + first_stage[query.id][options.depth :]
        seconds = time.perf_counter() - started
        before, after = (measured(judged, orders) for orders in (first_stage, reranked))
        print(f"{name}: {len(reranked)} queries, {pairs} pairs, {cut} texts cut, {seconds:.0f} s")
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
