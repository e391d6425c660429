"""The ASGI application: its paths, and the way of a request through keys, limits, the reranker and back."""

from __future__ import annotations

import asyncio
import logging
import re
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from rag_rerank._lazy import need
from rag_rerank._version import __version__
from rag_rerank.base import Reranker
from rag_rerank.errors import InputError, InputTooLong, RerankError
from rag_rerank.execution.clock import now
from rag_rerank.execution.deadline import arun_in_thread
from rag_rerank.serving.admission import Admission
from rag_rerank.serving.failures import failure_body, retry_headers, status_of
from rag_rerank.serving.measurements import Measurements
from rag_rerank.serving.settings import ServerSettings
from rag_rerank.serving.shapes import RerankBody, answer_warnings, body_schema, numbers, read_body, write_answer
from rag_rerank.types import Ranking

if TYPE_CHECKING:
    from fastapi import FastAPI

__all__ = ["PATHS", "create_app"]

PATHS = ("/rerank", "/v1/rerank", "/v2/rerank", "/reranking", "/v1/reranking")
"""Where rankings are asked for; each takes every shape, because the body tells which it is."""

_logger = logging.getLogger("rag_rerank.serving")

_HEADER_LENGTH = 1_000
"""Characters of the warnings in a header; a body has them whole."""

_SAFE_ID = re.compile(r"[\w.:-]{1,128}")


