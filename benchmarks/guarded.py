"""What type guarded keeps of a reranker's gain, and what it prevents, for good, weak and broken rerankers.

    python benchmarks/guarded.py COLLECTIONS RECORDS

COLLECTIONS is a folder with one folder per collection. RECORDS has the answers of ``embedded`` and ``lexical`` on them,
as ``benchmarks/evaluation.py`` stores them with ``--config embedded --config lexical --depth 100 --queries 60 --records
RECORDS``, one folder per collection. The first stage is BM25; the strong one is the reciprocal rank fusion of BM25
and ``embedded``. Broken rerankers are deterministic: random scores with a fixed seed, the incoming order reversed, the
length of the text. All figures are means over the collections.

"Learnt" is measured in two halves: the margin of each half of the queries is that of
`rag_rerank.evaluation.fit_margin` on the other half; without a margin, the first stage's order stays.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean

from rag_rerank import Candidate, Guarded, Reranker
from rag_rerank.evaluation import Judged, JudgedQuery, fit_margin, read
from rag_rerank.evaluation.measures import per_query
from rag_rerank.execution.ranking import reciprocal_ranks
from rag_rerank.records.reader import read as read_records
from rag_rerank.testing import ScriptedReranker

MEASURE = "nDCG@10"
NOT_SCORED = -1e9

Scorer = Callable[[JudgedQuery], Sequence[float]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("collections", type=Path)
    parser.add_argument("records", type=Path)
    options = parser.parse_args()
    table: dict[tuple[str, str], list[tuple[float, ...]]] = {}
    for folder in sorted(options.records.iterdir()):
        judged = read(options.collections / folder.name, depth=100, queries=60)
        judged = replace(judged, queries=tuple(query for query in judged.queries if query.candidates))
        for first, reranker, ordered, scorer in _cases(judged, folder):
            table.setdefault((first, reranker), []).append(_figures(ordered, scorer))
    print("| first stage | reranker | first stage alone | reranked | guarded | kept | guarded, learnt margin | kept |")
    print("|---|---|---:|---:|---:|---:|---:|---:|")
    for (first, reranker), rows in table.items():
        base, plain, guarded, kept, learnt, learnt_kept = (mean(column) for column in zip(*rows, strict=True))
        print(
            f"| {first} | {reranker} | {base:.3f} | {plain:.3f} | {guarded:.3f} | {kept:.0%} | {learnt:.3f} "
            f"| {learnt_kept:.0%} |"
        )


def _cases(judged: Judged, folder: Path) -> Iterator[tuple[str, str, Judged, Scorer]]:
    embedded, lexical = _stored(folder, "late-interaction*.jsonl"), _stored(folder, "lexical*.jsonl")
    strong = replace(judged, queries=tuple(_fused(query, embedded) for query in judged.queries))
    broken = {"random scores": _by_chance, "reversed order": _backwards, "length of the text": _by_length}
    for first, ordered in (("BM25", judged), ("BM25 and embedded, fused", strong)):
        for name, scorer in {"embedded": embedded, "lexical": lexical, **broken}.items():
            yield first, name, ordered, scorer


def _stored(folder: Path, pattern: str) -> Scorer:
    (file,) = folder.glob(pattern)
    scores = {
        record.tags["query_id"]: {entry.id: entry.raw_score for entry in record.candidates}
        for record in read_records(file)
    }

    def stored(query: JudgedQuery) -> list[float]:
        raw = [scores[query.id][candidate.id] for candidate in query.candidates]
        return [NOT_SCORED if value is None else value for value in raw]

    return stored


def _by_chance(query: JudgedQuery) -> list[float]:
    rng = random.Random(query.id)
    return [rng.random() for _ in query.candidates]


def _backwards(query: JudgedQuery) -> list[float]:
    return [float(i) for i in range(len(query.candidates))]


def _by_length(query: JudgedQuery) -> list[float]:
    return [float(len(candidate.text)) for candidate in query.candidates]


def _fused(query: JudgedQuery, scorer: Scorer) -> JudgedQuery:
    """Return a query with its candidates in the order of the fusion."""
    scores = scorer(query)
    places = range(len(scores))
    by_incoming = reciprocal_ranks(places, 60)
    by_scores = reciprocal_ranks(sorted(places, key=lambda i: -scores[i]), 60)
    order = sorted(places, key=lambda i: -(by_incoming[i] + by_scores[i]))
    return replace(query, candidates=tuple(query.candidates[i] for i in order))


def _figures(judged: Judged, scorer: Scorer) -> tuple[float, ...]:
    by_text: dict[str, float] = {}
    queries = []
    for query in judged.queries:
        texts = [f"{query.id} {candidate.id}" for candidate in query.candidates]  # unique, so that a script knows them
        by_text |= zip(texts, scorer(query), strict=True)
        own = tuple(Candidate(c.id, text) for c, text in zip(query.candidates, texts, strict=True))
        queries.append(replace(query, candidates=own))
    judged = replace(judged, queries=tuple(queries))
    reranker = ScriptedReranker(by_text=by_text)
    margins: dict[str, float | None] = {}
    for part in (0, 1):
        fit = fit_margin(reranker, replace(judged, queries=tuple(queries[1 - part :: 2])), samples=2000)
        margins |= {query.id: fit.margin for query in queries[part::2]}
    default = {query.id: 2.0 for query in queries}
    plain, _ = _mean(judged, {query.id: reranker for query in queries})
    base, _ = _mean(judged, {query.id: None for query in queries})
    return base, plain, *_mean(judged, _guards(reranker, default)), *_mean(judged, _guards(reranker, margins))


def _guards(reranker: Reranker, margins: Mapping[str, float | None]) -> dict[str, Reranker | None]:
    return {
        query: None if margin is None else Guarded(reranker=reranker, margin=margin)
        for query, margin in margins.items()
    }


def _mean(judged: Judged, rerankers: Mapping[str, Reranker | None]) -> tuple[float, float]:
    """Return the mean of the measure, and the share of the queries that keep the first stage's order unscored."""
    orders, kept = {}, 0
    for query in judged.queries:
        reranker = rerankers[query.id]
        ranking = None if reranker is None else reranker.rerank(query.text, query.candidates)
        orders[query.id] = [c.id for c in query.candidates] if ranking is None else [hit.id for hit in ranking]
        kept += ranking is None or bool(ranking.degraded)
    return mean(per_query(judged, orders, [MEASURE])[MEASURE].values()), kept / len(orders)


if __name__ == "__main__":
    main()
