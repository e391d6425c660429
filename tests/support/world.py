"""Run the same test on threads and on an event loop, on a virtual clock."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from support.virtual_clock import VirtualClock, VirtualLoop

from rag_rerank import Candidate, Ranking, Reranker


class World:
    """Threads or asyncio, on a clock of its own."""

    def __init__(self, clock: VirtualClock, loop: VirtualLoop | None) -> None:
        self.clock = clock
        self.loop = loop

    def rank(
        self,
        reranker: Reranker,
        candidates: Sequence[Candidate | str] = ("a", "b"),
        query: str = "q",
        **options: Any,
    ) -> Ranking:
        """Call `rerank` or `arerank`."""
        if self.loop is None:
            return reranker.rerank(query, candidates, **options)
        return self.loop.run_until_complete(reranker.arerank(query, candidates, **options))

    def timed(self, call: Callable[..., Any], *args: Any, **options: Any) -> tuple[Any, float]:
        """Return the result or the exception of a call, and its time."""
        start = self.clock.now()
        try:
            outcome = call(*args, **options)
        except Exception as error:
            outcome = error
        return outcome, self.clock.now() - start

    def settle(self) -> None:
        """Wait for everything that was started."""
        if self.loop is None:
            self.clock.drain()
        else:
            self.loop.settled(_nothing())


async def _nothing() -> None:
    pass


def worlds(mode: str) -> Iterator[World]:
    """Yield a world of threads (``"sync"``) or of an event loop (``"async"``); wait for all its work at the end."""
    clock = VirtualClock(seed=3)
    with clock.running():
        if mode == "sync":
            yield World(clock, None)
            return
        loop = VirtualLoop(clock)
        try:
            yield World(clock, loop)
            loop.settled(_nothing())
        finally:
            loop.close()
