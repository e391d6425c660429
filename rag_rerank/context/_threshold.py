"""Which hits of a ranking come into question at all: those with text, and with a score that is high enough."""

from __future__ import annotations

from rag_rerank.context.report import Dropped
from rag_rerank.types import Hit, Ranking, Scale, blank


def passing(
    ranking: Ranking, min_score: float | None, scale: Scale | None
) -> tuple[list[Hit], list[Dropped], list[str]]:
    """Return the hits that pass, those that do not, and why a threshold was not applied.

    A threshold means something on its own scale only, and for the reranker that it was written for. Hits without a
    score that stand before scored ones were found surely in by a cascade's ``border_only`` stage; they pass.
    """
    hits = [hit for hit in ranking if not blank(hit.text)]
    dropped = [Dropped(hit=hit, reason="blank", detail="it has no text") for hit in ranking if blank(hit.text)]
    if min_score is None:
        return hits, dropped, []
    why_not = _why_not(ranking, hits, scale)
    if why_not is not None:
        return hits, dropped, [f"min_score={min_score:g} was not applied: {why_not}"] if hits else []
    first = next(i for i, hit in enumerate(hits) if hit.score is not None)
    passed = hits[:first]
    for hit in hits[first:]:
        if hit.score is None:
            why = f"no score to compare with min_score={min_score:g} ({hit.unscored or 'not scored'})"
            dropped.append(Dropped(hit=hit, reason="unscored", detail=why))
        elif hit.score < min_score:
            why = f"score {hit.score:.4g} is below min_score={min_score:g}"
            dropped.append(Dropped(hit=hit, reason="min_score", detail=why))
        else:
            passed.append(hit)
    return passed, dropped, []


def _why_not(ranking: Ranking, hits: list[Hit], scale: Scale | None) -> str | None:
    if ranking.scale != scale:
        return f"it was written for {scale} scores, and these are {ranking.scale}"
    if ranking.substituted and scale != "calibrated":
        return f"another reranker answered than the one that it was written for ({'; '.join(ranking.degraded)})"
    if all(hit.score is None for hit in hits):
        return "no hit has a score"
    return None
