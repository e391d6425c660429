"""Ranking quality of a reranker over the BM25 top-100 of judged collections, against BM25 alone.

    python benchmarks/quality.py COLLECTIONS --reranker embedded --collection trec-dl19 --collection nq-qed

COLLECTIONS is a folder with one folder a collection; ``judged.py``, beside this file, tells their form and the
measures. Every judged query counts (or the first ``--queries`` in the file's order); documents below ``--depth`` keep
their BM25 order behind the reranked ones.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from pathlib import Path

import numpy as np
from ir_measures import RR, nDCG
from judged import interval, per_query, read

import rag_rerank
from rag_rerank import TruncationWarning

MEASURES = (nDCG @ 10, RR @ 10)


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
        collection = read(options.collections / name, options.queries)
        first_stage = {q: [d for d, _ in hits] for q, hits in collection.run.items()}
        reranked, pairs, cut, started = {}, 0, 0, time.perf_counter()
        for q, query in collection.queries.items():
            ranking = reranker.rerank(query, collection.candidates(q, options.depth))
            pairs += len(ranking)
            cut += sum(hit.coverage is not None and hit.coverage.truncated for hit in ranking)
            reranked[q] = [hit.id for hit in ranking] + first_stage[q][options.depth :]
        seconds = time.perf_counter() - started
        before, after = (per_query(MEASURES, collection.qrels, run) for run in (first_stage, reranked))
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
