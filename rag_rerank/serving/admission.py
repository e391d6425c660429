"""How many requests a server works on at once, and how many may wait."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from rag_rerank.errors import Overloaded
from rag_rerank.execution.clock import now

__all__ = ["Admission"]


class Admission:
    """Places for the requests of one event loop, given in the order of their coming.

    Args:
        places: How many requests run at once.
        max_queue: How many may wait for a place.
    """

    def __init__(self, places: int, max_queue: int) -> None:
        self._semaphore = asyncio.Semaphore(places)
        self._places = places
        self._max_queue = max_queue
        self._mean_seconds = 1.0
        self._idle = asyncio.Event()
        self._idle.set()
        self.waiting = 0
        self.running = 0

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Wait for a place, and hold it.

        Raises:
            Overloaded: So many wait already that this request is turned away; ``retry_after`` is an estimate of the
                seconds until those that wait are done.
        """
        if self._semaphore.locked() and self.waiting >= self._max_queue:
            seconds = self._mean_seconds * (self.waiting + 1) / self._places
            raise Overloaded(
                f"{self.running} requests are being reranked and {self.waiting} wait; ask again later",
                retry_after=float(math.ceil(seconds)),
            )
        self.waiting += 1
        self._idle.clear()
        try:
            try:
                await self._semaphore.acquire()
            finally:
                self.waiting -= 1
            self.running += 1
            start = now()
            try:
                yield
            finally:
                self.running -= 1
                self._semaphore.release()
                self._mean_seconds += 0.1 * (now() - start - self._mean_seconds)
        finally:
            if not self.running and not self.waiting:
                self._idle.set()

    async def wait_until_idle(self) -> None:
        """Return when no request runs or waits."""
        await self._idle.wait()
