"""The figures that ``/metrics`` shows, in the text format of Prometheus."""

from __future__ import annotations

from typing import Any

from rag_rerank._lazy import need
from rag_rerank._version import __version__
from rag_rerank.serving.served_reranker import ServedReranker
from rag_rerank.types import Ranking

__all__ = ["Measurements"]

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Measurements:
    """Counts and times of one server, in a registry of its own.

    Args:
        served: The reranker and its places.
        extra: The extra that installs what a server needs.
    """

    def __init__(self, served: ServedReranker, *, extra: str) -> None:
        prometheus = need("prometheus_client", extra=extra)
        self._write = prometheus.generate_latest
        self.content_type: str = prometheus.CONTENT_TYPE_LATEST
        self._registry = prometheus.CollectorRegistry()
        self._requests = self._counter(prometheus, "requests", "Requests for a ranking", "route", "status")
        self._texts = self._counter(prometheus, "texts", "Texts of answered requests")
        self._cached = self._counter(prometheus, "cached_texts", "Texts whose score came from a cache")
        self._unscored = self._counter(prometheus, "unscored_texts", "Texts in answers that got no score")
        self._cut = self._counter(prometheus, "cut_texts", "Texts in answers of which only the beginning was read")
        self._tokens = self._counter(prometheus, "tokens", "Tokens that models read")
        self._cost = self._counter(prometheus, "cost_dollars", "US dollars, where prices are known")
        self._degraded = self._counter(prometheus, "degraded", "Answers that are not quite what was asked for")
        self._seconds = prometheus.Histogram(
            "rag_rerank_request_seconds",
            "Time from the first byte of a request to its answer",
            ["route"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        admission, settings = served.admission, served.settings
        for name, help, value in (
            ("running", "Requests that are being reranked", lambda: admission.running),
            ("waiting", "Requests that wait for a place", lambda: admission.waiting),
            ("ready", "1 once the reranker is loaded, else 0", lambda: served.state == "ready"),
            ("concurrency", "How many requests are reranked at once at most", lambda: settings.concurrency),
            ("max_queue", "How many requests may wait", lambda: settings.max_queue),
        ):
            prometheus.Gauge(f"rag_rerank_{name}", help, registry=self._registry).set_function(value)
        facts = {"version": __version__, "reranker": served.reranker.label, "scale": served.reranker.scale}
        prometheus.Info("rag_rerank", "What is served", registry=self._registry).info(facts)
        prometheus.ProcessCollector(registry=self._registry)

    def _counter(self, prometheus: Any, name: str, help: str, *labels: str) -> Any:
        return prometheus.Counter(f"rag_rerank_{name}", help, labels, registry=self._registry)

    def add_request(self, route: str, status: int, seconds: float) -> None:
        """Count an answered request."""
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def add_ranking(self, ranking: Ranking) -> None:
        """Count what a ranking took."""
        usage = ranking.usage
        self._texts.inc(len(ranking if ranking.origin is None else ranking.origin.ids))
        self._cached.inc(usage.cached)
        self._unscored.inc(sum(hit.score is None for hit in ranking))
        self._cut.inc(sum(hit.coverage is not None and hit.coverage.truncated for hit in ranking))
        self._tokens.inc(usage.tokens or 0)
        self._cost.inc(usage.cost or 0)
        self._degraded.inc(bool(ranking.degraded))

    def text(self) -> bytes:
        """Return all figures as Prometheus reads them."""
        page: bytes = self._write(self._registry)
        return page
