from __future__ import annotations

import pytest
from backends.providers import COHERE, VOYAGE, Ask, Provider, ask_in_loop, ask_in_thread

from rag_rerank.backends import _retry


@pytest.fixture(autouse=True)
def no_world_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CO_API_KEY", "COHERE_API_KEY", "CO_API_URL", "VOYAGE_API_KEY", "VOYAGE_API_KEY_PATH"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture(params=[COHERE, VOYAGE], ids=lambda provider: provider.kind)
def provider(request: pytest.FixtureRequest) -> Provider:
    found: Provider = request.param
    return found


@pytest.fixture(params=[ask_in_thread, ask_in_loop], ids=["sync", "async"])
def ask(request: pytest.FixtureRequest) -> Ask:
    found: Ask = request.param
    return found


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The waits between attempts, in seconds: they are noted and not waited, and only they move the budget's clock."""
    noted: list[float] = []

    async def asleep(seconds: float) -> None:
        noted.append(seconds)

    monkeypatch.setattr(_retry, "sleep", noted.append)
    monkeypatch.setattr(_retry, "asleep", asleep)
    monkeypatch.setattr(_retry, "clock", lambda: sum(noted))
    return noted
