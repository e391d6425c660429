"""A few texts ranked by each model, timed; and, where the user allows it, one real request to each provider."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from rag_rerank.diagnostics.health.finding import Finding, Subject, error_finding
from rag_rerank.diagnostics.health.missing import find_missing
from rag_rerank.diagnostics.order_questions import order_questions
from rag_rerank.errors import RerankError
from rag_rerank.execution.clock import now

if TYPE_CHECKING:
    from rag_rerank.base import Reranker

__all__ = ["check_live", "check_ranking"]

_SECONDS = 120.0
"""Seconds for the first call, with loading."""

_SLOW = 2.0
"""Seconds of the second call from which on it is slow: three short sentences take a small model some 0.02 s."""


def check_ranking(subject: Subject) -> Iterator[Finding]:
    """Yield whether each model of the config puts the right text first, and how long its calls take."""
    for part in subject.parts:
        if (part in subject.local_parts or part.kind == "lexical") and not find_missing(part):
            yield _rank(_without_store(part), part.label)


def check_live(subject: Subject) -> Iterator[Finding]:
    """Yield whether each provider of the config scores one text; nothing is sent unless the user allows it."""
    if not subject.live:
        return
    ((query, texts),) = order_questions(1)
    for part in subject.api_parts:
        if find_missing(part):
            continue
        begin = now()
        try:
            part.rerank(query, texts[:1], timeout=6 * subject.timeout)
        except RerankError as error:
            yield error_finding("live", part.label, error)
        else:
            yield Finding("live", "ok", part.label, f"it scored one text in {now() - begin:.2f} s")
        finally:
            part.close()


def _rank(reranker: Reranker, label: str) -> Finding:
    ((query, texts),) = order_questions(1)
    candidates = texts[::-1]  # the answer last, so that a ranking that changes nothing is noticed
    begin = now()
    try:
        reranker.rerank(query, candidates, timeout=_SECONDS)
        middle = now()
        ranking = reranker.rerank(query, candidates, timeout=_SECONDS)
        end = now()
    except RerankError as error:
        return error_finding("self-test", label, error)
    finally:
        reranker.close()
    times = f"first call {middle - begin:.2f} s, second {end - middle:.3f} s, {len(texts)} texts"
    if ranking.degraded:
        return Finding("self-test", "ok", label, f"{times}; the order was not judged: the sample texts are English")
    if ranking.hits[0].text != texts[0]:
        what = f"it ranks a wrong text first for an easy question ({times})"
        advice = "rag-rerank verify compares its scores with published ones; fetch its files again if they differ"
        return Finding("self-test", "problem", label, what, advice, "how-to/verify/")
    if end - middle > _SLOW:
        advice = "close what else uses the cores, let rag-rerank tune measure settings, or choose a smaller model"
        return Finding("self-test", "warning", label, f"it is slow: {times}", advice, "explanation/speed/")
    return Finding("self-test", "ok", label, f"the right text is first; {times}")


def _without_store(reranker: Reranker) -> Reranker:
    """Return the reranker without what it keeps between calls: a test must not write into a user's store."""
    from rag_rerank.backends.local.kept_vectors.base import VectorReranker

    return replace(reranker, store=None) if isinstance(reranker, VectorReranker) else replace(reranker)
