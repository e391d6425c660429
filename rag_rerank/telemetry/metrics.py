"""Counts and distributions over calls, for dashboards and alarms.

Attributes have few values, and are never a text, a query or an id.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from rag_rerank._lazy import need
from rag_rerank._version import __version__
from rag_rerank.execution.clock import now
from rag_rerank.execution.observers import trace_of
from rag_rerank.execution.protocols import CallStarted, OnCallEnd
from rag_rerank.telemetry.attributes import tag_attributes, who
from rag_rerank.trace import Usage
from rag_rerank.types import Ranking

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider

__all__ = ["Metrics"]

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
"""Bounds as OpenTelemetry gives them for HTTP requests, and three below for local models."""

_CANDIDATES = (1, 5, 10, 20, 30, 50, 100, 200, 500, 1000)


class Metrics:
    """Watches calls, and counts.

    Time is taken of all calls, those inside composites too, told apart by ``rag_rerank.inner``. All else is counted for
    users' calls only, whose figures hold those of the calls inside.
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
            "rag_rerank.coverage", unit="{text}", description="Texts of which is known whether they were read whole"
        )
        self._tokens = meter.create_counter("rag_rerank.tokens", unit="{token}", description="Tokens read by models")
        self._cost = meter.create_counter("rag_rerank.cost", unit="{USD}", description="Cost in US dollars")
        self._degraded = meter.create_counter(
            "rag_rerank.degraded", unit="{call}", description="Calls whose answer is not quite what was asked"
        )

    def on_call_start(self, asked: CallStarted) -> OnCallEnd:
        """Take the time."""
        return partial(self._ended, asked, now())

    def _ended(self, asked: CallStarted, started: float, ranking: Ranking | None, error: BaseException | None) -> None:
        seconds, trace = now() - started, trace_of(ranking, error)
        call: dict[str, Any] = who(asked, trace) | tag_attributes(asked, self.tags)
        if ranking is not None:
            call["rag_rerank.scale"] = ranking.scale
        failed = {} if error is None else {"error.type": type(error).__name__}
        self._seconds.record(seconds, call | {"rag_rerank.inner": asked.inner} | failed)
        if asked.inner:
            return
        self._candidates.record(len(asked.candidates), call)
        if trace is not None:
            self._spent(trace.usage, call)
        if ranking is not None:
            self._answered(ranking, call)

    def _spent(self, usage: Usage, call: dict[str, Any]) -> None:
        """Count what a call cost, failed ones too."""
        for cached, texts in ((False, usage.texts), (True, usage.cached)):
            self._texts.add(texts, call | {"rag_rerank.cached": cached})
        for name, counter in (("tokens", self._tokens), ("cost", self._cost)):
            amount = getattr(usage, name)
            if amount is not None:
                counter.add(amount, call | {"rag_rerank.estimated": name in usage.estimated})

    def _answered(self, ranking: Ranking, call: dict[str, Any]) -> None:
        known = [hit.coverage.truncated for hit in ranking if hit.coverage is not None]
        for truncated in (False, True):
            if known:
                self._coverage.add(known.count(truncated), call | {"rag_rerank.truncated": truncated})
        if ranking.degraded:
            self._degraded.add(1, call | {"rag_rerank.substituted": ranking.substituted})
