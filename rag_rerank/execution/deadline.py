"""The time limit of a call, and what a call that ran out of time had done so far."""

from __future__ import annotations

import math
import sys
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from functools import partial
from typing import Any, TypeVar

from rag_rerank.errors import DeadlineExceeded, InputError, RerankError, TransientError
from rag_rerank.execution.clock import first_of, now, start
from rag_rerank.trace import Trace

__all__ = [
    "Limit",
    "Progress",
    "ain_time",
    "beside",
    "check_timeout",
    "heard",
    "in_time",
    "late",
    "left",
    "spent",
    "tells",
    "tells_nobody",
    "timely",
    "unlimited",
    "within",
]


class Progress:
    """The place where a call leaves how to tell what it has done."""

    def __init__(self) -> None:
        self._tell: Callable[[], Trace] | None = None

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Let what runs inside tell here."""
        token = _progress.set(self)
        try:
            yield
        finally:
            _progress.reset(token)

    @property
    def trace(self) -> Trace | None:
        """What was done as of now; ``None`` where nothing has begun, or nobody tells."""
        return None if self._tell is None else self._tell()


_progress: ContextVar[Progress | None] = ContextVar("rag_rerank_progress", default=None)


def tells(tell: Callable[[], Trace]) -> None:
    """Leave, for whoever may give up the work at hand, how to tell what it has done."""
    progress = _progress.get()
    if progress is not None:
        progress._tell = tell


def tells_nobody() -> None:
    """Let what comes in this context tell nobody: it is no part of the call at hand."""
    _progress.set(None)


T = TypeVar("T")

_INSTANT = 0.001
"""Seconds in which nothing useful can be done, so that a wait which ends a little early counts as over."""

_GRACE = 0.02, 0.05
"""Seconds, and share of the time left, that work which should stop by itself gets to say what it had done by then."""


class Limit:
    """When the time for some work ends; never later than that of the work around it."""

    def __init__(self, seconds: float, outer: Limit | None) -> None:
        self.seconds = seconds
        self._ends = now() + seconds
        self._outer = outer

    @property
    def left(self) -> float:
        """Seconds until the end; below 0 when it has passed."""
        return self._first._ends - now()

    @property
    def over(self) -> bool:
        """Whether the end has come."""
        return self.left <= _INSTANT

    @property
    def given(self) -> float:
        """Seconds that were given by the limit that ends first; infinity where there is none."""
        return self._first.seconds

    @property
    def _first(self) -> Limit:
        if self._outer is None:
            return self
        outer = self._outer._first
        return self if self._ends <= outer._ends else outer

    def revoke(self) -> None:
        """End the time now: nobody waits for the work any more, and it should begin nothing new."""
        self._ends = -math.inf


_limit: ContextVar[Limit | None] = ContextVar("rag_rerank_limit", default=None)


@contextmanager
def within(seconds: float | None) -> Iterator[Limit | None]:
    """Give what runs inside so much time; ``None`` leaves it the time that it has."""
    if seconds is None:
        yield _limit.get()
        return
    limit = Limit(seconds, _limit.get())
    token = _limit.set(limit)
    try:
        yield limit
    finally:
        _limit.reset(token)


def left() -> float:
    """Return the seconds that are left for the work at hand; infinity where nobody set a limit."""
    limit = _limit.get()
    return math.inf if limit is None else limit.left


def spent() -> bool:
    """Whether the time is up."""
    limit = _limit.get()
    return limit is not None and limit.over


def late(what: str) -> DeadlineExceeded:
    """Return the error for work that the time was too short for."""
    limit = _limit.get()
    given = f" of {limit.given:.3g} s" if limit is not None and math.isfinite(limit.given) else ""
    return DeadlineExceeded(f"{what} has not answered within its time{given}")


def timely(error: RerankError, what: str) -> RerankError:
    """Return an error as it is while there is time, else the `DeadlineExceeded` that a passing failure has become."""
    passing = isinstance(error, TransientError) and not isinstance(error, DeadlineExceeded)
    return late(what) if passing and spent() else error


def in_time(what: str, work: Callable[[], T]) -> T:
    """Do work that does not look at the time by itself.

    Where there is a limit, the work is done on a thread of its own. Work that is late, and does not end by itself
    within another 5 % of the time and 20 ms, is left there to end unheard.

    Raises:
        DeadlineExceeded: The time is up.
    """
    seconds = left()
    if seconds == math.inf:
        return work()
    if spent():
        raise late(what)
    answer = beside(work)
    first_of([answer], _with_grace(seconds))
    if not answer.done():
        raise late(what)
    return answer.result()


async def ain_time(what: str, work: Awaitable[T]) -> T:
    """Do what `in_time` does on the event loop; work that is late is cancelled, and not waited for."""
    import asyncio

    seconds = left()
    if seconds == math.inf:
        return await work
    task = asyncio.ensure_future(work)
    task.add_done_callback(heard)  # it may fail in the moment in which we are cancelled
    try:
        if not spent():
            await asyncio.wait({task}, timeout=_with_grace(seconds))
        if task.done():
            return task.result()
        raise late(what)
    finally:
        if not task.done():
            task.cancel()


def beside(work: Callable[[], T]) -> Future[T]:
    """Start work on a thread of its own, with the caller's context."""
    return start(partial(copy_context().run, work))


def unlimited(work: Callable[[], T]) -> Callable[[], T]:
    """Return work that keeps the caller's context, but neither its time nor its progress: for what outlives it."""
    context = copy_context()
    context.run(_limit.set, None)
    context.run(tells_nobody)
    return partial(context.run, work)


def check_timeout(seconds: float | None) -> None:
    """Raise `InputError` unless a timeout is ``None`` or a finite number of more than 0 seconds."""
    sound = seconds is None or (
        isinstance(seconds, (int, float)) and not isinstance(seconds, bool) and 0 < seconds <= sys.float_info.max
    )
    if not sound:
        raise InputError(f"timeout must be more than 0 seconds, or None for as long as it takes, got {seconds!r}")


def _with_grace(seconds: float) -> float:
    return seconds + _GRACE[0] + _GRACE[1] * seconds


def heard(task: Any) -> None:
    """Take what comes of work that nobody waits for, so that asyncio does not report it as lost."""
    if not task.cancelled():
        task.exception()
