from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Iterator

import pytest
from backends.server import RerankServer
from hypothesis import settings

# Graphs made by the tests are kept for the tests alone; set here, because the hub's client reads it when imported.
os.environ["HF_ASSETS_CACHE"] = tempfile.mkdtemp(prefix="rag-rerank-tests-")
atexit.register(shutil.rmtree, os.environ["HF_ASSETS_CACHE"], ignore_errors=True)


settings.register_profile("untimed", deadline=None)  # no test here asserts a wall-clock time
settings.load_profile("untimed")


@pytest.fixture
def rerank_server() -> Iterator[RerankServer]:
    """A server on 127.0.0.1 that speaks Cohere's and Voyage's rerank API; see `tests/backends/server.py`."""
    with RerankServer() as server:
        yield server
