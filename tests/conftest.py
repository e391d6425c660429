from __future__ import annotations

from collections.abc import Iterator

import pytest
from backends.server import RerankServer


@pytest.fixture
def rerank_server() -> Iterator[RerankServer]:
    """A server on 127.0.0.1 that speaks Cohere's and Voyage's rerank API; see `tests/backends/server.py`."""
    with RerankServer() as server:
        yield server
