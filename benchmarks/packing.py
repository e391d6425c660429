"""Relevant texts that reach the LLM within a budget of tokens: the context packer against cutting the ranking off.

    python benchmarks/packing.py COLLECTIONS --collection trec-dl19 --collection nfcorpus --cache scores.db

COLLECTIONS is a folder with one folder a collection in BEIR's form, with a run (`rag_rerank.evaluation.read`).
The BM25 top-100 is reranked. "Cut off" takes the texts from the top and ends at the first that does not fit; the rest
is `rag_rerank.pack` with the options that are shown. "Whole" counts relevant texts that are whole in the context, so
neither one that was trimmed nor one that was left out as a duplicate of another. "Distinct" counts them without near
duplicates among them (similarity 0.8). Both are shown at the budget and at half of it, with the difference to cutting
off at the same budget: mean over queries, and the 95 % interval of a paired bootstrap.
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
        least = 2 if folder.startswith("trec-dl") else 1  # the usual grade from which on a text is relevant
        queries = read(options.collections / folder, queries=options.queries, relevant=least).queries
        good = {query.id: {d for d, grade in query.grades.items() if grade >= least} for query in queries}
        rankings = {query.id: reranker.rerank(query.text, query.candidates) for query in queries}
        found = np.mean([len(good[q] & {hit.id for hit in ranking}) for q, ranking in rankings.items()])
        print(f"{folder}: {len(rankings)} queries, {found:.2f} relevant texts a query among the candidates")
        for budget in (options.budget, options.budget // 2):
            packings = {
                label: Packing(max_tokens=budget, tokenizer=options.tokenizer, **more)
                for label, more in OPTIONS.items()
            }

            chosen = {q: cut_off(packings["budget alone"], ranking) for q, ranking in rankings.items()}
            cut = counts(good, rankings, chosen)
            print(f"  {budget} tokens: cut off: whole {cut[0].mean():.3f}, distinct {cut[1].mean():.3f}")
            for label, packing in packings.items():
                chosen = {q: whole(packing, ranking) for q, ranking in rankings.items()}
                shown = []
                for name, ours, theirs in zip(("whole", "distinct"), counts(good, rankings, chosen), cut, strict=True):
                    low, high = interval(ours - theirs)
                    shown.append(
                        f"{name} {ours.mean():.3f} ({(ours - theirs).mean():+.3f} [{low:+.3f}, {high:+.3f}], "
                        f"more {int((ours > theirs).sum())}, fewer {int((ours < theirs).sum())})"
                    )
                print(f"    {label:20} {'  '.join(shown)}", flush=True)


def counts(
    good: Mapping[str, set[str]], rankings: Mapping[str, Ranking], chosen: Mapping[str, set[str]]
) -> tuple[np.ndarray, np.ndarray]:
    """Return for each query how many relevant texts are chosen, and how many of them are distinct."""
    relevant = [
        replace(ranking, hits=tuple(hit for hit in ranking if hit.id in good[q] & chosen[q]))
        for q, ranking in rankings.items()
    ]
    return np.array([len(r) for r in relevant]), np.array([len(pack(r, duplicates=0.8)) for r in relevant])


def whole(packing: Packing, ranking: Ranking) -> set[str]:
    """Return the ids of the texts that are whole in the context."""
    return {hit.id for piece in packing.pack(ranking).pieces if piece.trimmed is None for hit in piece.hits}


def cut_off(plain: Packing, ranking: Ranking) -> set[str]:
    """Return the ids of the hits before the first that does not fit."""
    out = {drop.hit.rank for drop in plain.pack(ranking).dropped if drop.reason == "max_tokens"}
    return {hit.id for hit in ranking if hit.rank < min(out, default=len(ranking) + 1)}


if __name__ == "__main__":
    main()
