from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import Future
from typing import Any

import pytest
from backends.clocks import ManualClock
from backends.providers import COHERE, QUERY, TEXTS, VOYAGE, Ask, Provider
from backends.server import RerankServer

from rag_rerank import Ranking, Reranker, _clock
from rag_rerank.backends import _gate


@pytest.fixture(autouse=True)
def no_world_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CO_API_KEY", "COHERE_API_KEY", "CO_API_URL", "VOYAGE_API_KEY", "VOYAGE_API_KEY_PATH"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture(autouse=True)
def nothing_asked_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_gate, "_gates", {})


@pytest.fixture(params=[COHERE, VOYAGE], ids=lambda provider: provider.kind)
def provider(request: pytest.FixtureRequest) -> Provider:
    found: Provider = request.param
    return found


@pytest.fixture(scope="session")
def lasting_server() -> Iterator[RerankServer]:
    with RerankServer() as server:
        yield server


@pytest.fixture
def rerank_server(lasting_server: RerankServer) -> Iterator[RerankServer]:
    """One server for all tests here, as new for each: so rerankers keep their clients."""
    yield lasting_server
    lasting_server.reset()


@pytest.fixture(scope="session")
def lasting_loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()


@pytest.fixture(params=["sync", "async"])
def ask(request: pytest.FixtureRequest, lasting_loop: asyncio.AbstractEventLoop) -> Ask:
    def wait(reranker: Reranker, texts: Sequence[str] = TEXTS, query: str = QUERY) -> Ranking:
        return reranker.rerank(query, texts)

    def await_(reranker: Reranker, texts: Sequence[str] = TEXTS, query: str = QUERY) -> Ranking:
        return lasting_loop.run_until_complete(reranker.arerank(query, texts))

    return wait if request.param == "sync" else await_


@pytest.fixture
def waits() -> Iterator[list[float]]:
    """The waits of a single caller, in seconds: they are noted and not waited, and only they move the clock."""
    clock = _Noting()
    with _clock.use(clock):
        yield clock.noted


class _Noting(_clock.Clock):
    def __init__(self) -> None:
        self.noted: list[float] = []

    def now(self) -> float:
        return sum(self.noted)

    def sleep(self, seconds: float) -> None:
        self.noted.append(seconds)

    async def asleep(self, seconds: float) -> None:
        self.noted.append(seconds)

    def first_of(self, futures: Collection[Future[Any]], seconds: float | None) -> None:
        if not any(future.done() for future in futures):
            assert seconds is not None, "a single caller would wait for ever"
            self.noted.append(seconds)


@pytest.fixture
def clock() -> Iterator[ManualClock]:
    """A clock that stands still until the test moves it, for several threads and event loops."""
    clock = ManualClock()
    with _clock.use(clock):
        yield clock
