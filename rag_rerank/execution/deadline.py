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

from rag_rerank._checks import plain
from rag_rerank.errors import DeadlineExceeded, InputError, RerankError, TransientError
from rag_rerank.execution.clock import now, start_thread, wait_for_any
from rag_rerank.trace import Trace

__all__ = [
    "Limit",
    "PartialTrace",
    "arun_with_deadline",
    "check_timeout",
    "deadline_error",
    "detached",
    "ignore_outcome",
    "or_deadline_error",
    "publish_partial_trace",
    "run_in_thread",
    "run_with_deadline",
    "seconds_left",
    "stop_publishing",
    "time_is_up",
    "time_limit",
]


T = TypeVar("T")

_INSTANT = 0.001
"""Seconds too few for anything useful: a wait that ends this much too early counts as over."""

_GRACE = 0.02, 0.05
"""Seconds, and share of the time left, that late work gets to stop by itself and to leave its trace."""


class PartialTrace:
    """The place where a call publishes its trace so far, for the caller that may abandon it."""

    def __init__(self) -> None:
        self._read: Callable[[], Trace] | None = None

    @contextmanager
    def published(self) -> Iterator[None]:
        """Let the call inside publish its trace here."""
        token = _partial_trace.set(self)
        try:
            yield
        finally:
            _partial_trace.reset(token)

    @property
    def trace(self) -> Trace | None:
        """The trace of the call so far; ``None`` where no call has started, or none publishes."""
        return None if self._read is None else self._read()


_partial_trace: ContextVar[PartialTrace | None] = ContextVar("rag_rerank_partial_trace", default=None)


def publish_partial_trace(read: Callable[[], Trace]) -> None:
    """Publish a function that reads the trace of this call while it runs, for the caller that may abandon it."""
    partial_trace = _partial_trace.get()
    if partial_trace is not None:
        partial_trace._read = read


def stop_publishing() -> None:
    """Publish nothing from here on in this context: what follows is not part of the call."""
    _partial_trace.set(None)


class Limit:
    """A time limit for some work; never later than the limit of the work around it."""

    def __init__(self, seconds: float, outer: Limit | None) -> None:
        self.seconds = seconds
        self._ends = now() + seconds
        self._outer = outer

    @property
    def remaining(self) -> float:
        """Seconds until the end; below 0 when it has passed."""
        return self._first._ends - now()

    @property
    def over(self) -> bool:
        """Whether the end has come."""
        return self.remaining <= _INSTANT

    @property
    def total(self) -> float:
        """Seconds that the earliest of the limits allowed in all; infinity where there is none."""
        return self._first.seconds

    @property
    def _first(self) -> Limit:
        if self._outer is None:
            return self
        outer = self._outer._first
        return self if self._ends <= outer._ends else outer

    def revoke(self) -> None:
        """End the time limit now: nobody waits for the work any more, so it must start nothing new."""
        self._ends = -math.inf


_limit: ContextVar[Limit | None] = ContextVar("rag_rerank_limit", default=None)


@contextmanager
def time_limit(seconds: float | None) -> Iterator[Limit | None]:
    """Limit the time of what runs inside; ``None`` leaves it as it is."""
    if seconds is None:
        yield _limit.get()
        return
    limit = Limit(seconds, _limit.get())
    token = _limit.set(limit)
    try:
        yield limit
    finally:
        _limit.reset(token)


def seconds_left() -> float:
    """Return the seconds that are left for this work; infinity where there is no limit."""
    limit = _limit.get()
    return math.inf if limit is None else limit.remaining


def time_is_up() -> bool:
    """Whether no time is left."""
    limit = _limit.get()
    return limit is not None and limit.over


def deadline_error(label: str) -> DeadlineExceeded:
    """Return the error for a reranker that did not answer in time."""
    limit = _limit.get()
    total = f" of {limit.total:.3g} s" if limit is not None and math.isfinite(limit.total) else ""
    return DeadlineExceeded(f"{label} has not answered within its time{total}")


def or_deadline_error(error: RerankError, label: str) -> RerankError:
    """Return the error while there is time; a transient one becomes `DeadlineExceeded` once the time is up."""
    transient = isinstance(error, TransientError) and not isinstance(error, DeadlineExceeded)
    return deadline_error(label) if transient and time_is_up() else error


def run_with_deadline(label: str, work: Callable[[], T]) -> T:
    """Run work that does not look at the time limit by itself.

    Where there is a limit, the work runs on a thread of its own. Work that is late gets another 5 % of the time and
    20 ms to stop by itself; then it is left running, and its outcome is ignored.

    Raises:
        DeadlineExceeded: The time is up.
    """
    seconds = seconds_left()
    if seconds == math.inf:
        return work()
    if time_is_up():
        raise deadline_error(label)
    answer = run_in_thread(work)
    wait_for_any([answer], _with_grace(seconds))
    if not answer.done():
        raise deadline_error(label)
    return answer.result()


async def arun_with_deadline(label: str, work: Awaitable[T]) -> T:
    """Do what `run_with_deadline` does on the event loop; late work is cancelled, and not waited for."""
    import asyncio

    seconds = seconds_left()
    if seconds == math.inf:
        return await work
    task = asyncio.ensure_future(work)
    task.add_done_callback(ignore_outcome)  # it may fail at the moment at which we are cancelled
    try:
        if not time_is_up():
            await asyncio.wait({task}, timeout=_with_grace(seconds))
        if task.done():
            return task.result()
        raise deadline_error(label)
    finally:
        if not task.done():
            task.cancel()


def run_in_thread(work: Callable[[], T]) -> Future[T]:
    """Run work on a thread of its own, with the caller's context."""
    return start_thread(partial(copy_context().run, work))


def detached(work: Callable[[], T]) -> Callable[[], T]:
    """Return work with the caller's context, but without its time limit and its trace: it may outlive the call."""
    context = copy_context()
    context.run(_limit.set, None)
    context.run(stop_publishing)
    return partial(context.run, work)


def check_timeout(seconds: float | None) -> float | None:
    """Return a timeout in plain seconds, or ``None``.

    Raises:
        InputError: It is neither ``None`` nor a finite number of more than 0 seconds.
    """
    number = plain(seconds)
    valid = number is None or (
        isinstance(number, (int, float)) and not isinstance(number, bool) and 0 < number <= sys.float_info.max
    )
    if not valid:
        raise InputError(f"timeout must be more than 0 seconds, or None for as long as it takes, got {seconds!r}")
    return number


def _with_grace(seconds: float) -> float:
    return seconds + _GRACE[0] + _GRACE[1] * seconds


def ignore_outcome(task: Any) -> None:
    """Retrieve the outcome of work that nobody waits for, so that asyncio does not report it as never retrieved."""
    if not task.cancelled():
        task.exception()
