"""A virtual clock for threads and for asyncio: time passes only while all of them wait, and a seed repeats a run.

Threads that are started through it run one at a time. A thread that sleeps, or waits for futures, hands over to
another one that can continue; the seed chooses which. If none can, time jumps to the next moment at which one wakes. So
hours of waiting take milliseconds, and the order of events is reproducible.

>>> clock = VirtualClock(seed=7)
>>> with clock.running():
...     reranker.rerank(query, texts, timeout=3.0)
"""

from __future__ import annotations

import asyncio
import random
import selectors
import threading
from collections.abc import Awaitable, Callable, Collection, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

from rag_rerank.execution import clock as execution_clock

T = TypeVar("T")

REAL = 10.0
"""Seconds of real time after which a wait counts as hung."""


class Deadlock(AssertionError):
    """All threads wait, and none can ever continue."""


class _Parked:
    """A thread that waits until a condition holds, or until a time."""

    def __init__(self, until: Callable[[], bool], wake: float | None) -> None:
        self.until = until
        self.wake = wake
        self.turn = threading.Event()
        self.stuck = False


class VirtualClock(execution_clock.Clock):
    """Virtual time, starting at 0.

    Args:
        seed: Chooses which thread continues, where several can.
        settle: Called before time jumps; waits for work on threads that this clock did not start.
    """

    def __init__(self, seed: int = 0, settle: Callable[[], object] = lambda: None) -> None:
        self._now = 0.0
        self._random = random.Random(seed)
        self._settle = settle
        self._parked: list[_Parked] = []
        self._alive = 0

    def now(self) -> float:
        return self._now

    def sleep(self, seconds: float) -> None:
        self.park(lambda: False, self._now + max(seconds, 0.0))

    def wait_for_any(self, futures: Collection[Future[Any]], seconds: float | None) -> None:
        waited = list(futures)
        self.park(lambda: any(f.done() for f in waited), None if seconds is None else self._now + max(seconds, 0.0))

    def start_thread(self, work: Callable[[], T]) -> Future[T]:
        future: Future[T] = Future()
        me = _Parked(lambda: True, None)
        self._parked.append(me)
        self._alive += 1

        def run() -> None:
            me.turn.wait(REAL)
            try:
                if not me.stuck:
                    execution_clock._fulfil(future, work)
            finally:
                self._alive -= 1
                self._hand_over()

        threading.Thread(target=run, name="virtual", daemon=True).start()
        return future

    @contextmanager
    def running(self) -> Iterator[VirtualClock]:
        """Use this clock inside the block; at its end, wait for everything that was started on it."""
        with execution_clock.use(self):
            try:
                yield self
            finally:
                self.drain()

    def drain(self) -> None:
        """Let time pass until all started threads have ended."""
        if self._alive:
            self.park(lambda: self._alive == 0, None)

    def park(self, until: Callable[[], bool], wake: float | None) -> None:
        """Let other threads run until a condition holds, or until a time."""
        me = _Parked(until, wake)
        self._parked.append(me)
        self._hand_over()
        if not me.turn.wait(REAL):
            raise Deadlock(f"a thread has worked for {REAL:g} s of real time")
        if me.stuck:
            raise Deadlock("all threads wait, and nothing will wake one")

    def _hand_over(self) -> None:
        """Let one thread continue: one that can now, else the first one that wakes."""
        if not (ready := self._ready()):
            self._settle()
            ready = self._ready()
        if not ready:
            wakes = [one.wake for one in self._parked if one.wake is not None]
            if not wakes:
                for one in self._parked:
                    one.stuck = True
                    one.turn.set()
                self._parked.clear()
                return
            self._now = max(self._now, min(wakes))
            ready = self._ready()
        one = self._random.choice(ready)
        self._parked.remove(one)
        one.turn.set()

    def _ready(self) -> list[_Parked]:
        return [one for one in self._parked if (one.wake is not None and one.wake <= self._now) or one.until()]


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop on a `VirtualClock`; its worker threads are the clock's.

    Inside `really` it waits in real time, while the virtual time stands still.
    """

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self.real = 0
        super().__init__(_Selector(self))

    def time(self) -> float:
        return self.clock.now()

    def run_in_executor(self, executor: Any, func: Callable[..., T], *args: Any) -> Any:
        return asyncio.wrap_future(self.clock.start_thread(partial(func, *args)), loop=self)

    @contextmanager
    def really(self) -> Iterator[None]:
        """Let no virtual time pass while it waits for something real, such as a socket."""
        self.real += 1
        try:
            yield
        finally:
            self.real -= 1

    def settled(self, work: Awaitable[T]) -> T:
        """Run work to its end, and wait for all other tasks too."""

        async def whole() -> T:
            try:
                return await work
            finally:
                me = asyncio.current_task()
                while others := [task for task in asyncio.all_tasks() if task is not me]:
                    await asyncio.wait(others)

        return self.run_until_complete(whole())


class _Selector(selectors.DefaultSelector):
    """Jumps over waits."""

    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> Any:
        events: list[Any] = super().select(0)
        if events or (timeout is not None and timeout <= 0):
            return events
        clock = self._loop.clock
        if self._loop.real:
            clock.park(lambda: True, None)  # other threads may run meanwhile
            events = super().select(REAL)
            if not events:
                raise Deadlock(f"nothing has come from a socket within {REAL:g} s")
            return events
        wake = None if timeout is None else clock.now() + timeout
        look = super().select
        clock.park(lambda: bool(look(0)), wake)
        return look(0)
