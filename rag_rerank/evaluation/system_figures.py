"""The figures of one system, computed from its answers; why a query has no relevant document at the top."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from rag_rerank.base import Reranker
from rag_rerank.compose.shadow_report import Spread
from rag_rerank.config import to_config
from rag_rerank.errors import ConfigError
from rag_rerank.evaluation.data.judged import Judged, JudgedQuery, Problem
from rag_rerank.evaluation.reliability import reliability
from rag_rerank.evaluation.report import FAILURES, Depth, Failure, MeanEstimate, Reliability, System
from rag_rerank.evaluation.runner import QueryAnswer
from rag_rerank.trace import Coverage, Usage

__all__ = ["failure", "failures_of", "first_stage_figures", "system_figures"]


def failure(
    query: JudgedQuery,
    order: Sequence[str],
    *,
    relevant: int,
    top_k: int,
    scores: Mapping[str, float | None],
    coverage: Mapping[str, Coverage | None],
) -> Failure | None:
    """Say why none of the first ``top_k`` is relevant; ``None`` where one is, or where nothing relevant is known.

    Looked at is the relevant candidate that stands highest, since it was the nearest to the top. A cause is named only
    where it is certain: what is not known to be cut, and has no score that others have too, was scored too low.

    Args:
        query: The judged query.
        order: Ids of all its candidates as the system orders them, best first.
        relevant: Grade from which on a document is relevant.
        top_k: How many hits are returned.
        scores: Raw scores by id, as far as there are any; for the first stage, its own.
        coverage: How much of a text was read, by id, as far as that is known.
    """
    wanted = {document for document, grade in query.grades.items() if grade >= relevant}
    if not wanted or not wanted.isdisjoint(order[:top_k]):
        return None
    best = next((document for document in order if document in wanted), None)
    if best is None:
        return "candidates"
    read = coverage.get(best)
    if read is not None and read.truncated:
        return "truncation"
    score = scores.get(best)
    if score is not None and any(scores.get(document) == score for document in order[:top_k]):
        return "tie"
    return "scoring"


_PROBABLE = ("calibrated", "sigmoid", "relevance")
"""Scales of 0 to 1."""

_EXAMPLES = 3
"""Places that are named of a kind of problem."""


def first_stage_figures(name: str, measures: Mapping[str, MeanEstimate], failures: Iterable[Failure]) -> System:
    """Return what is said of the first stage."""
    return System(name=name, label=name, measures=measures, failures=_counted(failures))


def system_figures(
    name: str,
    reranker: Reranker,
    judged: Judged,
    answers: Sequence[QueryAnswer],
    *,
    measures: Mapping[str, MeanEstimate],
    failures: Iterable[Failure],
    depths: tuple[Depth, ...],
) -> System:
    """Return what is said of a reranker."""
    # the first call of a run loads and connects; where there is no other, its seconds are better than none
    timed = [answer for answer in answers if answer.warm] or [answer for answer in answers if answer.error is None]
    seconds = Spread.of(answer.seconds for answer in timed)
    usage = Usage.total(answer.usage for answer in answers)
    coverage = [known for answer in answers for known in answer.coverage if known is not None]
    return System(
        name=name,
        label=reranker.label,
        config=_config(reranker),
        scale=next((answer.scale for answer in answers if answer.scale and not answer.substituted), reranker.scale),
        measures=measures,
        p50=None if seconds is None else seconds.p50,
        p95=None if seconds is None else seconds.p95,
        texts=usage.texts,
        tokens=usage.tokens,
        cost=usage.cost,
        estimated=usage.estimated,
        truncated=sum(known.truncated for known in coverage) / len(coverage) if coverage else None,
        errors=sum(answer.error is not None for answer in answers),
        degraded=sum(bool(answer.degraded) for answer in answers),
        failures=_counted(failures),
        depths=depths,
        reliability=_reliability(judged, answers),
        workers=max((answer.workers for answer in timed), default=1),
        problems=tuple(_problems(answers)),
    )


def failures_of(judged: Judged, answers: Iterable[QueryAnswer], top_k: int) -> dict[str, Failure]:
    """Return why queries have no relevant document at the top, by the id of those that have none."""
    found = {
        answer.query.id: failure(
            answer.query,
            answer.ids,
            relevant=judged.relevant,
            top_k=top_k,
            scores=answer.by_id(answer.raw),
            coverage=answer.by_id(answer.coverage),
        )
        for answer in answers
    }
    return {query: why for query, why in found.items() if why is not None}


def _counted(failures: Iterable[Failure]) -> dict[Failure, int]:
    counts = Counter(failures)
    return {kind: counts[kind] for kind in FAILURES}


def _config(reranker: Reranker) -> dict[str, object] | None:
    try:
        return to_config(reranker)
    except ConfigError:  # a live object, or a class without a name
        return None


def _reliability(judged: Judged, answers: Iterable[QueryAnswer]) -> Reliability | None:
    """Compare the scores of judged candidates with their judgments, where the scores are on a scale of 0 to 1."""
    pairs = [
        (score, answer.query.grades[id] >= judged.relevant)
        for answer in answers
        if answer.scale in _PROBABLE and not answer.substituted
        for id, score in answer.by_id(answer.scores).items()
        if score is not None and id in answer.query.grades
    ]
    return reliability([score for score, _ in pairs], [good for _, good in pairs]) if pairs else None


def _problems(answers: Sequence[QueryAnswer]) -> Iterable[Problem]:
    """Yield the failures by their class, and the reasons why answers are not quite what was asked."""
    places: dict[str, list[str]] = {}
    for answer in answers:
        if answer.error is not None:
            kind = answer.error.partition(":")[0]
            places.setdefault(f"failed: {kind}", []).append(f"query {answer.query.id!r}: {answer.error}")
        for reason in answer.degraded:
            places.setdefault("degraded", []).append(f"query {answer.query.id!r}: {reason}")
    for kind, found in places.items():
        yield Problem(kind=kind, count=len(found), examples=tuple(found[:_EXAMPLES]))
