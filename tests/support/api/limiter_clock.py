"""A clock that stands still until a test advances it."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Collection
from concurrent.futures import Future
from typing import Any

from rag_rerank.execution.clock import Clock

_PATIENCE = 30  # seconds of the real clock after which a test has failed


class ManualClock(Clock):
    """Threads and tasks wait until the test has advanced the time far enough, or their future is done."""

    def __init__(self) -> None:
        self._time = 0.0
        self._changed = threading.Condition()
        self._threads = 0
        self._tasks: list[tuple[float, asyncio.AbstractEventLoop, asyncio.Future[None]]] = []

    def now(self) -> float:
        return self._time

    def sleep(self, seconds: float) -> None:
        self.wait_for_any((), seconds)

    async def asleep(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        entry = (self._time + seconds, loop, loop.create_future())
        with self._changed:
            self._tasks.append(entry)
            self._changed.notify_all()
        try:
            await entry[2]
        finally:
            with self._changed:
                self._tasks.remove(entry)
                self._changed.notify_all()

    def wait_for_any(self, futures: Collection[Future[Any]], seconds: float | None) -> None:
        due = math.inf if seconds is None else self._time + seconds
        with self._changed:
            for future in futures:
                future.add_done_callback(self._tell)
            self._threads += 1
            self._changed.notify_all()
            over = self._changed.wait_for(
                lambda: self._time >= due or any(future.done() for future in futures), _PATIENCE
            )
            self._threads -= 1
            self._changed.notify_all()
        assert over, "nobody moved the clock"

    def advance(self, seconds: float) -> None:
        """Let time pass, and wake the threads and tasks that are due."""
        with self._changed:
            self._time += seconds
            self._changed.notify_all()
            for due, loop, future in self._tasks:
                if due <= self._time:
                    loop.call_soon_threadsafe(lambda future=future: future.done() or future.set_result(None))

    def until_waiting(self, count: int) -> None:
        """Return once so many threads and tasks wait for this clock."""
        with self._changed:
            reached = self._changed.wait_for(lambda: self._threads + len(self._tasks) == count, _PATIENCE)
            assert reached, f"{self._threads} threads and {len(self._tasks)} tasks wait"

    def _tell(self, future: Future[Any]) -> None:
        with self._changed:
            self._changed.notify_all()
