"""The figures that ``/metrics`` shows, in the text format of Prometheus."""

from __future__ import annotations

from typing import Any

from rag_rerank._lazy import need
from rag_rerank.serving.admission import Admission
from rag_rerank.types import Ranking

__all__ = ["Measurements"]

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Measurements:
    """Counts and times of one server, in a registry of its own."""

    def __init__(self, admission: Admission) -> None:
        prometheus = need("prometheus_client", extra="serve")
        self._write = prometheus.generate_latest
        self.content_type: str = prometheus.CONTENT_TYPE_LATEST
        self._registry = prometheus.CollectorRegistry()
        self._requests = self._counter(prometheus, "requests", "Requests for a ranking", "status")
        self._texts = self._counter(prometheus, "texts", "Texts of answered requests")
        self._tokens = self._counter(prometheus, "tokens", "Tokens that models read")
        self._cost = self._counter(prometheus, "cost_dollars", "US dollars, where prices are known")
        self._degraded = self._counter(prometheus, "degraded", "Answers that are not quite what was asked for")
        self._seconds = prometheus.Histogram(
            "rag_rerank_request_seconds",
            "Time from the first byte of a request to its answer",
            buckets=_SECONDS,
            registry=self._registry,
        )
        for name, help, value in (
            ("rag_rerank_running", "Requests that are being reranked", lambda: admission.running),
            ("rag_rerank_waiting", "Requests that wait for a place", lambda: admission.waiting),
        ):
            prometheus.Gauge(name, help, registry=self._registry).set_function(value)

    def _counter(self, prometheus: Any, name: str, help: str, *labels: str) -> Any:
        return prometheus.Counter(f"rag_rerank_{name}", help, labels, registry=self._registry)

    def add_request(self, status: int, seconds: float) -> None:
        """Count an answered request."""
        self._requests.labels(str(status)).inc()
        self._seconds.observe(seconds)

    def add_ranking(self, ranking: Ranking) -> None:
        """Count what a ranking took."""
        self._texts.inc(len(ranking))
        self._tokens.inc(ranking.usage.tokens or 0)
        self._cost.inc(ranking.usage.cost or 0)
        self._degraded.inc(bool(ranking.degraded))

    def text(self) -> bytes:
        """Return all figures as Prometheus reads them."""
        page: bytes = self._write(self._registry)
        return page
