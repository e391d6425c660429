from __future__ import annotations

import atexit
import gc
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from support.api.rerank_server import RerankServer
from support.world import World, worlds

# Graphs made by the tests are kept for the tests alone; set here, because the hub's client reads it when imported.
os.environ["HF_ASSETS_CACHE"] = tempfile.mkdtemp(prefix="rag-rerank-tests-")
atexit.register(shutil.rmtree, os.environ["HF_ASSETS_CACHE"], ignore_errors=True)
# Pages and notebooks read the same texts, and their processes share the vectors; see `tests/support/doc_site`.
if "DOC_VECTORS" not in os.environ:  # pytest's workers have it from the process that starts them
    os.environ["DOC_VECTORS"] = tempfile.mkdtemp(prefix="rag-rerank-vectors-")
    atexit.register(shutil.rmtree, os.environ["DOC_VECTORS"], ignore_errors=True)
os.environ["HAYSTACK_TELEMETRY_ENABLED"] = "False"  # read when Haystack is imported


settings.register_profile("untimed", deadline=None)  # no test here asserts a wall-clock time
settings.load_profile("untimed")


def pytest_collection_finish() -> None:
    """Spare the garbage collector what is there before the first test: a collection took half a second with it."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def no_verified_model() -> Iterator[None]:
    """Forget after each test which models it has verified, because a trace names such a model as verified."""
    yield
    shutil.rmtree(Path(os.environ["HF_ASSETS_CACHE"], "rag-rerank", "verified"), ignore_errors=True)


@pytest.fixture
def rerank_server() -> Iterator[RerankServer]:
    """A server on 127.0.0.1 that speaks Cohere's and Voyage's rerank API; see `tests/support/api/rerank_server.py`."""
    with RerankServer() as server:
        yield server


@pytest.fixture(params=["sync", "async"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    """Threads or an event loop, on a virtual clock."""
    yield from worlds(request.param)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny checkpoint that a training starts from."""
    from support.training.runs import write_base

    return write_base(tmp_path_factory.mktemp("base"))


@pytest.fixture
def cards() -> Iterator[list[Any]]:
    """The cards of the trainings of a test, whose last step only copies files."""
    from support.training.runs import copying

    with copying() as cards:
        yield cards
