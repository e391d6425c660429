"""Thresholds: on the scores of the hits, and on the probability that any of them answers the query."""

from __future__ import annotations

from rag_rerank.context.result import Dropped
from rag_rerank.documentation import ANSWERABILITY
from rag_rerank.errors import ConfigError
from rag_rerank.text.unicode import is_blank
from rag_rerank.types import Hit, Ranking, Scale

__all__ = ["apply_answerable", "apply_threshold"]

Passing = tuple[list[Hit], list[Dropped], list[str]]
"""The hits that pass, those that do not, and notes on why a threshold was not applied, or left nothing."""


def apply_answerable(ranking: Ranking, hits: list[Hit], least: float | None) -> Passing:
    """Let all of these hits pass, or none where it is too improbable that a candidate answers the query.

    Raises:
        ConfigError: There is a threshold, and nothing in the reranker says how probable it is.
    """
    if least is None:
        return hits, [], []
    if ranking.answerable is None:
        steps = list(ranking.trace.walk())
        if all(step.kind != "answerable" for step in steps):
            raise ConfigError(
                f"the ranking of {ranking.trace.step} does not say how probable it is that a text answers; fit a map "
                "with rag-rerank calibrate JUDGED --answerable --config CONFIG -o answerable.json, and rerank with "
                "{type: answerable, reranker: CONFIG, map: answerable.json} as the outermost reranker",
                path="answerable",
                page=ANSWERABILITY,
            )
        reasons = [*ranking.degraded, *(note for step in steps for note in step.notes if "answerable" in note)]
        return hits, [], [f"answerable={least:g} was not applied: {'; '.join(reasons)}"]
    if ranking.answerable >= least:
        return hits, [], []
    detail = f"the probability that a text answers is {ranking.answerable:.4g}, below answerable={least:g}"
    dropped = [Dropped(hit=hit, reason="answerable", detail=detail) for hit in hits]
    return [], dropped, [f"no text is in the context: {detail}"]


def apply_threshold(ranking: Ranking, min_score: float | None, scale: Scale | None) -> Passing:
    """Return the hits that pass, those that do not, and notes on why the threshold was not applied.

    Blank hits never pass. A threshold is applied only on its own scale, and only to scores of the reranker that it
    was written for; a hit without a score then does not pass.
    """
    hits = [hit for hit in ranking if not is_blank(hit.text)]
    dropped = [Dropped(hit=hit, reason="blank", detail="it has no text") for hit in ranking if is_blank(hit.text)]
    if min_score is None:
        return hits, dropped, []
    reason = _why_not_applied(ranking, hits, scale)
    if reason is not None:
        return hits, dropped, [f"min_score={min_score:g} was not applied: {reason}"] if hits else []
    passing = []
    for hit in hits:
        if hit.score is None:
            detail = f"no score to compare with min_score={min_score:g} ({hit.unscored or 'not scored'})"
            dropped.append(Dropped(hit=hit, reason="unscored", detail=detail))
        elif hit.score < min_score:
            detail = f"score {hit.score:.4g} is below min_score={min_score:g}"
            dropped.append(Dropped(hit=hit, reason="min_score", detail=detail))
        else:
            passing.append(hit)
    return passing, dropped, []


def _why_not_applied(ranking: Ranking, hits: list[Hit], scale: Scale | None) -> str | None:
    if ranking.scale != scale:
        return f"it was written for {scale} scores, and these are {ranking.scale}"
    if ranking.substituted and scale != "calibrated":
        return f"another reranker answered than the one that it was written for ({'; '.join(ranking.degraded)})"
    if all(hit.score is None for hit in hits):
        return "no hit has a score"
    return None
