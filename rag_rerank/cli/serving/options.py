"""Options that the servers share, and the way from them to settings and to a server that runs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import click

from rag_rerank._lazy import need
from rag_rerank.cli.options import COUNT

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from rag_rerank.serving import ServerSettings

__all__ = ["http_options", "limit_options", "run_application", "server_settings"]

_SECONDS: dict[str, Any] = {"show_default": True, "metavar": "SECONDS"}
_NUMBER: dict[str, Any] = {"show_default": True, "metavar": "N"}

_LIMITS = (
    click.option("--max-texts", type=COUNT, default=1_000, help="Most texts in a request.", **_NUMBER),
    click.option("--max-body-bytes", type=COUNT, default=20_000_000, help="Largest request.", **_NUMBER),
    click.option("--concurrency", type=COUNT, default=64, help="Requests at once.", **_NUMBER),
    click.option("--max-queue", type=click.IntRange(min=0), default=256, help="Requests that may wait.", **_NUMBER),
    click.option(
        "--timeout",
        type=click.FloatRange(min=0, min_open=True),
        default=60.0,
        help="Time for each request.",
        **_SECONDS,
    ),
)

_HTTP = (
    click.option("--host", default="127.0.0.1", show_default=True, metavar="HOST", help="The address to listen at."),
    click.option(
        "--key-variable",
        "key_variables",
        multiple=True,
        metavar="VAR",
        show_default="no key is asked for",
        help="The environment variable with a key that requests must bring. Repeatable.",
    ),
    click.option(
        "--drain-seconds",
        type=click.FloatRange(min=0),
        default=1.0,
        help="How long requests are still taken once the server is told to stop, while /ready answers 503.",
        **_SECONDS,
    ),
    click.option(
        "--shutdown-seconds",
        type=COUNT,
        default=30,
        help="How long running requests may take once the server is told to stop.",
        **_NUMBER,
    ),
)


def _with_options(options: tuple[Callable[..., Any], ...], command: Callable[..., None]) -> Callable[..., None]:
    for option in reversed(options):
        command = option(command)
    return command


def limit_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the limits of a server, by the names of the fields of `ServerSettings`."""
    return _with_options(_LIMITS, command)


def http_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command what a server over HTTP needs: its address, its keys, and how it stops."""
    return _with_options(_HTTP, command)


def server_settings(options: dict[str, Any], **more: Any) -> ServerSettings:
    """Return the settings for the values of `limit_options` and, if they are there, of `http_options`."""
    from rag_rerank.serving import ServerSettings

    names = {field.name for field in fields(ServerSettings)}
    limits = {name: value for name, value in options.items() if name in names}
    keys = tuple(f"${{{name}}}" for name in options.get("key_variables", ()))
    return ServerSettings(api_keys=keys, **limits, **more)


def run_application(
    create: Callable[[Callable[[], None]], Starlette], *, port: int, extra: str, options: dict[str, Any]
) -> None:
    """Run an ASGI application until SIGTERM or Ctrl-C, and let it answer what runs.

    Args:
        create: Returns the application; it gets a function to call if the reranker cannot be loaded. Where the
            application has ``state.finish``, that is awaited before the connections are closed.
        port: The port; 0 for any.
        extra: The extra that installs the server.
        options: The values of `http_options`.

    Raises:
        click.exceptions.Exit: With code 2, the server could not start.
    """
    import asyncio  # not needed for --help, and slow to load

    uvicorn = need("uvicorn", extra=extra)
    failures: list[bool] = []

    def stop() -> None:
        failures.append(True)
        server.should_exit = True

    application = create(stop)
    finish = getattr(application.state, "finish", None)

    class DrainingServer(uvicorn.Server):  # type: ignore[misc, name-defined]
        async def shutdown(self, sockets: Any = None) -> None:
            """Let requests that are on their way come in; uvicorn would close their connections unread."""
            application.state.draining = True
            await asyncio.sleep(0 if failures else options["drain_seconds"])
            if finish is not None:
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(finish(), options["shutdown_seconds"])
            await super().shutdown(sockets)

    config = uvicorn.Config(
        application,
        host=options["host"],
        port=port,
        access_log=False,
        ws="none",  # else the oldest uvicorn loads a package of web sockets, which warns
        timeout_graceful_shutdown=options["shutdown_seconds"],
    )
    server = DrainingServer(config)
    server.run()
    if failures or not server.started:
        raise click.exceptions.Exit(2)
