"""Compare a table of learned token weights (type sparse) with BM25 over the same candidates, on judged collections.

    python benchmarks/sparse_table.py COLLECTIONS MODEL --collection scifact --collection npl --depth 100 --queries 60

COLLECTIONS is a folder with one folder per collection, MODEL a folder with idf.json and tokenizer.json. Each line has
the mean nDCG@10 of the first stage, of `lexical` and of `sparse`, and paired differences with their 95 % intervals.
The last line is about the mean over the collections, each with the same weight.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import numpy as np
from paired import interval

from rag_rerank import TruncationWarning, build
from rag_rerank.evaluation import evaluate, read
from rag_rerank.evaluation.report import FIRST_STAGE

MEASURE, SAMPLES = "nDCG@10", 10_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("collections", type=Path)
    parser.add_argument("model")
    parser.add_argument("--collection", action="append", required=True)
    parser.add_argument("--depth", type=int, default=100)
    parser.add_argument("--queries", type=int)
    options = parser.parse_args()
    warnings.simplefilter("ignore", TruncationWarning)
    rerankers = {"lexical": build("lexical"), "sparse": build({"type": "sparse", "model": options.model})}
    print("| collection | queries | first stage | lexical | sparse | sparse - first stage | sparse - lexical |")
    print("|---|---:|---:|---:|---:|---|---|")
    tables = []
    for name in options.collection:
        judged = read(options.collections / name, depth=options.depth, queries=options.queries)
        outcomes = evaluate(judged, rerankers, depth=options.depth, measures=[MEASURE]).outcomes
        systems = (FIRST_STAGE, "lexical", "sparse")
        values = np.array([[outcome.measures[system][MEASURE] for system in systems] for outcome in outcomes])
        tables.append(values)
        cells = " | ".join(f"{mean:.3f}" for mean in values.mean(axis=0))
        pairs = [values[:, 2] - values[:, place] for place in (0, 1)]
        differences = " | ".join(_words(pair.mean(), interval(pair)) for pair in pairs)
        print(f"| {name} | {len(values)} | {cells} | {differences} |", flush=True)
    cells = " | ".join(f"{mean:.3f}" for mean in np.mean([values.mean(axis=0) for values in tables], axis=0))
    macro = " | ".join(_words(*_macro([values[:, 2] - values[:, place] for values in tables])) for place in (0, 1))
    print(f"| mean | | {cells} | {macro} |")


def _macro(differences: list[np.ndarray]) -> tuple[float, tuple[float, float]]:
    """Return the mean over collections, and its interval: queries are drawn within each collection."""
    rng = np.random.default_rng(0)
    draws = [each[rng.integers(0, len(each), (SAMPLES, len(each)))].mean(axis=1) for each in differences]
    low, high = np.quantile(np.mean(draws, axis=0), [0.025, 0.975])
    return float(np.mean([each.mean() for each in differences])), (float(low), float(high))


def _words(mean: float, limits: tuple[float, float]) -> str:
    return f"{mean:+.3f} [{limits[0]:+.3f}, {limits[1]:+.3f}]"


if __name__ == "__main__":
    main()
