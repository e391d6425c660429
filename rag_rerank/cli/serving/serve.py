"""``rag-rerank serve``: answer the clients of rerank APIs with any reranker."""

from __future__ import annotations

from typing import Any

import click

from rag_rerank._lazy import need
from rag_rerank.cli.options import reranker_option
from rag_rerank.cli.output import example
from rag_rerank.cli.serving.options import http_options, limit_options, run_application, server_settings
from rag_rerank.config import build

__all__ = ["serve"]


@click.command(
    short_help="Answer the clients of rerank APIs with any reranker.",
    epilog=example("serve -r embedded --port 8080", "serve -c both.yaml --host 0.0.0.0 \\\n--key-variable SERVER_KEY"),
)
@reranker_option
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8080, show_default=True, metavar="N", help="The port; 0 for any."
)
@click.option(
    "--model-name",
    "model_names",
    multiple=True,
    metavar="NAME",
    show_default="any",
    help="A name of a model that requests may ask for; others are refused. Repeatable.",
)
@limit_options
@http_options
def serve(spec: str, port: int, model_names: tuple[str, ...], **options: Any) -> None:
    """Serve a reranker over HTTP, for programs that speak to a rerank API.

    The paths /rerank, /v1/rerank, /v2/rerank and /reranking take requests as clients of Cohere, Jina, vLLM, Voyage,
    Mixedbread and Text Embeddings Inference write them, and /v1/systemone as those of decision models do. /health,
    /ready, /info and /metrics are for those who run it, and /docs describes the API.

    The server stops at SIGTERM or Ctrl-C: /ready answers 503, requests are taken for a moment more, those that run are
    answered, and the reranker is closed.
    """
    need("fastapi", extra="serve")
    from rag_rerank.serving import create_app

    settings = server_settings(options, model_names=model_names)
    reranker = build(spec)
    run_application(
        lambda stop: create_app(reranker, settings, on_failure=stop),
        port=port,
        extra="serve",
        options=options,
    )
