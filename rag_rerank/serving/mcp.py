"""A server of the Model Context Protocol (https://modelcontextprotocol.io) with the tools ``rerank`` and ``pack``."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import CancelledError
from contextlib import asynccontextmanager, suppress
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any

from rag_rerank._lazy import need
from rag_rerank._version import __version__
from rag_rerank.base import Reranker
from rag_rerank.context import Packing
from rag_rerank.errors import RerankError, did_you_mean
from rag_rerank.execution.clock import now
from rag_rerank.execution.deadline import arun_in_thread
from rag_rerank.serving.failures import retry_headers, status_of
from rag_rerank.serving.mcp_tools import ToolArguments, describe_tools, pack_answer, rank_answer, read_arguments
from rag_rerank.serving.measurements import Measurements
from rag_rerank.serving.operations import Operations
from rag_rerank.serving.served_reranker import ServedReranker
from rag_rerank.serving.settings import UNAUTHORIZED, ServerSettings
from rag_rerank.text.tokenizers import Tokenizer, tokens
from rag_rerank.types import Ranking

if TYPE_CHECKING:
    from mcp.server.lowlevel import Server
    from starlette.applications import Starlette

__all__ = ["LOOPBACK", "MCP_PATH", "create_mcp_app", "create_mcp_server", "serve_stdio"]

MCP_PATH = "/mcp"
"""Where an MCP client connects over HTTP."""

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
"""The names of this machine, for itself."""

_logger = logging.getLogger("rag_rerank.serving")

_INSTRUCTIONS = (
    "Call rerank to order texts that you have by their relevance to a question, and pack to get the relevant ones as "
    "one text within a number of tokens. Both only read the texts that you send."
)


def create_mcp_server(
    reranker: Reranker, settings: ServerSettings | None = None, *, tokenizer: Tokenizer | None = None
) -> Server[None]:
    """Return a server of the official SDK with the tools ``rerank`` and ``pack``.

    The reranker is warmed up when the server starts, and closed when it ends. A call waits until it is warm.

    Args:
        reranker: What answers every call.
        settings: Limits; keys and names of models have no meaning here.
        tokenizer: What counts the tokens of ``pack``, as in `Packing`; without it they are estimated.

    Raises:
        MissingExtraError: The SDK is not installed: ``pip install "rag-rerank[mcp]"``.
        ConfigError: The tokenizer is unknown.
        ModelLoadError: The tokenizer's file cannot be loaded.
    """
    return _Tools(ServedReranker(reranker, settings or ServerSettings()), tokenizer).server()


async def serve_stdio(server: Server[None]) -> None:
    """Serve one client over standard input and output until it closes them, or until this is cancelled.

    Only the protocol is written to standard output: what else is printed there goes to standard error. Nothing else
    reads standard input.
    """
    stdio = need("mcp.server.stdio", extra="mcp")
    async with stdio.stdio_server(stdin=_lines_of_stdin()) as (read_stream, write_stream):
        await server.run(read_stream, write_stream, server.create_initialization_options())


async def _lines_of_stdin() -> AsyncIterator[str]:
    """Yield the lines of standard input, which a thread of its own reads.

    The thread is left behind where it waits for a line that never comes: the SDK's own reader would keep the process
    alive until the client closes standard input, also after Ctrl-C.
    """
    loop, lines = asyncio.get_running_loop(), asyncio.Queue[str](maxsize=1)
    descriptor, nothing = os.dup(sys.stdin.fileno()), os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, sys.stdin.fileno())
    os.close(nothing)

    def read() -> None:
        with (
            suppress(RuntimeError, CancelledError),
            os.fdopen(descriptor, encoding="utf-8", errors="replace") as stream,
        ):
            for line in chain(stream, [""]):
                asyncio.run_coroutine_threadsafe(lines.put(line), loop).result()

    threading.Thread(target=read, name="rag-rerank mcp stdin", daemon=True).start()
    while line := await lines.get():
        yield line


def create_mcp_app(
    reranker: Reranker,
    settings: ServerSettings | None = None,
    *,
    tokenizer: Tokenizer | None = None,
    allowed_hosts: Sequence[str] = LOOPBACK,
    allowed_origins: Sequence[str] = (),
    on_failure: Callable[[], None] | None = None,
) -> Starlette:
    """Return an ASGI application that serves MCP clients over HTTP, at ``/mcp``.

    ``/health``, ``/ready``, ``/info``, ``/v1/models`` and ``/metrics`` are those of `create_app`, and need no key.
    To stop it without losing an answer, await ``app.state.finish()`` before the connections are closed, as
    ``rag-rerank mcp`` does: it waits for the calls that run, and then ends the streams of idle clients.

    Args:
        reranker: What answers every call.
        settings: Keys and limits.
        tokenizer: What counts the tokens of ``pack``, as in `Packing`; without it they are estimated.
        allowed_hosts: The names that clients may call this server by, with any port. A request with another ``Host``
            header is refused, so that no web page can reach the server under a name of its own (DNS rebinding).
        allowed_origins: The origins (``https://example.com``) whose web pages may call the server, besides those of the
            allowed hosts.
        on_failure: Called if the reranker cannot be warmed up.

    Raises:
        MissingExtraError: The SDK or prometheus-client is not installed: ``pip install "rag-rerank[mcp]"``.
        ConfigError: The tokenizer is unknown.
        ModelLoadError: The tokenizer's file cannot be loaded.
    """
    security = need("mcp.server.transport_security", extra="mcp")
    routing = need("starlette.routing", extra="mcp")
    served = ServedReranker(reranker, settings or ServerSettings(), on_failure)
    measurements = Measurements(served, extra="mcp")
    operations = Operations(served, measurements, extra="mcp")
    origins = [f"{scheme}://{host}" for host in allowed_hosts for scheme in ("http", "https")]
    app: Starlette = (
        _Tools(served, tokenizer, measurements)
        .server()
        .streamable_http_app(
            streamable_http_path=MCP_PATH,
            max_request_body_size=served.settings.max_body_bytes,
            transport_security=security.TransportSecuritySettings(
                allowed_hosts=_with_any_port(allowed_hosts),
                allowed_origins=_with_any_port([*origins, *allowed_origins]),
            ),
            custom_starlette_routes=[
                routing.Route(path, get, methods=["GET"]) for path, (get, _) in operations.paths.items()
            ],
        )
    )
    app.add_middleware(_KeyCheck, settings=served.settings, open_paths=frozenset(operations.paths))
    streams = need("sse_starlette.sse", extra="mcp").AppStatus
    streams.disable_automatic_graceful_drain()  # else sse-starlette ends all streams at SIGTERM, also of running calls

    async def end_streams() -> None:
        await served.admission.wait_until_idle()
        await asyncio.sleep(0.5)  # the last answers are written
        streams.should_exit = True

    app.state.finish = end_streams
    return app


def _with_any_port(names: Sequence[str]) -> list[str]:
    return [form for name in names for form in (name, f"{name}:*")]


class _KeyCheck:
    """Middleware of an ASGI application: nothing but the open paths without a key."""

    def __init__(self, app: Any, settings: ServerSettings, open_paths: frozenset[str]) -> None:
        self._app = app
        self._settings = settings
        self._open_paths = open_paths
        self._responses = need("starlette.responses", extra="mcp")

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and scope["path"] not in self._open_paths:
            header = dict(scope["headers"]).get(b"authorization", b"").decode("latin-1")
            if not self._settings.accepts_authorization(header):
                headers = {"WWW-Authenticate": "Bearer"}
                await self._responses.JSONResponse({"error": UNAUTHORIZED}, 401, headers)(scope, receive, send)
                return
        await self._app(scope, receive, send)


class _Tools:
    """What the tools share."""

    def __init__(
        self, served: ServedReranker, tokenizer: Tokenizer | None, measurements: Measurements | None = None
    ) -> None:
        self._types = need("mcp_types", extra="mcp")
        self._mcp_error = need("mcp.shared.exceptions", extra="mcp").MCPError
        self._served = served
        self._measurements = measurements
        self._count_tokens = None if tokenizer is None else tokens(tokenizer).count
        descriptions = describe_tools(served.reranker, served.settings)
        self._tools = [self._types.Tool.model_validate(description) for description in descriptions]
        self._calls = {"rerank": self._rerank, "pack": self._pack}

    def server(self) -> Server[None]:
        """Return a server with these tools."""

        @asynccontextmanager
        async def lifespan(_server: Any) -> AsyncIterator[None]:
            async with self._served.running():
                yield

        server: Server[None] = need("mcp.server.lowlevel", extra="mcp").Server(
            "rag-rerank",
            version=__version__,
            title=f"Reranking by {self._served.reranker.label}",
            instructions=_INSTRUCTIONS,
            lifespan=lifespan,
            on_list_tools=self._list,
            on_call_tool=self._call,
        )
        return server

    async def _list(self, _context: Any, _params: Any) -> Any:
        return self._types.ListToolsResult(tools=self._tools)

    async def _call(self, _context: Any, params: Any) -> Any:
        """Call a tool; every error becomes an answer that says so, except that there is no such tool."""
        name, start, status = params.name, now(), 499
        if name not in self._calls:
            hint = did_you_mean(name, self._calls)
            raise self._mcp_error(self._types.INVALID_PARAMS, f"there is no tool {name!r:.60}{hint}")
        try:
            data, texts = await self._calls[name](params.arguments or {})
            status = 200
            return self._answer(texts, structured_content=data)
        except RerankError as error:
            status = status_of(error)
            _logger.log(logging.ERROR if status >= 500 else logging.INFO, "%s: %s", name, error)
            wait = retry_headers(error).get("Retry-After")
            words = [" ".join(str(error).split()), f"Try again in {wait} s." if wait else "", error.url]
            return self._answer(["\n".join(filter(None, words))], is_error=True)
        except Exception:  # a defect here or in a plugin: the client learns where to look, and no details
            id, status = uuid.uuid4().hex, 500
            _logger.exception("%s: call %s", name, id)
            return self._answer([f"internal error; see the server's log for {id}"], is_error=True)
        finally:
            if self._measurements is not None:
                self._measurements.add_request(f"{MCP_PATH} {name}", status, now() - start)

    def _answer(self, texts: Sequence[str], **fields: Any) -> Any:
        content = [self._types.TextContent(type="text", text=text) for text in texts]
        return self._types.CallToolResult(content=content, **fields)

    async def _rerank(self, fields: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
        arguments = read_arguments("rerank", fields, self._served.settings)
        async with self._served.place():
            ranking = await self._ranking(arguments, arguments.body.top_k)
        return rank_answer(arguments, ranking, model=self._served.model_of(ranking))

    async def _pack(self, fields: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
        arguments = read_arguments("pack", fields, self._served.settings)
        packing = Packing.from_dict({"tokenizer": self._count_tokens, **arguments.packing})
        async with self._served.place():
            ranking = await self._ranking(arguments, None)
            context = await arun_in_thread(partial(packing.pack, ranking))
        return pack_answer(arguments, ranking, context, model=self._served.model_of(ranking))

    async def _ranking(self, arguments: ToolArguments, top_k: int | None) -> Ranking:
        body = arguments.body
        ranking = await self._served.rank(body.query, arguments.candidates, top_k=top_k, instruction=body.instruction)
        if self._measurements is not None:
            self._measurements.add_ranking(ranking)
        return ranking
