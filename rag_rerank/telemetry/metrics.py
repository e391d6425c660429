"""Metrics: counts and distributions over calls, for dashboards and alarms.

Attributes have few values, and are never a text, a query or an id.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from rag_rerank._lazy import need
from rag_rerank._version import __version__
from rag_rerank.context.result import Context
from rag_rerank.execution.clock import now
from rag_rerank.execution.observers import trace_of
from rag_rerank.execution.protocols import CallStarted, OnCallEnd, OnContext
from rag_rerank.telemetry.attributes import context_outcomes, reranker_attributes, tag_attributes
from rag_rerank.trace import Usage
from rag_rerank.types import Ranking

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider

__all__ = ["Metrics"]

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
"""OpenTelemetry's bounds for HTTP requests, and three below them for local models."""

_CANDIDATES = (1, 5, 10, 20, 30, 50, 100, 200, 500, 1000)


class Metrics:
    """An observer that counts and measures calls.

    The duration is measured for all calls; ``rag_rerank.inner`` marks those inside composites. Everything else is
    counted for users' calls only, whose figures include those of the calls inside.
    """

    def __init__(self, provider: MeterProvider | None, *, tags: tuple[str, ...]) -> None:
        self.tags = tags
        meter = need("opentelemetry.metrics", extra="otel").get_meter("rag_rerank", __version__, provider)
        self._seconds = meter.create_histogram(
            "rag_rerank.duration",
            unit="s",
            description="Wall time of a call; those with error.type failed",
            explicit_bucket_boundaries_advisory=_SECONDS,
        )
        self._candidates = meter.create_histogram(
            "rag_rerank.candidates",
            unit="{candidate}",
            description="Candidates of a call",
            explicit_bucket_boundaries_advisory=_CANDIDATES,
        )
        self._texts = meter.create_counter(
            "rag_rerank.texts", unit="{text}", description="Texts that got a score, from a model or from a cache"
        )
        self._coverage = meter.create_counter(
            "rag_rerank.coverage", unit="{text}", description="Texts for which it is known whether they were read whole"
        )
        self._tokens = meter.create_counter("rag_rerank.tokens", unit="{token}", description="Tokens read by models")
        self._cost = meter.create_counter("rag_rerank.cost", unit="{USD}", description="Cost in US dollars")
        self._hits = meter.create_counter(
            "rag_rerank.context.hits", unit="{hit}", description="Hits of packed rankings, by what became of them"
        )
        self._degraded = meter.create_counter(
            "rag_rerank.degraded", unit="{call}", description="Calls whose answer is not quite what was asked for"
        )

    def on_call_start(self, call: CallStarted) -> OnCallEnd:
        """Note the time of the start."""
        return partial(self._on_end, call, now())

    def _on_end(
        self, call: CallStarted, started: float, ranking: Ranking | None, error: BaseException | None
    ) -> OnContext | None:
        seconds, trace = now() - started, trace_of(ranking, error)
        attributes: dict[str, Any] = reranker_attributes(call, trace) | tag_attributes(call, self.tags)
        if ranking is not None:
            attributes["rag_rerank.scale"] = ranking.scale
        failure = {} if error is None else {"error.type": type(error).__name__}
        self._seconds.record(seconds, attributes | {"rag_rerank.inner": call.inner} | failure)
        if call.inner:
            return None
        self._candidates.record(len(call.candidates), attributes)
        if trace is not None:
            self._count_usage(trace.usage, attributes)
        if ranking is not None:
            self._count_ranking(ranking, attributes)
        return partial(self._count_context, attributes)

    def _count_context(self, attributes: Mapping[str, Any], context: Context) -> None:
        """Count the hits of a context that was packed from the ranking of a call, by what became of them."""
        for outcome, count in context_outcomes(context).items():
            self._hits.add(count, {**attributes, "rag_rerank.context.outcome": outcome})

    def _count_usage(self, usage: Usage, attributes: dict[str, Any]) -> None:
        """Count the cost of a call, also of a failed one."""
        for cached, texts in ((False, usage.texts), (True, usage.cached)):
            self._texts.add(texts, attributes | {"rag_rerank.cached": cached})
        for name, counter in (("tokens", self._tokens), ("cost", self._cost)):
            amount = getattr(usage, name)
            if amount is not None:
                counter.add(amount, attributes | {"rag_rerank.estimated": name in usage.estimated})

    def _count_ranking(self, ranking: Ranking, attributes: dict[str, Any]) -> None:
        """Count truncated texts, and degraded rankings."""
        flags = [hit.coverage.truncated for hit in ranking if hit.coverage is not None]
        for truncated in (False, True):
            if flags:
                self._coverage.add(flags.count(truncated), attributes | {"rag_rerank.truncated": truncated})
        if ranking.degraded:
            self._degraded.add(1, attributes | {"rag_rerank.substituted": ranking.substituted})
