"""Relevant texts that reach the LLM within a budget of tokens: the context packer against a ranking cut off.

    python benchmarks/packing.py COLLECTIONS --collection trec-dl19 --collection nfcorpus --cache scores.db

COLLECTIONS is a folder with one folder a collection in BEIR's form, with a run (`rag_rerank.evaluation.read`).
The BM25 top-100 is reranked. "Cut off" takes the texts from the top and stops at the first that does not fit; the other
rows are `rag_rerank.pack` with the options in their label. "Whole" counts relevant texts that are whole in the context,
without trimmed ones and without those that were left out as duplicates. "Distinct" counts them without near duplicates
among them (similarity 0.8). Both are printed at the budget and at half of it, with the difference to "cut off" at the
same budget: mean over queries, and the 95 % interval of a paired bootstrap.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from paired import interval

import rag_rerank
from rag_rerank import Cached, Packing, Ranking, TruncationWarning, pack
from rag_rerank.evaluation.data.read import read

OPTIONS: dict[str, dict[str, Any]] = {
    "budget alone": {},
    "duplicates='exact'": {"duplicates": "exact"},
    "duplicates=0.8": {"duplicates": 0.8},
    "trim='sentences'": {"trim": "sentences"},
    "diversity=0.1": {"diversity": 0.1},
    "diversity=0.3": {"diversity": 0.3},
}

EMBEDDED = Path(rag_rerank.__file__).parent / "models" / "late-minilm-v1"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("collections", type=Path)
    parser.add_argument("--collection", action="append", required=True)
    parser.add_argument("--reranker", default="embedded", help="name or config file")
    parser.add_argument("--budget", type=int, default=4_000)
    parser.add_argument("--tokenizer", default=str(EMBEDDED), help="tiktoken name or tokenizer.json")
    parser.add_argument("--queries", type=int, default=40)
    parser.add_argument("--cache", type=Path, help="file that keeps the scores for the next run")
    options = parser.parse_args()
    warnings.simplefilter("ignore", TruncationWarning)
    reranker = Cached(reranker=rag_rerank.build(options.reranker), path=str(options.cache) if options.cache else None)
    for folder in options.collection:
        least = 2 if folder.startswith("trec-dl") else 1  # the usual least grade of a relevant text
        queries = read(options.collections / folder, queries=options.queries, relevant=least).queries
        good = {query.id: {d for d, grade in query.grades.items() if grade >= least} for query in queries}
        rankings = {query.id: reranker.rerank(query.text, query.candidates) for query in queries}
        mean = np.mean([len(good[q] & {hit.id for hit in ranking}) for q, ranking in rankings.items()])
        print(f"{folder}: {len(rankings)} queries, {mean:.2f} relevant texts a query among the candidates")
        for budget in (options.budget, options.budget // 2):
            packings = {
                label: Packing(max_tokens=budget, tokenizer=options.tokenizer, **more)
                for label, more in OPTIONS.items()
            }

            selections = {q: ids_cut_off(packings["budget alone"], ranking) for q, ranking in rankings.items()}
            baseline = counts(good, rankings, selections)
            print(f"  {budget} tokens: cut off: whole {baseline[0].mean():.3f}, distinct {baseline[1].mean():.3f}")
            for label, packing in packings.items():
                selections = {q: whole_ids(packing, ranking) for q, ranking in rankings.items()}
                columns = []
                both = zip(("whole", "distinct"), counts(good, rankings, selections), baseline, strict=True)
                for name, ours, theirs in both:
                    low, high = interval(ours - theirs)
                    columns.append(
                        f"{name} {ours.mean():.3f} ({(ours - theirs).mean():+.3f} [{low:+.3f}, {high:+.3f}], "
                        f"more {int((ours > theirs).sum())}, fewer {int((ours < theirs).sum())})"
                    )
                print(f"    {label:20} {'  '.join(columns)}", flush=True)


def counts(
    good: Mapping[str, set[str]], rankings: Mapping[str, Ranking], selections: Mapping[str, set[str]]
) -> tuple[np.ndarray, np.ndarray]:
    """Return for each query how many relevant texts are selected, and how many of them are distinct."""
    relevant = [
        replace(ranking, hits=tuple(hit for hit in ranking if hit.id in good[q] & selections[q]))
        for q, ranking in rankings.items()
    ]
    return np.array([len(r) for r in relevant]), np.array([len(pack(r, duplicates=0.8)) for r in relevant])


def whole_ids(packing: Packing, ranking: Ranking) -> set[str]:
    """Return the ids of the texts that are whole in the context."""
    return {hit.id for piece in packing.pack(ranking).pieces if piece.trimmed is None for hit in piece.hits}


def ids_cut_off(plain: Packing, ranking: Ranking) -> set[str]:
    """Return the ids of the hits before the first that does not fit."""
    out = {drop.hit.rank for drop in plain.pack(ranking).dropped if drop.reason == "max_tokens"}
    return {hit.id for hit in ranking if hit.rank < min(out, default=len(ranking) + 1)}


if __name__ == "__main__":
    main()