class _Refusal(Exception):
    """A request that is answered before anything is reranked."""

    def __init__(self, status: int, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers or {}


def create_app(
    reranker: Reranker, settings: ServerSettings | None = None, *, on_failure: Callable[[], None] | None = None
) -> FastAPI:
    """Return an ASGI application that serves a reranker.

    The reranker is warmed up when the application starts, and closed when it ends. Until it is warm ``/ready`` answers
    503, and requests wait.

    Args:
        reranker: What answers every request.
        settings: Keys and limits.
        on_failure: Called if the reranker cannot be warmed up. The error itself is logged, and each request gets it.

    Raises:
        MissingExtraError: FastAPI or prometheus-client is not installed: ``pip install "rag-rerank[serve]"``.
    """
    fastapi = need("fastapi", extra="serve")
    server = _Server(reranker, settings or ServerSettings(), on_failure)
    app: FastAPI = fastapi.FastAPI(
        title="rag-rerank",
        version=__version__,
        summary=f"Rankings by {reranker.label}",
        lifespan=server.lifespan,
    )
    body = {"required": True, "content": {"application/json": {"schema": body_schema()}}}
    for path in PATHS:
        _add(app, path, server.rerank, "Order texts by their relevance to a query", openapi_extra={"requestBody": body})
    for path, get, summary in (
        ("/health", server.health, "Whether the process answers"),
        ("/ready", server.ready, "Whether the reranker is loaded"),
        ("/info", server.info, "The reranker and its limits, with the fields that TEI has"),
        ("/v1/models", server.models, "The names of models"),
        ("/metrics", server.metrics, "Figures for Prometheus"),
    ):
        _add(app, path, get, summary, methods=["GET"])
    return app


def _add(app: Any, path: str, handle: Callable[..., Any], summary: str, **options: Any) -> None:
    """Add a path; FastAPI reads the kind of a parameter from its annotation, which must be the class itself."""
    request_class = need("starlette.requests", extra="serve").Request

    async def endpoint(request: Any) -> Any:
        return await handle(request)

    endpoint.__annotations__ = {"request": request_class}
    app.add_api_route(path, endpoint, summary=summary, response_model=None, **{"methods": ["POST"], **options})


class _Server:
    """What the paths share."""

    def __init__(self, reranker: Reranker, settings: ServerSettings, on_failure: Callable[[], None] | None) -> None:
        self._reranker = reranker
        self._settings = settings
        self._on_failure = on_failure
        self._admission = Admission(settings.concurrency, settings.max_queue)
        self._measurements = Measurements(self._admission)
        self._responses = need("fastapi.responses", extra="serve")
        self._warm: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def lifespan(self, _app: Any) -> AsyncIterator[None]:
        """Warm the reranker up at the start, and close it at the end."""
        self._warm = asyncio.create_task(self._warm_up())
        try:
            yield
        finally:
            await asyncio.wait([self._warm])
            await self._reranker.aclose()

    async def _warm_up(self) -> None:
        try:
            await arun_in_thread(self._reranker.warm_up)
        except RerankError as error:
            _logger.error("%s cannot be loaded: %s", self._reranker.label, error)
            if self._on_failure is not None:
                self._on_failure()
            raise

    async def rerank(self, request: Any) -> Any:
        """Answer a request for a ranking; every error becomes a status and a body."""
        start, shape = now(), None
        id = request.headers.get("x-request-id", "")
        id = id if _SAFE_ID.fullmatch(id) else uuid.uuid4().hex
        headers = {"x-request-id": id}
        try:
            self._check_key(request)
            body = read_body(await self._body(request), max_texts=self._settings.max_texts)
            shape = body.shape
            self._check_model(body)
            ranking = await self._ranking(request, body)
            self._measurements.add_ranking(ranking)
            values, remarks = numbers(ranking, raw=body.raw_scores)
            warnings = answer_warnings(body, ranking, remarks)
            headers |= _headers(ranking, warnings)
            model = self._model_of(ranking)
            status, answer = 200, write_answer(body, ranking, values, warnings, id=id, model=model)
        except _Refusal as refusal:
            status, answer = refusal.status, failure_body(str(refusal), refusal.status, shape=shape)
            headers |= refusal.headers
        except RerankError as error:
            status = status_of(error)
            _logger.log(logging.ERROR if status >= 500 else logging.INFO, "request %s: %s", id, error)
            answer = failure_body(" ".join(str(error).split()), status, shape=shape)
            headers |= retry_headers(error)
        except Exception:  # a defect here or in a plugin: the client learns where to look, and no details
            _logger.exception("request %s", id)
            status, answer = 500, failure_body(f"internal error; see the server's log for {id}", 500, shape=shape)
        self._measurements.add_request(status, now() - start)
        return self._responses.JSONResponse(answer, status, headers)

    def _check_key(self, request: Any) -> None:
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        if not self._settings.accepts_key(key.strip() if scheme.lower() == "bearer" else ""):
            raise _Refusal(401, "no or a wrong key; send Authorization: Bearer KEY", {"WWW-Authenticate": "Bearer"})

    async def _body(self, request: Any) -> bytes:
        """Return the body, of which no more is read than a request may have."""
        most = self._settings.max_body_bytes
        parts, size = [], 0
        async for part in request.stream():
            size += len(part)
            if size > most:
                raise _Refusal(413, f"the body is larger than {most:,} bytes; send fewer or shorter texts")
            parts.append(part)
        return b"".join(parts)

    def _check_model(self, body: RerankBody) -> None:
        names = self._settings.model_names
        if names and body.model is not None and body.model not in names:
            raise _Refusal(404, f"no model {body.model!r:.80} here; there is {', '.join(names)}")

    async def _ranking(self, request: Any, body: RerankBody) -> Ranking:
        """Rerank as soon as there is a place, and stop if the client hangs up."""
        if not body.texts:
            raise InputError(f"{body.shape} is empty; send at least one text")
        if body.instruction is not None and not self._reranker.takes_instruction:
            raise InputError(f"{self._reranker.label} takes no instruction; leave it out")
        async with self._admission.place():
            assert self._warm is not None
            await asyncio.shield(self._warm)
            rerank = partial(self._reranker.arerank, body.query, body.texts, top_k=body.top_k)
            work = asyncio.ensure_future(rerank(timeout=self._settings.timeout, instruction=body.instruction))
            hang_up = asyncio.ensure_future(_wait_for_hang_up(request))
            try:
                await asyncio.wait([work, hang_up], return_when=asyncio.FIRST_COMPLETED)
                if not work.done():
                    raise _Refusal(499, "the client closed the connection")
                ranking = await work
            finally:
                work.cancel()
                hang_up.cancel()
        cut = [hit.id for hit in ranking if hit.coverage is not None and hit.coverage.truncated]
        if cut and body.refuses_cuts:
            raise InputTooLong(
                f"{body.shape}[{cut[0]}] and {len(cut) - 1} others are longer than the model reads; cut them, or let "
                "them be cut (truncate)"
            )
        return ranking

    def _model_of(self, ranking: Ranking) -> str:
        """Return the name of the model that answered: the one that is served, or what took its place."""
        if ranking.substituted or not self._settings.model_names:
            models = [step.model for step in ranking.trace.walk() if step.model]
            return models[-1] if models else ranking.trace.step
        return self._settings.model_names[0]

    async def health(self, _request: Any) -> Any:
        """Answer that the process runs."""
        return self._responses.JSONResponse({"status": "ok"})

    async def ready(self, request: Any) -> Any:
        """Answer 200 once the reranker is loaded, and 503 before, and when the server is about to stop."""
        draining = getattr(request.app.state, "draining", False)
        warm = self._warm is not None and self._warm.done()
        if not draining and warm and self._warm is not None and self._warm.exception() is None:
            return self._responses.JSONResponse({"status": "ready"})
        state = "stopping" if draining else "failed" if warm else "loading"
        return self._responses.JSONResponse({"status": state}, 503, {"Retry-After": "1"})

    async def info(self, _request: Any) -> Any:
        """Return what clients ask a server before their first request."""
        return self._responses.JSONResponse(
            {
                "model_id": (self._settings.model_names or (self._reranker.label,))[0],
                "model_type": {"reranker": {"id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}}},
                "scale": self._reranker.scale,
                "max_client_batch_size": self._settings.max_texts,
                "max_concurrent_requests": self._settings.concurrency + self._settings.max_queue,
                "version": __version__,
            }
        )

    async def models(self, _request: Any) -> Any:
        """Return the models as OpenAI's API lists them."""
        names = self._settings.model_names or (self._reranker.label,)
        data = [{"id": name, "object": "model", "owned_by": "rag-rerank"} for name in names]
        return self._responses.JSONResponse({"object": "list", "data": data})

    async def metrics(self, _request: Any) -> Any:
        """Return the figures for Prometheus."""
        return self._responses.Response(self._measurements.text(), media_type=self._measurements.content_type)


def _headers(ranking: Ranking, warnings: Sequence[str]) -> dict[str, str]:
    """Return the facts of an answer that not every shape has a place for."""
    headers = {"x-rerank-scale": str(ranking.scale)}
    if ranking.usage.tokens is not None:
        headers["x-compute-tokens"] = str(ranking.usage.tokens)
    if warnings:
        words = " ".join("; ".join(warnings).split())
        headers["x-rerank-warnings"] = words.encode("ascii", "backslashreplace").decode()[:_HEADER_LENGTH]
    return headers


async def _wait_for_hang_up(request: Any) -> None:
    """Return when the client closes the connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
