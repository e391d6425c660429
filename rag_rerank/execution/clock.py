"""Time, in one place: the clock, waiting, and threads beside the caller's.

Nothing else in the package reads a clock or sleeps, so that tests can put in a clock of their own (`use`).
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager
from functools import partial
from queue import Empty, SimpleQueue
from threading import TIMEOUT_MAX, Lock, Thread
from typing import Any, TypeVar

__all__ = [
    "Clock",
    "asleep",
    "check_threads_can_start",
    "interpreter_ends",
    "now",
    "run_here",
    "sleep",
    "start_thread",
    "use",
    "wait_for_any",
]

T = TypeVar("T")

_IDLE = 30.0
"""Seconds that a thread waits for more work."""


class Clock:
    """The real clock. Seconds everywhere; only the difference of two readings means something."""

    def now(self) -> float:
        """Return the time; it never goes back."""
        return time.perf_counter()

    def sleep(self, seconds: float) -> None:
        """Wait on this thread."""
        time.sleep(seconds)

    async def asleep(self, seconds: float) -> None:
        """Wait without blocking the event loop."""
        import asyncio

        await asyncio.sleep(seconds)

    def start_thread(self, work: Callable[[], T]) -> Future[T]:
        """Run work on a thread of its own; the interpreter does not wait for it at exit.

        Raises:
            RuntimeError: No thread can start: the interpreter ends, or the system has no more.
        """
        future: Future[T] = Future()
        _threads.run(partial(_fulfil, future, work))
        return future

    def wait_for_any(self, futures: Collection[Future[Any]], seconds: float | None) -> None:
        """Wait on this thread until one of the futures is done, but no longer than this."""
        wait(futures, None if seconds is None else min(seconds, TIMEOUT_MAX), FIRST_COMPLETED)


class _Threads:
    """Threads that are reused for a while, because some SDKs keep a connection per thread."""

    def __init__(self) -> None:
        self._forget()

    def _forget(self) -> None:
        self._lock = Lock()
        self._idle: list[SimpleQueue[Callable[[], None]]] = []  # taken from the end, so that the others can expire
        self._process = os.getpid()

    def run(self, work: Callable[[], None]) -> None:
        """Run work on a thread that does nothing else meanwhile."""
        check_threads_can_start()
        if self._process != os.getpid():  # after a fork neither threads nor held locks work
            self._forget()
        with self._lock:
            inbox = self._idle.pop() if self._idle else None
        if inbox is None:
            inbox = SimpleQueue()
            Thread(target=self._serve, args=(inbox,), name="rag_rerank_beside", daemon=True).start()
        inbox.put(work)

    def _serve(self, inbox: SimpleQueue[Callable[[], None]]) -> None:
        while True:
            try:
                work = inbox.get(timeout=_IDLE)
            except Empty:
                with self._lock:
                    if inbox in self._idle:
                        self._idle.remove(inbox)
                        return
                continue  # work is on its way
            work()
            del work
            with self._lock:
                self._idle.append(inbox)


_threads = _Threads()


def check_threads_can_start() -> None:
    """Raise RuntimeError where a thread can no longer run: starting one would wait for it for ever before Python 3.12.

    That is so while the interpreter takes its modules apart, when objects with a ``__del__`` may still call us.
    """
    if sys.is_finalizing():
        raise RuntimeError("no thread can start while the interpreter ends")


def interpreter_ends() -> bool:
    """Whether the interpreter has begun to end, so that it waits for threads that work, and soon none can start."""
    return sys.is_finalizing() or bool(getattr(threading, "_SHUTTING_DOWN", False))  # there is no public way to ask


def run_here(work: Callable[[], T]) -> Future[T]:
    """Run work on this thread, and return its outcome as a future that is done."""
    future: Future[T] = Future()
    _fulfil(future, work)
    return future


def _fulfil(future: Future[T], work: Callable[[], T]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = work()
    except BaseException as error:  # whoever waits for it handles it
        future.set_exception(error)
    else:
        future.set_result(result)


_clock = Clock()


@contextmanager
def use(clock: Clock) -> Iterator[None]:
    """Use another clock, in all threads; for tests."""
    global _clock
    before, _clock = _clock, clock
    try:
        yield
    finally:
        _clock = before


def now() -> float:
    """Return the time in seconds; only differences mean something."""
    return _clock.now()


def sleep(seconds: float) -> None:
    """Wait on this thread."""
    _clock.sleep(seconds)


async def asleep(seconds: float) -> None:
    """Wait without blocking the event loop."""
    await _clock.asleep(seconds)


def start_thread(work: Callable[[], T]) -> Future[T]:
    """Run work on a thread of its own."""
    return _clock.start_thread(work)


def wait_for_any(futures: Collection[Future[Any]], seconds: float | None = None) -> None:
    """Wait on this thread until one of the futures is done, but no longer than this."""
    _clock.wait_for_any(futures, seconds)
