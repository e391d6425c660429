"""A cascade that lets in what is within a margin of the best score, beside one that lets in a fixed number.

    python benchmarks/cascade_margin.py COLLECTIONS RECORDS --embedding MINILM

The arguments are those of ``comparison.py quality``, whose stored answers are used. The first stage of the cascade is
BM25's own score, `lexical`, or the cosine of MiniLM; the second is `embedded`. For each collection the margin lets in
as many candidates on average as the depth does, which favours the margin, since it knows the collection. Differences
are means over the collections, with their 95 % bootstrap intervals.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from comparison import COLLECTIONS, DEPTH, QUERIES, answers_by_collection, macro_mean, values_of
from comparison_systems import BM25, DEPTHS, EMBEDDED, MINILM, configs

from rag_rerank.evaluation import Judged, read

Scores = Sequence[Mapping[str, float]]
"""Raw score by candidate id, for each query."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("collections", type=Path)
    parser.add_argument("records", type=Path)
    parser.add_argument("--embedding", required=True, help="all-MiniLM-L6-v2: a folder or a hub id")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    judged = {name: read(options.collections / name, depth=DEPTH, queries=QUERIES) for name in COLLECTIONS}
    nodes = configs(None, options.embedding, (options.records / "vectors").resolve())
    answers = {
        base: answers_by_collection(nodes[base], judged, options.records) for base in ("lexical", MINILM, EMBEDDED)
    }
    answers[BM25] = {
        name: [{c.id: c.score or 0.0 for c in query.candidates} for query in data.queries]
        for name, data in judged.items()
    }
    print("| first stage of the cascade | candidates let in | by depth | by margin | difference |")
    print("|---|---:|---:|---:|---|")
    for cheap in (BM25, "lexical", MINILM):
        for depth in DEPTHS:
            by_depth, by_margin = (
                values_of(
                    judged,
                    {
                        name: order(data, answers[cheap][name], answers[EMBEDDED][name], depth)
                        for name, data in judged.items()
                    },
                )
                for order in (_by_depth, _by_margin)
            )
            mean, low, high = macro_mean({name: by_margin[name] - by_depth[name] for name in judged})
            cells = [cheap, str(depth), *(f"{macro_mean(values)[0]:.3f}" for values in (by_depth, by_margin))]
            print(f"| {' | '.join(cells)} | {mean:+.3f} [{low:+.3f}, {high:+.3f}] |", flush=True)


def _by_depth(judged: Judged, cheap: Scores, good: Scores, depth: int) -> dict[str, list[str]]:
    return _orders(judged, cheap, good, [depth] * len(judged.queries))


def _by_margin(judged: Judged, cheap: Scores, good: Scores, depth: int) -> dict[str, list[str]]:
    gaps = [
        np.sort(max(scores.values()) - np.array(list(scores.values()))) if scores else np.zeros(0) for scores in cheap
    ]
    scored = np.concatenate(gaps)
    share = min(1.0, depth * sum(map(bool, cheap)) / max(1, len(scored)))
    margin = np.quantile(scored, share) if len(scored) else 0.0  # a model that cannot read the texts scores none
    return _orders(judged, cheap, good, [int((of_query <= margin).sum()) for of_query in gaps])


def _orders(judged: Judged, cheap: Scores, good: Scores, counts: Sequence[int]) -> dict[str, list[str]]:
    orders = {}
    for query, of_cheap, of_good, count in zip(judged.queries, cheap, good, counts, strict=True):
        ids = sorted((c.id for c in query.candidates), key=lambda id, of=of_cheap: -of.get(id, -np.inf))
        first = sorted(ids[:count], key=lambda id, of=of_good: -of.get(id, -np.inf))
        orders[query.id] = [*first, *ids[count:]]
    return orders


if __name__ == "__main__":
    main()
