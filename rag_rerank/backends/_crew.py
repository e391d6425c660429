"""The worker threads of one loaded model: they take calls apart, serve them in a fair order, and answer them.

A call is cut into units: tokenising, which goes before all else because it gives the call's size, and then its
batches, in the order of `rag_rerank.backends._line`. A worker is never taken from a unit that it has begun.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from queue import Full
from time import perf_counter
from typing import Any, Generic, Protocol, TypeVar

from rag_rerank.backends._line import FairLine

__all__ = ["Crew", "Task"]

T_co = TypeVar("T_co", covariant=True)
T = TypeVar("T")


class Task(Protocol[T_co]):
    """One call, as the crew sees it. Units of one call may run side by side."""

    def units(self) -> Sequence[tuple[int, Any]]:
        """Prepare the call, and return its units of work, each with its size."""

    def do(self, unit: Any) -> None:
        """Do one unit."""

    def result(self, seconds: float, waited: float) -> T_co:
        """Return what came of all units.

        Args:
            seconds: Time spent on the call, summed over workers.
            waited: Time before the first unit in which workers were busy with other calls; 0.0 where none was.
        """


class _Call(Generic[T]):
    """A task on its way. All but the task is the crew's, and changed under its lock."""

    def __init__(self, task: Task[T], met_others: bool, taken: int) -> None:
        self.task = task
        self.met_others = met_others
        self.taken_before = taken
        self.came = perf_counter()
        self.unfinished = 0
        self.seconds = 0.0
        self.waited: float | None = None  # until its first unit is taken


class Crew:
    """The workers of one loaded model, and the calls that wait for them.

    A worker that finds no work ends its turn; the threads stay for the next call, until `close` or until the crew is
    dropped. Where there can be no pool any more (a call that comes while the crew is being closed, or while the
    interpreter ends), calls are answered on a thread that ends with them. Nothing that was accepted is dropped.

    Args:
        workers: How many units run side by side.
        limit: How many calls may be waiting or running.
    """

    def __init__(self, workers: int, limit: int) -> None:
        self._workers = workers
        self._limit = limit
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="rag_rerank")
        self._lock = threading.Lock()
        self._calls: dict[_Call[Any], Future[Any]] = {}
        self._new: deque[_Call[Any]] = deque()  # not prepared yet
        self._line: FairLine[_Call[Any]] = FairLine()
        self._busy = 0  # workers having a turn
        self._taken = 0  # units given to workers so far

    def submit(self, task: Task[T]) -> Future[T]:
        """Accept a call. Its future can be cancelled until it is done, which frees its place at once.

        Units that are running when a call is cancelled or fails are finished; the others are dropped.

        Raises:
            Full: As many calls as the limit allows are waiting or running.
        """
        future: Future[T] = Future()
        with self._lock:
            if len(self._calls) >= self._limit:
                raise Full
            call = _Call(task, bool(self._calls), self._taken)
            self._new.append(call)
            self._call_worker()  # may find that no thread can be had; the call is not accepted then
            self._calls[call] = future
        future.add_done_callback(lambda _: self._leave(call))
        return future

    def close(self) -> None:
        """Answer what has been accepted, then end the threads."""
        self._pool.shutdown()

    def _call_worker(self) -> None:
        """See that one more worker has its turn, where there is work for it. Needs the lock."""
        if self._busy == self._workers or not (self._new or self._line):
            return
        try:
            self._pool.submit(self._turn)
        except RuntimeError:  # closed meanwhile, or the interpreter ends
            if self._busy:
                return  # a turn lasts until nothing waits
            threading.Thread(target=self._turn, name="rag_rerank_last").start()
        self._busy += 1

    def _turn(self) -> None:
        """Work until nothing waits."""
        while (next_step := self._take()) is not None:
            self._run(*next_step)

    def _take(self) -> tuple[_Call[Any], Callable[[], Any]] | None:
        """Return what to do next: prepare a new call, or else a unit of the call that is most due."""
        with self._lock:
            if not (self._new or self._line):
                self._busy -= 1
                return None
            self._taken += 1
            step: Callable[[], Any]
            if self._new:
                call = self._new.popleft()
                step = call.task.units
            else:
                call, unit = self._line.take()
                step = partial(call.task.do, unit)
                if call.waited is None:
                    others = call.met_others or self._taken - call.taken_before > 2  # two are its own
                    call.waited = perf_counter() - call.came - call.seconds if others else 0.0
            self._call_worker()
            return call, step

    def _run(self, call: _Call[Any], step: Callable[[], Any]) -> None:
        """Do a step of a call; answer the call after its last step or its first error."""
        started = perf_counter()
        try:
            units = step()
            if self._goes_on(call, units, perf_counter() - started):
                return
            result = call.task.result(call.seconds, call.waited or 0.0)
        except BaseException as error:  # the caller's to handle, whatever it is
            self._answer(call, error=error)
        else:
            self._answer(call, result)

    def _goes_on(self, call: _Call[Any], units: Sequence[tuple[int, Any]] | None, seconds: float) -> bool:
        """Note what was done for a call; return whether more is to be done."""
        with self._lock:
            call.seconds += seconds
            if units is None:
                call.unfinished -= 1
            else:
                call.unfinished = len(units)
                if units and call in self._calls:
                    self._line.join(call, units)
            return call.unfinished > 0

    def _answer(self, call: _Call[Any], result: Any = None, error: BaseException | None = None) -> None:
        """Let a call go with its result or its error, unless it has gone before. Needs to be outside the lock."""
        future = self._leave(call)
        if future is None or not future.set_running_or_notify_cancel():
            return
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)

    def _leave(self, call: _Call[Any]) -> Future[Any] | None:
        """Let a call go, with what it leaves undone; return its future, or ``None`` where it has gone before."""
        with self._lock:
            future = self._calls.pop(call, None)
            if future is not None:
                if call in self._new:
                    self._new.remove(call)
                self._line.drop(call)
            return future
