"""How hits are ranked: by falling raw score, ties in incoming order, hits without a score last. The only sort."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from rag_rerank.text.unicode import is_blank
from rag_rerank.types import BLANK, Candidate, Hit, Scores, present

__all__ = ["best_first", "blank_last", "in_first_stage_order", "ranked_hits", "renumber"]


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
        )
        for rank, i in enumerate((i for i in _falling(scores.values) if i not in scores.unscored), start=1)
    ]
    left_out = sorted(unscored.items(), key=lambda item: (item[1] == BLANK, item[0]))
    hits += [
        Hit(rank, None, None, candidates[i], None, reason) for rank, (i, reason) in enumerate(left_out, len(hits) + 1)
    ]
    return tuple(hits)


def best_first(scored: Iterable[Hit]) -> list[Hit]:
    """Return hits, all of which have a score, by falling raw score; ties keep their order."""
    hits = tuple(scored)
    return [hits[i] for i in _falling([hit.raw_score or 0.0 for hit in hits])]


def _falling(values: Sequence[float]) -> list[int]:
    """Return positions by falling value; ties keep their order. Nothing else in the package sorts by score."""
    return sorted(range(len(values)), key=lambda i: -values[i])


def renumber(hits: Iterable[Hit]) -> tuple[Hit, ...]:
    """Give hits the ranks 1, 2, 3 ... in their order."""
    return tuple(
        Hit(rank, hit.score, hit.raw_score, hit.candidate, hit.coverage, hit.unscored, hit.window)
        for rank, hit in enumerate(hits, start=1)
    )


def blank_last(hits: Iterable[Hit]) -> tuple[Hit, ...]:
    """Give hits the ranks 1, 2, 3 ... in their order, with blank texts moved to the end."""
    return renumber(sorted(hits, key=lambda hit: hit.unscored == BLANK))


def in_first_stage_order(candidates: Iterable[Candidate], reason: str) -> tuple[Hit, ...]:
    """Return candidates as hits without a score, in incoming order, with blank texts at the end."""
    return blank_last(Hit(0, None, None, c, None, BLANK if is_blank(c.text) else reason) for c in candidates)
