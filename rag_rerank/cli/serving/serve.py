"""``rag-rerank serve``: answer the clients of rerank APIs with any reranker."""

from __future__ import annotations

from typing import Any

import click

from rag_rerank._lazy import need
from rag_rerank.cli.options import COUNT, reranker_option
from rag_rerank.cli.output import example
from rag_rerank.config import build

__all__ = ["serve"]


@click.command(
    short_help="Answer the clients of rerank APIs with any reranker.",
    epilog=example("serve -r embedded --port 8080", "serve -c both.yaml --host 0.0.0.0 \\\n--key-variable SERVER_KEY"),
)
@reranker_option
@click.option("--host", default="127.0.0.1", show_default=True, metavar="HOST", help="The address to listen at.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8080, show_default=True, metavar="N", help="The port; 0 for any."
)
@click.option(
    "--key-variable",
    "key_variables",
    multiple=True,
    metavar="VAR",
    show_default="no key is asked for",
    help="The environment variable with a key that requests must bring. Repeatable.",
)
@click.option(
    "--model-name",
    "model_names",
    multiple=True,
    metavar="NAME",
    show_default="any",
    help="A name of a model that requests may ask for; others are refused. Repeatable.",
)
@click.option("--max-texts", type=COUNT, default=1_000, show_default=True, metavar="N", help="Most texts in a request.")
@click.option(
    "--max-body-bytes", type=COUNT, default=20_000_000, show_default=True, metavar="N", help="Largest request."
)
@click.option("--concurrency", type=COUNT, default=64, show_default=True, metavar="N", help="Requests at once.")
@click.option(
    "--max-queue",
    type=click.IntRange(min=0),
    default=256,
    show_default=True,
    metavar="N",
    help="Requests that may wait.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="Time for each request.",
)
@click.option(
    "--drain-seconds",
    type=click.FloatRange(min=0),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="How long requests are still taken once the server is told to stop, while /ready answers 503.",
)
@click.option(
    "--shutdown-seconds",
    type=COUNT,
    default=30,
    show_default=True,
    metavar="N",
    help="How long running requests may take once the server is told to stop.",
)
def serve(
    spec: str,
    host: str,
    port: int,
    key_variables: tuple[str, ...],
    model_names: tuple[str, ...],
    max_texts: int,
    max_body_bytes: int,
    concurrency: int,
    max_queue: int,
    timeout: float,
    drain_seconds: float,
    shutdown_seconds: int,
) -> None:
    """Serve a reranker over HTTP, for programs that speak to a rerank API.

    The paths /rerank, /v1/rerank, /v2/rerank and /reranking take requests as clients of Cohere, Jina, vLLM, Voyage,
    Mixedbread and Text Embeddings Inference write them. /health, /ready, /info and /metrics are for those who run it,
    and /docs describes the API.

    The server stops at SIGTERM or Ctrl-C: /ready answers 503, requests are taken for a moment more, those that run are
    answered, and the reranker is closed.
    """
    import asyncio  # not needed for --help, and slow to load

    need("fastapi", extra="serve")
    uvicorn = need("uvicorn", extra="serve")
    from rag_rerank.serving import ServerSettings, create_app

    settings = ServerSettings(
        api_keys=tuple(f"${{{name}}}" for name in key_variables),
        model_names=model_names,
        max_texts=max_texts,
        max_body_bytes=max_body_bytes,
        concurrency=concurrency,
        max_queue=max_queue,
        timeout=timeout,
    )
    reranker = build(spec)
    failures: list[bool] = []

    def stop() -> None:
        failures.append(True)
        server.should_exit = True

    application = create_app(reranker, settings, on_failure=stop)

    class DrainingServer(uvicorn.Server):  # type: ignore[misc, name-defined]
        async def shutdown(self, sockets: Any = None) -> None:
            """Let requests that are on their way come in; uvicorn would close their connections unread."""
            application.state.draining = True
            await asyncio.sleep(0 if failures else drain_seconds)
            await super().shutdown(sockets)

    config = uvicorn.Config(
        application,
        host=host,
        port=port,
        access_log=False,
        ws="none",  # else the oldest uvicorn loads a package of web sockets, which warns
        timeout_graceful_shutdown=shutdown_seconds,
    )
    server = DrainingServer(config)
    server.run()
    if failures or not server.started:
        raise click.exceptions.Exit(2)
