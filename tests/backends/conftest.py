from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar

import pytest
from support.api.limiter_clock import ManualClock
from support.api.providers import DECISIONS, DIALECTS, QUERY, SDKS, TEXTS, Ask, Provider
from support.api.rerank_server import RerankServer

from rag_rerank import Ranking, Reranker
from rag_rerank.backends.api import limiter
from rag_rerank.backends.api.decisions.providers import PROVIDERS
from rag_rerank.backends.api.dialects import DIALECTS as dialect_table
from rag_rerank.backends.api.retry import RetryPolicy
from rag_rerank.backends.http import HttpReranker
from rag_rerank.execution import clock as execution_clock

R = TypeVar("R", bound=Reranker)


@pytest.fixture(autouse=True)
def no_outside_world(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = ("CO_API_KEY", "COHERE_API_KEY", "CO_API_URL", "VOYAGE_API_KEY", "VOYAGE_API_KEY_PATH")
    decision_keys = (name for row in PROVIDERS.values() for name in row.keys)
    dialects = (name for row in dialect_table.values() for name in (*row.keys, *row.project_variables))
    for name in (*keys, *decision_keys, *dialects):
        monkeypatch.delenv(name, raising=False)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture(autouse=True)
def fresh_limiters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limiter, "_limiters", {})


SHAPES = (
    *("cohere", "infinity", "jina", "llamacpp", "mixedbread", "nim", "tei", "vllm"),
    *("cloudflare", "deepinfra", "openrouter", "pinecone"),
)
"""Dialects of each shape: the others differ from one of them in their URL and in the names of their fields."""


@pytest.fixture(
    params=[*SDKS, *(DIALECTS[name] for name in SHAPES), *DECISIONS.values()],
    ids=lambda provider: f"{provider.label}{provider.options.get('wire', '')}",
)
def provider(request: pytest.FixtureRequest) -> Provider:
    """Services of each shape, in turn."""
    value: Provider = request.param
    return value


@pytest.fixture(params=SDKS, ids=lambda provider: provider.kind)
def sdk(request: pytest.FixtureRequest) -> Provider:
    """Each service with an SDK."""
    value: Provider = request.param
    return value


@pytest.fixture(params=DIALECTS.values(), ids=lambda provider: provider.dialect)
def dialect(request: pytest.FixtureRequest) -> Provider:
    """Each service without one."""
    value: Provider = request.param
    return value


@pytest.fixture(scope="session")
def session_server() -> Iterator[RerankServer]:
    with RerankServer() as server:
        yield server


@pytest.fixture
def rerank_server(session_server: RerankServer) -> Iterator[RerankServer]:
    """One server for all tests here, reset for each, so that rerankers keep their clients."""
    yield session_server
    session_server.reset()


@pytest.fixture(scope="session")
def session_loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()


@pytest.fixture
def closing(session_loop: asyncio.AbstractEventLoop) -> Iterator[Callable[[R], R]]:
    """Registers a reranker that a test makes for itself, to close it when the test is over."""
    rerankers: list[Reranker] = []

    def track(reranker: R) -> R:
        rerankers.append(reranker)
        return reranker

    yield track
    for reranker in rerankers:
        session_loop.run_until_complete(reranker.aclose())


@pytest.fixture
def make(rerank_server: RerankServer, closing: Callable[[HttpReranker], HttpReranker]) -> Callable[..., HttpReranker]:
    """Makes a reranker for a dialect of the server, with options of its own."""

    def make_reranker(dialect: Any, **options: Any) -> HttpReranker:
        defaults = {"model": "m", "base_url": rerank_server.base(dialect), "retry": RetryPolicy(jitter=0)}
        return closing(HttpReranker(dialect=dialect, **{**defaults, **options}))

    return make_reranker


@pytest.fixture(params=["sync", "async"])
def ask(request: pytest.FixtureRequest, session_loop: asyncio.AbstractEventLoop) -> Ask:
    def wait(reranker: Reranker, texts: Sequence[str] = TEXTS, query: str = QUERY) -> Ranking:
        return reranker.rerank(query, texts)

    def await_(reranker: Reranker, texts: Sequence[str] = TEXTS, query: str = QUERY) -> Ranking:
        return session_loop.run_until_complete(reranker.arerank(query, texts))

    return wait if request.param == "sync" else await_


@pytest.fixture
def waits() -> Iterator[list[float]]:
    """The waits of a single caller, in seconds: they are noted instead of waited, and only they move the clock."""
    clock = NotingClock()
    with execution_clock.use(clock):
        yield clock.waits


class NotingClock(execution_clock.Clock):
    def __init__(self) -> None:
        self.waits: list[float] = []

    def now(self) -> float:
        return sum(self.waits)

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)

    async def asleep(self, seconds: float) -> None:
        self.waits.append(seconds)

    def wait_for_any(self, futures: Collection[Future[Any]], seconds: float | None) -> None:
        if not any(future.done() for future in futures):
            assert seconds is not None, "a single caller would wait for ever"
            self.waits.append(seconds)


@pytest.fixture
def clock() -> Iterator[ManualClock]:
    """A clock that stands still until the test moves it, for several threads and event loops."""
    clock = ManualClock()
    with execution_clock.use(clock):
        yield clock
