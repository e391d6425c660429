"""The paths for those who run a server: health, readiness, the reranker and its limits, figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from rag_rerank._lazy import need
from rag_rerank._version import __version__
from rag_rerank.serving.measurements import Measurements
from rag_rerank.serving.served_reranker import ServedReranker

__all__ = ["Operations"]


class Operations:
    """Answers to GET requests, which need no key.

    Args:
        served: The reranker and its limits.
        measurements: The figures for Prometheus.
        extra: The extra that installs what a server needs.
    """

    def __init__(self, served: ServedReranker, measurements: Measurements, *, extra: str) -> None:
        self._served = served
        self._measurements = measurements
        self._responses = need("starlette.responses", extra=extra)

    @property
    def paths(self) -> Mapping[str, tuple[Callable[[Any], Any], str]]:
        """Path -> its function, and what it is for."""
        return {
            "/health": (self.health, "Whether the process answers"),
            "/ready": (self.ready, "Whether the reranker is loaded"),
            "/info": (self.info, "The reranker and its limits, with the fields that TEI has"),
            "/v1/models": (self.models, "The names of models"),
            "/metrics": (self.metrics, "Figures for Prometheus"),
        }

    async def health(self, _request: Any) -> Any:
        """Answer that the process runs."""
        return self._responses.JSONResponse({"status": "ok"})

    async def ready(self, request: Any) -> Any:
        """Answer 200 once the reranker is loaded, and 503 before, and when the server is about to stop."""
        state = "stopping" if getattr(request.app.state, "draining", False) else self._served.state
        if state == "ready":
            return self._responses.JSONResponse({"status": state})
        return self._responses.JSONResponse({"status": state}, 503, {"Retry-After": "1"})

    async def info(self, _request: Any) -> Any:
        """Return what clients ask a server before their first request."""
        settings = self._served.settings
        return self._responses.JSONResponse(
            {
                "model_id": self._names[0],
                "model_type": {"reranker": {"id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}}},
                "scale": self._served.reranker.scale,
                "max_client_batch_size": settings.max_texts,
                "max_concurrent_requests": settings.concurrency + settings.max_queue,
                "version": __version__,
            }
        )

    async def models(self, _request: Any) -> Any:
        """Return the models as OpenAI's API lists them, and as System One does."""
        label = self._served.reranker.label
        data = [{"id": name, "object": "model", "owned_by": "rag-rerank"} for name in self._names]
        models = [{"name": name, "description": f"Relevance by {label}", "release_date": ""} for name in self._names]
        return self._responses.JSONResponse({"object": "list", "data": data, "models": models})

    @property
    def _names(self) -> tuple[str, ...]:
        return self._served.settings.model_names or (self._served.reranker.label,)

    async def metrics(self, _request: Any) -> Any:
        """Return the figures for Prometheus."""
        return self._responses.Response(self._measurements.text(), media_type=self._measurements.content_type)
