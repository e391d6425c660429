"""A server of our own on a free port of this machine, in a thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

from rag_rerank import Reranker
from rag_rerank.serving import ServerSettings, create_app


@contextmanager
def served(reranker: Reranker, settings: ServerSettings | None = None) -> Iterator[str]:
    """Serve a reranker, and yield the URL; at the end the server stops as at SIGTERM."""
    with served_app(create_app(reranker, settings)) as url:
        yield url


@contextmanager
def served_app(app: Any) -> Iterator[str]:
    """Serve an application, and yield the URL; at the end the server stops as at SIGTERM."""
    config = uvicorn.Config(app, port=0, log_level="error", ws="none", timeout_graceful_shutdown=10)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive(), "the server did not start"
            time.sleep(0.005)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive(), "the server did not stop"
