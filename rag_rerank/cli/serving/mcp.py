"""``rag-rerank mcp``: give any reranker to the MCP clients of agents, as tools."""

from __future__ import annotations

import contextlib
from collections.abc import Coroutine
from typing import Any

import click
from click.core import ParameterSource

from rag_rerank._lazy import need
from rag_rerank.cli.options import reranker_option
from rag_rerank.cli.output import example
from rag_rerank.cli.serving.options import http_options, limit_options, run_application, server_settings
from rag_rerank.config import build

__all__ = ["mcp"]

_HTTP_ONLY = ("host", "allowed_hosts", "allowed_origins", "key_variables", "drain_seconds", "shutdown_seconds")


@click.command(
    short_help="Give any reranker to agents, as tools of an MCP server.",
    epilog=example("mcp -r embedded", "mcp -c both.yaml --port 8081 --key-variable MCP_KEY"),
)
@reranker_option
@click.option(
    "--tokenizer",
    metavar="NAME|FILE",
    show_default="estimated",
    help="Count tokens with this tokenizer: a name of tiktoken (o200k_base), or a tokenizer.json.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    metavar="N",
    show_default="standard input and output",
    help="Serve over HTTP at this port; 0 for any.",
)
@click.option(
    "--allowed-host",
    "allowed_hosts",
    multiple=True,
    metavar="HOST",
    show_default="this machine",
    help="Another name that clients call this server by. Repeatable.",
)
@click.option(
    "--allowed-origin",
    "allowed_origins",
    multiple=True,
    metavar="URL",
    help="An origin whose web pages may call this server. Repeatable.",
)
@limit_options
@http_options
@click.pass_context
def mcp(
    ctx: click.Context,
    /,
    spec: str,
    tokenizer: str | None,
    port: int | None,
    allowed_hosts: tuple[str, ...],
    allowed_origins: tuple[str, ...],
    **options: Any,
) -> None:
    """Serve the tools rerank and pack over the Model Context Protocol.

    Without --port, one client starts this command and speaks to it over standard input and output. With --port, any
    number of clients connect over HTTP, at the path /mcp; /health, /ready and /metrics are for those who run it.

    The command ends when its client closes standard input, or, with --port, at SIGTERM or Ctrl-C.
    """
    import asyncio

    need("mcp", extra="mcp")
    from rag_rerank.serving import create_mcp_app, create_mcp_server, serve_stdio
    from rag_rerank.serving.mcp import LOOPBACK

    if port is None:
        _refuse_http_options(ctx)
    settings = server_settings(options)
    if port is None:
        asyncio.run(_until_terminated(serve_stdio(create_mcp_server(build(spec), settings, tokenizer=tokenizer))))
        return
    reranker = build(spec)
    run_application(
        lambda stop: create_mcp_app(
            reranker,
            settings,
            tokenizer=tokenizer,
            allowed_hosts=(*LOOPBACK, options["host"], *allowed_hosts),
            allowed_origins=allowed_origins,
            on_failure=stop,
        ),
        port=port,
        extra="mcp",
        options=options,
    )


async def _until_terminated(work: Coroutine[Any, Any, None]) -> None:
    """Wait for work; at SIGTERM cancel it, so that the reranker is closed.

    Raises:
        click.exceptions.Exit: With code 143, it was cancelled so.
    """
    import asyncio
    import signal

    task, terminated = asyncio.ensure_future(work), asyncio.Event()

    def terminate() -> None:
        terminated.set()
        task.cancel()

    with contextlib.suppress(NotImplementedError):  # Windows has no such handlers; it ends a process at once
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, terminate)
    try:
        await task
    except asyncio.CancelledError:
        if terminated.is_set():
            raise click.exceptions.Exit(143) from None
        raise


def _refuse_http_options(ctx: click.Context) -> None:
    """Raise a usage error for an option that has no meaning without a port."""
    for parameter in ctx.command.params:
        name = str(parameter.name)
        if name in _HTTP_ONLY and ctx.get_parameter_source(name) == ParameterSource.COMMANDLINE:
            raise click.UsageError(f"{parameter.opts[0]} needs --port: without it, nobody else can connect")
