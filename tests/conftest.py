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

# What pytest's workers share, who have the variable from the process that starts them: graphs, and the vectors of the
# texts that pages and notebooks read (`tests/support/doc_site`). Each has the rest of the hub's assets for itself.
if "TEST_RUN" not in os.environ:
    os.environ["TEST_RUN"] = tempfile.mkdtemp(prefix="rag-rerank-tests-")
    atexit.register(shutil.rmtree, os.environ["TEST_RUN"], ignore_errors=True)
os.environ["HF_ASSETS_CACHE"] = tempfile.mkdtemp(prefix="rag-rerank-assets-")  # read when the hub's client is imported
atexit.register(shutil.rmtree, os.environ["HF_ASSETS_CACHE"], ignore_errors=True)
GRAPHS, VECTORS = (Path(os.environ["TEST_RUN"], name) for name in ("graphs", "vectors"))
for shared in (GRAPHS, VECTORS):
    shared.mkdir(exist_ok=True)
os.environ["DOC_VECTORS"] = str(VECTORS)
Path(os.environ["HF_ASSETS_CACHE"], "rag-rerank").mkdir()
Path(os.environ["HF_ASSETS_CACHE"], "rag-rerank", "graphs").symlink_to(GRAPHS)
os.environ["HAYSTACK_TELEMETRY_ENABLED"] = "False"  # read when Haystack is imported


settings.register_profile("untimed", deadline=None)  # no test here asserts a wall-clock time
settings.load_profile("untimed")


gc.disable()


def pytest_collection_finish() -> None:
    """Spare the garbage collector what is there before the first test: a collection took half a second with it."""
    gc.collect()
    gc.freeze()
    gc.enable()


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
