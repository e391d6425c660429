"""How hits are ranked: by falling raw score, ties in incoming order, hits without a score last. The only sort."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from rag_rerank.text.unicode import is_blank
from rag_rerank.types import BLANK, UNREADABLE_QUERY, UNREADABLE_TEXT, Candidate, Hit, RelevantSpan, Scores, present

__all__ = [
    "best_first",
    "blank_last",
    "falling",
    "in_first_stage_order",
    "keep_first_stage",
    "place_in_part",
    "ranked_hits",
    "reciprocal_ranks",
    "renumber",
    "shift_spans",
]

T = TypeVar("T")

_FIRST = 3
"""Texts at the head of the list whose loss costs most: see docs/explanation/languages.md for what this rule gains and
loses on lists in two languages."""

_MOST_UNREADABLE = 1 / 3
"""Share of unreadable texts from which on the scores of the others order too little of the list."""


def ranked_hits(
    candidates: Sequence[Candidate], scores: Scores, where: Sequence[int], unscored: Mapping[int, str]
) -> tuple[Hit, ...]:
    """Rank candidates by their scores.

    The order is ``(-raw score, incoming order)``, so ties keep the order of the first stage. Candidates without a
    score come after all others, in incoming order, and blank texts last.

    Args:
        candidates: All candidates of the call.
        scores: One value for each position in ``where``.
        where: Positions in ``candidates`` that were scored, rising.
        unscored: Position -> reason, for all other positions; ``scores.unscored`` adds to it.
    """
    unscored = {**unscored, **{where[i]: reason for i, reason in scores.unscored.items()}}
    hits = [
        Hit(
            rank=rank,
            score=present(scores.values[i], scores.scale),
            raw_score=scores.values[i],
            candidate=candidates[where[i]],
            coverage=scores.coverage[i] if scores.coverage else None,
            spans=scores.spans[i] if scores.spans else None,
        )
        for rank, i in enumerate((i for i in falling(scores.values) if i not in scores.unscored), start=1)
    ]
    left_out = sorted(unscored.items(), key=lambda item: (item[1] == BLANK, item[0]))
    hits += [
        Hit(rank, None, None, candidates[i], None, reason) for rank, (i, reason) in enumerate(left_out, len(hits) + 1)
    ]
    return tuple(hits)


def keep_first_stage(scores: Scores) -> Scores:
    """Drop all scores of a call where a model cannot read too much of it, and say so in ``degraded``.

    A text without a score comes last. If that happened to the first stage's best texts, or to many, because the model
    cannot read them, the ranking would be worse than none.
    """
    unreadable = [i for i, reason in scores.unscored.items() if reason in (UNREADABLE_QUERY, UNREADABLE_TEXT)]
    if not unreadable:
        return scores
    count = len(scores.values)
    what = f"{len(unreadable)} of {count} texts"
    if UNREADABLE_QUERY in scores.unscored.values():
        what = "the query"
    elif len(unreadable) < _MOST_UNREADABLE * count and min(unreadable) >= _FIRST:
        return replace(scores, degraded=(*scores.degraded, f"without a score: the model cannot read {what}"))
    reason = f"not reranked, in the order of the first stage: the model cannot read {what}"
    unscored = {i: scores.unscored.get(i, _BESIDE_UNREADABLE) for i in range(count)}
    return replace(scores, unscored=unscored, degraded=(*scores.degraded, reason))


_BESIDE_UNREADABLE = "not reranked, beside texts that the model cannot read"


def best_first(scored: Iterable[Hit]) -> list[Hit]:
    """Return hits, all of which have a score, by falling raw score; ties keep their order."""
    hits = tuple(scored)
    return [hits[i] for i in falling([hit.raw_score or 0.0 for hit in hits])]


def falling(values: Sequence[float]) -> list[int]:
    """Return positions by falling value; ties keep their order. Nothing else in the package sorts by score."""
    return sorted(range(len(values)), key=values.__getitem__, reverse=True)


def renumber(hits: Iterable[Hit]) -> tuple[Hit, ...]:
    """Give hits the ranks 1, 2, 3 ... in their order."""
    return tuple(
        Hit(rank, hit.score, hit.raw_score, hit.candidate, hit.coverage, hit.unscored, hit.window, hit.spans)
        for rank, hit in enumerate(hits, start=1)
    )


def reciprocal_ranks(ranking: Iterable[T], k: float) -> dict[T, float]:
    """Return ``1 / (k + rank)`` for each item of a ranking: its share in reciprocal rank fusion.

    The shares of several rankings are added (Cormack, Clarke and Buettcher, SIGIR 2009).
    """
    return {item: 1.0 / (k + rank) for rank, item in enumerate(ranking, start=1)}


def blank_last(hits: Iterable[Hit]) -> tuple[Hit, ...]:
    """Give hits the ranks 1, 2, 3 ... in their order, with blank texts moved to the end."""
    return renumber(sorted(hits, key=lambda hit: hit.unscored == BLANK))


def in_first_stage_order(candidates: Iterable[Candidate], reason: str) -> tuple[Hit, ...]:
    """Return candidates as hits without a score, in incoming order, with blank texts at the end."""
    return blank_last(Hit(0, None, None, c, None, BLANK if is_blank(c.text) else reason) for c in candidates)


def shift_spans(spans: Iterable[RelevantSpan], by: int, length: int) -> Iterator[RelevantSpan]:
    """Yield spans at their places in another text: ``by`` characters later, as far as they are in its ``length``."""
    for span in spans:
        start, end = max(0, span.start + by), min(length, span.end + by)
        if start < end:
            yield replace(span, start=start, end=end)


def place_in_part(hit: Hit, candidate: Candidate, start: int | None) -> Hit:
    """Return a hit whose window and spans are places in a part of the scored text, as one of another candidate.

    Args:
        hit: The hit.
        candidate: The candidate whose text is the part.
        start: The character of the scored text at which the part begins; ``None`` if it is not in there.
    """
    window = None
    spans: tuple[RelevantSpan, ...] | None = None
    length = len(candidate.text)
    if start is not None and hit.window is not None:
        first, last = (min(max(end - start, 0), length) for end in hit.window)
        window = (first, last) if first < last else None
    if start is not None and hit.spans is not None:
        in_part = tuple(shift_spans(hit.spans, -start, length))
        spans = in_part if in_part or not hit.spans else None  # what is relevant may all be outside of the part
    return replace(hit, candidate=candidate, window=window, spans=spans)
