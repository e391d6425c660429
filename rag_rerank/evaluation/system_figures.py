"""The figures of one system, computed from its answers; why a query has no relevant document at the top."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from rag_rerank.base import Reranker
from rag_rerank.compose.shadow_report import Spread
from rag_rerank.config import to_config
from rag_rerank.errors import ConfigError
from rag_rerank.evaluation.calibration.reliability import reliability
from rag_rerank.evaluation.data.judged import Judged, JudgedQuery, Problem
from rag_rerank.evaluation.report import FAILURES, Depth, Failure, MeanEstimate, Reliability, System
from rag_rerank.evaluation.runner import QueryAnswer
from rag_rerank.trace import Coverage, Usage

__all__ = ["failure", "failures_of", "first_stage_figures", "system_figures"]

_UNIT_SCALES = ("calibrated", "sigmoid", "relevance")
"""Scales of 0 to 1."""

_EXAMPLES = 3
"""Examples of each kind of problem."""


def first_stage_figures(name: str, measures: Mapping[str, MeanEstimate], failures: Iterable[Failure]) -> System:
    """Return the figures of the first stage."""
    return System(name=name, label=name, measures=measures, failures=_count(failures))


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
    """Return the figures of a reranker."""
    # the first call of a run loads and connects; if there is no other, its seconds are better than none
    timed = [answer for answer in answers if answer.warm] or [answer for answer in answers if answer.error is None]
    seconds = Spread.of(answer.seconds for answer in timed)
    usage = Usage.total(answer.usage for answer in answers)
    coverages = [coverage for answer in answers for coverage in answer.coverage if coverage is not None]
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
        truncated=sum(coverage.truncated for coverage in coverages) / len(coverages) if coverages else None,
        errors=sum(answer.error is not None for answer in answers),
        degraded=sum(bool(answer.degraded) for answer in answers),
        failures=_count(failures),
        depths=depths,
        reliability=_reliability(judged, answers),
        workers=max((answer.workers for answer in timed), default=1),
        problems=tuple(_problems(answers)),
    )


def failures_of(judged: Judged, answers: Iterable[QueryAnswer], top_k: int) -> dict[str, Failure]:
    """Return, by query id, why queries have no relevant document at the top; other queries are left out."""
    reasons = {
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
    return {query: reason for query, reason in reasons.items() if reason is not None}


def failure(
    query: JudgedQuery,
    order: Sequence[str],
    *,
    relevant: int,
    top_k: int,
    scores: Mapping[str, float | None],
    coverage: Mapping[str, Coverage | None],
) -> Failure | None:
    """Return why none of the first ``top_k`` is relevant; ``None`` if one is, or if no relevant document is known.

    The reason is that of the highest relevant candidate, since it came nearest to the top. Truncation and ties are
    named only where they are certain: without a known truncation or an equal score, the candidate was scored too low.

    Args:
        query: The judged query.
        order: Ids of all its candidates in the system's order, best first.
        relevant: Lowest grade of a relevant document.
        top_k: How many hits are returned.
        scores: Raw scores by id, where there are any; for the first stage, its own.
        coverage: How much of a text was read, by id, where that is known.
    """
    relevant_ids = {document for document, grade in query.grades.items() if grade >= relevant}
    if not relevant_ids or not relevant_ids.isdisjoint(order[:top_k]):
        return None
    best = next((document for document in order if document in relevant_ids), None)
    if best is None:
        return "candidates"
    best_coverage = coverage.get(best)
    if best_coverage is not None and best_coverage.truncated:
        return "truncation"
    score = scores.get(best)
    if score is not None and any(scores.get(document) == score for document in order[:top_k]):
        return "tie"
    return "scoring"


def _count(failures: Iterable[Failure]) -> dict[Failure, int]:
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
        if answer.scale in _UNIT_SCALES and not answer.substituted
        for id, score in answer.by_id(answer.scores).items()
        if score is not None and id in answer.query.grades
    ]
    return reliability([score for score, _ in pairs], [good for _, good in pairs]) if pairs else None


def _problems(answers: Sequence[QueryAnswer]) -> Iterator[Problem]:
    """Yield the failures by their class, and the reasons for degraded answers."""
    examples: dict[str, list[str]] = {}
    for answer in answers:
        if answer.error is not None:
            kind = answer.error.partition(":")[0]
            examples.setdefault(f"failed: {kind}", []).append(f"query {answer.query.id!r}: {answer.error}")
        for reason in answer.degraded:
            examples.setdefault("degraded", []).append(f"query {answer.query.id!r}: {reason}")
    for kind, texts in examples.items():
        yield Problem(kind=kind, count=len(texts), examples=tuple(texts[:_EXAMPLES]))
