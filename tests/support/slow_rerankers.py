"""Rerankers for tests that take time, by the clock in use (see `virtual_clock`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from rag_rerank.backends.api.base import ApiReranker
from rag_rerank.backends.api.exchange import Exchange, Reply
from rag_rerank.execution import clock
from rag_rerank.testing import ScriptedReranker
from rag_rerank.types import Scores


@dataclass(frozen=True, kw_only=True)
class Timed(ScriptedReranker):
    """Answers like `ScriptedReranker`, but after some time; it is remote, so that it can be hedged.

    Args:
        seconds: Time of a call.
        each: Additional time of each text.
    """

    kind: ClassVar[str] = "timed"
    remote: ClassVar[bool] = True

    seconds: float = 0.0
    each: float = 0.0
    ended: list[str] = field(default_factory=list, init=False, repr=False, compare=False, metadata={"live": True})

    def score(self, query: str, texts: Sequence[str]) -> Scores:
        clock.sleep(self.seconds + self.each * len(texts))
        self.ended.append(query)
        return super().score(query, texts)

    async def ascore(self, query: str, texts: Sequence[str]) -> Scores:
        await clock.asleep(self.seconds + self.each * len(texts))
        self.ended.append(query)
        return super().score(query, texts)


@dataclass(frozen=True, kw_only=True)
class Flaky(ApiReranker):
    """A provider without a server: each attempt takes some time, and ends as scripted.

    Args:
        script: The attempts in their order: seconds and an error, or ``None`` for scores of 0.5; the last entry
            repeats. An attempt that takes longer than its timeout ends in `BackendTimeout`.
        obedient: Whether an attempt keeps its timeout.
    """

    kind: ClassVar[str] = "flaky"
    key_variables: ClassVar[tuple[str, ...]] = ("FLAKY_API_KEY",)
    most_texts: ClassVar[int] = 100

    model: str = "m"
    api_key: Any = field(default="k", compare=False)
    script: tuple[tuple[float, Exception | None], ...] = field(default=(), compare=False, metadata={"live": True})
    obedient: bool = True
    sent: list[float] = field(default_factory=list, init=False, repr=False, compare=False, metadata={"live": True})

    def _next(self, exchange: Exchange, timeout: float) -> tuple[float, Exception | None]:
        seconds, error = self.script[min(len(self.sent), len(self.script) - 1)]
        self.sent.append(clock.now())
        if self.obedient and seconds > timeout:
            return timeout, exchange.timeout_error()
        return seconds, error

    def _send(self, exchange: Exchange, timeout: float) -> Reply:
        seconds, error = self._next(exchange, timeout)
        clock.sleep(seconds)
        return _reply(exchange, error)

    async def _asend(self, exchange: Exchange, timeout: float) -> Reply:
        seconds, error = self._next(exchange, timeout)
        await clock.asleep(seconds)
        return _reply(exchange, error)


def _reply(exchange: Exchange, error: Exception | None) -> Reply:
    if error is not None:
        raise error
    return Reply(rows=[(i, 0.5) for i in range(len(exchange.texts))])
