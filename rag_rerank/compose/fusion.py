"""The formulas of rank and score fusion."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean, pstdev

from rag_rerank.types import Candidate, Hit, Ranking, Scores, ranked

__all__ = ["FUSIONS", "NORMALISATIONS", "fused"]

FUSIONS = ("rrf", "combsum", "combmnz", "weighted")


def fused(
    candidates: Sequence[Candidate],
    voices: Sequence[tuple[float, Ranking]],
    fusion: str,
    normalise: str,
    k: float,
) -> tuple[Hit, ...]:
    """Return the candidates ranked by all voices together; see `Ensemble` for the formulas.

    Args:
        candidates: All of them, in incoming order, which breaks ties.
        voices: Weight and ranking of each member that answered.
        fusion: One of `FUSIONS`.
        normalise: One of `NORMALISATIONS`.
        k: The constant of reciprocal rank fusion.
    """
    scored = [[hit for hit in ranking if hit.raw_score is not None] for _, ranking in voices]
    count = {candidate.id: 0 for candidate in candidates}
    total = dict.fromkeys(count, 0.0)
    for (weight, _), hits in zip(voices, scored, strict=True):
        for hit in hits:
            count[hit.id] += 1
        for id, vote in (_reciprocal(hits, k) if fusion == "rrf" else _votes(hits, total, normalise)).items():
            total[id] += weight * vote
    if fusion == "combmnz":
        total = {id: count[id] * value for id, value in total.items()}
    why = {hit.id: hit.unscored or "" for _, ranking in reversed(voices) for hit in ranking if hit.raw_score is None}
    where = [i for i, candidate in enumerate(candidates) if count[candidate.id]]
    values = [total[candidates[i].id] for i in where]
    unscored = {i: why[candidate.id] for i, candidate in enumerate(candidates) if not count[candidate.id]}
    return ranked(candidates, Scores(values, "unbounded"), where, unscored)


def _reciprocal(hits: Sequence[Hit], k: float) -> dict[str, float]:
    return {hit.id: 1.0 / (k + rank) for rank, hit in enumerate(hits, start=1)}


def _votes(hits: Sequence[Hit], ids: Mapping[str, float], normalise: str) -> dict[str, float]:
    """Return a normalised score for every candidate; those without a score count as the lowest."""
    if not hits:
        return {}
    values = NORMALISATIONS[normalise](hits)
    return dict.fromkeys(ids, min(values)) | {hit.id: value for hit, value in zip(hits, values, strict=True)}


def _min_max(hits: Sequence[Hit]) -> list[float]:
    raw = [hit.raw_score or 0.0 for hit in hits]
    low, high = min(raw), max(raw)
    if low == high:
        return [0.5] * len(raw)
    return [(value / 2 - low / 2) / (high / 2 - low / 2) for value in raw]  # halves, because the range may be too large


def _z_score(hits: Sequence[Hit]) -> list[float]:
    raw = [hit.raw_score or 0.0 for hit in hits]
    largest = max(map(abs, raw)) or 1.0
    raw = [value / largest for value in raw]  # their squares may be too large; a common factor changes nothing
    mean, deviation = fmean(raw), pstdev(raw)
    return [0.0] * len(raw) if deviation == 0 else [(value - mean) / deviation for value in raw]


def _presented(hits: Sequence[Hit]) -> list[float]:
    return [hit.score or 0.0 for hit in hits]


NORMALISATIONS: Mapping[str, Callable[[Sequence[Hit]], list[float]]] = {
    "min-max": _min_max,
    "z-score": _z_score,
    "none": _presented,
}
"""Name -> what it makes of the scores of a member's hits."""
