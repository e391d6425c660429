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
from rag_rerank.errors import InputTooLong, RerankError
from rag_rerank.execution.clock import now
from rag_rerank.serving.decisions import DECISIONS
from rag_rerank.serving.failures import failure_body, retry_headers, status_of
from rag_rerank.serving.measurements import Measurements
from rag_rerank.serving.operations import Operations
from rag_rerank.serving.served_reranker import ServedReranker
from rag_rerank.serving.settings import UNAUTHORIZED, ServerSettings
from rag_rerank.serving.shapes import RELEVANCE, RerankBody, Shapes, answer_warnings, numbers
from rag_rerank.types import Ranking

if TYPE_CHECKING:
    from fastapi import FastAPI

__all__ = ["PATHS", "SYSTEMONE", "create_app"]

PATHS = ("/rerank", "/v1/rerank", "/v2/rerank", "/reranking", "/v1/reranking")
"""Where rankings are asked for; each takes every shape, because the body tells which it is."""

SYSTEMONE = "/v1/systemone"
"""Where decision models are asked, as typesafe-sdk and others ask them."""

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
    served = ServedReranker(reranker, settings or ServerSettings(), on_failure)
    measurements = Measurements(served, extra="serve")
    server = _Server(served, measurements)

    @asynccontextmanager
    async def lifespan(_app: Any) -> AsyncIterator[None]:
        async with served.running():
            yield

    app: FastAPI = fastapi.FastAPI(
        title="rag-rerank",
        version=__version__,
        summary=f"Rankings by {reranker.label}",
        lifespan=lifespan,
    )
    for path in PATHS:
        _add(app, path, partial(server.answer, path, RELEVANCE), "Order texts by their relevance to a query", RELEVANCE)
    _add(app, SYSTEMONE, partial(server.answer, SYSTEMONE, DECISIONS), "Answer whether texts are relevant", DECISIONS)
    for path, (get, summary) in Operations(served, measurements, extra="serve").paths.items():
        _add(app, path, get, summary)
    return app


def _add(app: Any, path: str, handle: Callable[..., Any], summary: str, shapes: Shapes | None = None) -> None:
    """Add a path; FastAPI reads the kind of a parameter from its annotation, which must be the class itself."""
    request_class = need("starlette.requests", extra="serve").Request

    async def endpoint(request: Any) -> Any:
        return await handle(request)

    endpoint.__annotations__ = {"request": request_class}
    if shapes is None:
        app.add_api_route(path, endpoint, summary=summary, response_model=None, methods=["GET"])
        return
    body = {"required": True, "content": {"application/json": {"schema": shapes.schema()}}}
    extra = {"requestBody": body}
    app.add_api_route(path, endpoint, summary=summary, response_model=None, methods=["POST"], openapi_extra=extra)


class _Server:
    """What the paths share."""

    def __init__(self, served: ServedReranker, measurements: Measurements) -> None:
        self._served = served
        self._measurements = measurements
        self._responses = need("starlette.responses", extra="serve")

    async def answer(self, path: str, shapes: Shapes, request: Any) -> Any:
        """Answer a request for a ranking; every error becomes a status and a body."""
        start, shape = now(), None
        id = request.headers.get("x-request-id", "")
        id = id if _SAFE_ID.fullmatch(id) else uuid.uuid4().hex
        headers = {"x-request-id": id}
        try:
            self._check_key(request)
            body = shapes.read(await self._body(request), max_texts=self._served.settings.max_texts)
            shape = body.shape
            self._check_model(body)
            ranking = await self._ranking(request, body)
            self._measurements.add_ranking(ranking)
            values, remarks = numbers(ranking, raw=body.raw_scores)
            warnings = answer_warnings(body, ranking, remarks)
            headers |= _headers(ranking, warnings)
            model = self._served.model_of(ranking)
            status, answer = 200, shapes.write(body, ranking, values, warnings, id=id, model=model)
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
        self._measurements.add_request(path, status, now() - start)
        return self._responses.JSONResponse(answer, status, headers)

    def _check_key(self, request: Any) -> None:
        if not self._served.settings.accepts_authorization(request.headers.get("authorization", "")):
            raise _Refusal(401, UNAUTHORIZED, {"WWW-Authenticate": "Bearer"})

    async def _body(self, request: Any) -> bytes:
        """Return the body, of which no more is read than a request may have."""
        most = self._served.settings.max_body_bytes
        parts, size = [], 0
        async for part in request.stream():
            size += len(part)
            if size > most:
                raise _Refusal(413, f"the body is larger than {most:,} bytes; send fewer or shorter texts")
            parts.append(part)
        return b"".join(parts)

    def _check_model(self, body: RerankBody) -> None:
        names = self._served.settings.model_names
        if names and body.model is not None and body.model not in names:
            raise _Refusal(404, f"no model {body.model!r:.80} here; there is {', '.join(names)}")

    async def _rank_in_place(self, body: RerankBody) -> Ranking:
        async with self._served.place():
            return await self._served.rank(body.query, body.texts, top_k=body.top_k, instruction=body.instruction)

    async def _ranking(self, request: Any, body: RerankBody) -> Ranking:
        """Rerank, and stop if the client hangs up."""
        work = asyncio.ensure_future(self._rank_in_place(body))
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
