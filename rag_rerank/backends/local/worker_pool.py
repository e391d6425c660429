"""The worker threads of one loaded model: they take calls apart, serve them in a fair order, and answer them.

A call is cut into units: tokenising, which goes before all else because it gives the call's size, and then its
batches, in the order of `rag_rerank.backends.local.fair_queue`. A worker finishes each unit that it starts. Where
calls wait, a small unit runs together with compatible units of other calls.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Hashable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from queue import Full
from typing import Any, Generic, Protocol, TypeVar

from rag_rerank.backends.local.fair_queue import FairQueue
from rag_rerank.execution.clock import now

__all__ = ["Task", "Unit", "WorkerPool"]

T_co = TypeVar("T_co", covariant=True)
T = TypeVar("T")


class Unit(Protocol):
    """A piece of work of one call."""

    @property
    def size(self) -> int:
        """How much work it is."""

    @property
    def kind(self) -> Hashable:
        """Units of one kind may be done together, also those of different calls; ``None`` for alone."""


class Task(Protocol[T_co]):
    """One call, as the crew sees it. Units of one call may run side by side."""

    def units(self) -> Sequence[Any]:
        """Prepare the call, and return its units of work."""

    def do(self, unit: Any, others: Sequence[tuple[Any, Any]]) -> None:
        """Do one unit, and with it units of other tasks, each given with its task."""

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
        self.came = now()
        self.unfinished = 0
        self.seconds = 0.0
        self.waited: float | None = None  # until its first unit is taken


class WorkerPool:
    """The workers of one loaded model, and the calls that wait for them.

    A worker that finds no work ends its turn; the threads stay for the next call, until `close` or until the crew is
    dropped. Where there can be no pool any more (a call that comes while the crew is being closed, or while the
    interpreter ends), calls are answered on a thread that ends with them. Nothing that was accepted is dropped.

    Args:
        workers: How many units run side by side.
        limit: How many calls may be waiting or running.
        enough: Units below this size take along others of their kind, up to this size together.
    """

    def __init__(self, workers: int, limit: int, enough: int = 0) -> None:
        self._workers = workers
        self._limit = limit
        self._enough = enough
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="rag_rerank")
        self._lock = threading.Lock()
        self._calls: dict[_Call[Any], Future[Any]] = {}
        self._new: deque[_Call[Any]] = deque()  # not prepared yet
        self._line: FairQueue[_Call[Any]] = FairQueue(lambda unit: unit.kind)
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

    @property
    def calls(self) -> int:
        """How many calls are waiting or running."""
        return len(self._calls)

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
        while (work := self._take()) is not None:
            call, units = work
            if units:
                self._do(units)
            else:
                self._prepare(call)

    def _take(self) -> tuple[_Call[Any], list[tuple[_Call[Any], Any]]] | None:
        """Return what is next: a new call to prepare, or else a unit of the call most due, with what goes along."""
        with self._lock:
            if not (self._new or self._line):
                self._busy -= 1
                return None
            self._taken += 1
            units: list[tuple[_Call[Any], Any]] = []
            if self._new:
                call = self._new.popleft()
            else:
                call, unit = self._line.take()
                units = [(call, unit), *self._line.alike(unit, self._enough - unit.size)]
                for each, _ in units:
                    if each.waited is None:
                        others = each.met_others or self._taken - each.taken_before > 2  # two are its own
                        each.waited = now() - each.came - each.seconds if others else 0.0
            self._call_worker()
            return call, units

    def _prepare(self, call: _Call[Any]) -> None:
        started = now()
        try:
            units = call.task.units()
        except BaseException as error:  # the caller's to handle, whatever it is
            self._answer(call, error=error)
            return
        with self._lock:
            call.seconds = now() - started
            call.unfinished = len(units)
            if units and call in self._calls:
                self._line.join(call, [(unit.size, unit) for unit in units])
        if not units:
            self._finish(call)

    def _do(self, units: Sequence[tuple[_Call[Any], Any]]) -> None:
        """Do units together; where that fails, each by itself, so that an error is told to its own call only."""
        (first, unit), *others = units
        started = now()
        try:
            first.task.do(unit, [(other.task, its) for other, its in others])
        except BaseException as error:  # the caller's to handle, whatever it is
            if not others:
                self._answer(first, error=error)
                return
            for alone in units:
                self._do([alone])
            return
        seconds, size = now() - started, sum(unit.size for _, unit in units)
        done = []
        with self._lock:
            for call, its in units:
                call.seconds += seconds * its.size / size
                call.unfinished -= 1
                if call.unfinished == 0:
                    done.append(call)
        for call in done:
            self._finish(call)

    def _finish(self, call: _Call[Any]) -> None:
        """Answer a call after its last unit."""
        try:
            result = call.task.result(call.seconds, call.waited or 0.0)
        except BaseException as error:  # the caller's to handle, whatever it is
            self._answer(call, error=error)
        else:
            self._answer(call, result)

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
