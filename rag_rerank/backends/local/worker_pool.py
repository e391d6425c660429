"""The worker threads of one loaded model: they split calls into batches, run the batches in a fair order, and answer.

Splitting (tokenising) goes before all else, because it gives the size of a call; its batches then follow in the order
of `rag_rerank.backends.local.fair_queue`. A worker finishes each batch that it starts. Where calls wait, a small batch
runs together with compatible batches of other calls: the pool runs a list of (call, batch) pairs with one function,
and hands each result to its call.
"""

from __future__ import annotations

import atexit
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from queue import Full
from typing import Any, Generic, Protocol, TypeVar

from rag_rerank.backends.local.fair_queue import FairQueue
from rag_rerank.execution.clock import check_threads_can_start, interpreter_ends, now

__all__ = ["PoolStats", "RunBatches", "Task", "WorkerPool"]

T_co = TypeVar("T_co", covariant=True)
T = TypeVar("T")


class Task(Protocol[T_co]):
    """The work of one call. Its batches may run side by side."""

    def split(self) -> Sequence[Any]:
        """Prepare the call, and return its batches; each has a ``size`` and a ``group`` (see `FairQueue`)."""

    def finish(self, results: Sequence[tuple[Any, Any]], seconds: float, waited: float) -> T_co:
        """Return the answer of the call.

        Args:
            results: All batches, each with its result, in the order in which they were done.
            seconds: Time spent on the call, summed over workers.
            waited: Time before the first batch in which workers were busy with other calls; 0.0 where none was.
        """


RunBatches = Callable[[Sequence[tuple[Any, Any]]], Sequence[Any]]
"""Runs batches together, each given with its task, and returns one result a pair."""


@dataclass(frozen=True, slots=True)
class PoolStats:
    """The load of a pool at one moment.

    Args:
        waiting: Calls with work that no worker has taken yet.
        running: Calls whose work has all been taken by workers, and that are not answered yet.
        busy_workers: Workers that are not idle.
    """

    waiting: int
    running: int
    busy_workers: int

    @property
    def calls(self) -> int:
        """Calls that are accepted and not answered yet."""
        return self.waiting + self.running


class _Call(Generic[T]):
    """An accepted call. All but the task belongs to the pool, and is changed under its lock."""

    def __init__(self, task: Task[T], *, others_before: bool, takes_before: int) -> None:
        self.task = task
        self.others_before = others_before
        self.takes_before = takes_before
        self.accepted_at = now()
        self.results: list[tuple[Any, Any]] = []
        self.unfinished = 0
        self.seconds = 0.0
        self.waited: float | None = None  # until a worker takes its first batch


_Pairs = list[tuple[_Call[Any], Any]]


class _ExitGate:
    """A gate that keeps daemon threads out of a model's native code when the interpreter ends.

    Python stops daemon threads where they are, and one that is stopped below C++ aborts the process. The workers of a
    pool are no daemons, so that the end waits for them; the threads that answer late calls may be.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._inside = 0
        self._is_closed = False
        self._is_registered = False

    @contextmanager
    def passage(self) -> Iterator[None]:
        """Keep the end waiting while this block runs; a daemon thread that comes too late waits for its own end."""
        if not threading.current_thread().daemon:
            yield
            return
        with self._changed:
            if not self._is_registered:
                self._is_registered = True
                atexit.register(self._close)
            while self._is_closed:
                self._changed.wait()
            self._inside += 1
        try:
            yield
        finally:
            with self._changed:
                self._inside -= 1
                self._changed.notify_all()

    def _close(self) -> None:
        with self._changed:
            self._is_closed = True
            self._changed.wait_for(lambda: not self._inside)


_exit_gate = _ExitGate()


class WorkerPool:
    """The workers of one loaded model, and the calls that wait for them.

    A worker stops when it finds no work; the threads stay for the next call, until `close` or until the pool is
    garbage-collected. A call that comes while the pool is being closed, or while the interpreter ends, is answered
    after the workers have ended, on a thread that ends with it, or on the caller's where no thread can start any more:
    the end waits for the workers, and new calls must not keep them busy. No accepted call is dropped.

    Args:
        run: Runs batches together. Where that fails, each is run again by itself, so that an error reaches its own
            call only.
        workers: How many runs go on side by side.
        limit: How many calls may be waiting or running.
        target_tokens: Batches below this size are run together with compatible ones, up to this size in all.
    """

    def __init__(self, run: RunBatches, *, workers: int, limit: int, target_tokens: int = 0) -> None:
        self._run_batches = run
        self._workers = workers
        self._limit = limit
        self._target_tokens = target_tokens
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="rag_rerank")
        self._lock = threading.Lock()
        self._idle = threading.Condition(self._lock)  # notified when no worker is busy
        self._alone = threading.Lock()
        self._futures: dict[_Call[Any], Future[Any]] = {}  # of all calls that are not answered
        self._unsplit: deque[_Call[Any]] = deque()
        self._queue: FairQueue[_Call[Any]] = FairQueue(lambda batch: batch.group)
        self._busy_workers = 0
        self._takes = 0  # how often a worker has taken work

    def submit(self, task: Task[T]) -> Future[T]:
        """Accept a call. Its future can be cancelled until it is done, which frees its place at once.

        Batches that run when a call is cancelled or fails are finished; its others are dropped.

        Raises:
            Full: As many calls as the limit allows are waiting or running.
        """
        future: Future[T] = Future()
        with self._lock:
            if len(self._futures) >= self._limit:
                raise Full
            call = _Call(task, others_before=bool(self._futures), takes_before=self._takes)
            self._futures[call] = future
            self._unsplit.append(call)
            is_queued = not interpreter_ends() and self._start_worker()
            if not is_queued:
                self._unsplit.remove(call)
        future.add_done_callback(lambda _: self._remove(call))
        if not is_queued:
            self._answer_alone(call)
        return future

    @property
    def stats(self) -> PoolStats:
        """The load of the pool now."""
        with self._lock:
            unsplit = set(self._unsplit)
            running = sum(call not in unsplit and call not in self._queue for call in self._futures)
            return PoolStats(len(unsplit) + len(self._queue), running, self._busy_workers)

    def close(self) -> None:
        """Answer all accepted calls, then end the threads."""
        self._threads.shutdown()

    def _start_worker(self) -> bool:
        """Start one more worker, if there is work for it and one is idle; return false if it cannot. Needs the lock."""
        if self._busy_workers == self._workers or not (self._unsplit or self._queue):
            return True
        try:
            self._threads.submit(self._work)
        except RuntimeError:  # the pool was closed meanwhile, the interpreter ends, or the system has no more threads
            return False
        self._busy_workers += 1
        return True

    def _answer_alone(self, call: _Call[Any]) -> None:
        """Answer a call without the workers."""
        try:
            check_threads_can_start()
            threading.Thread(target=self._run_alone, args=(call,), name="rag_rerank_last").start()
        except RuntimeError:
            self._run_alone(call)

    def _run_alone(self, call: _Call[Any]) -> None:
        """Answer a call after the workers' last one, as one more worker would."""
        with nullcontext() if sys.is_finalizing() else self._alone:
            with self._lock:
                self._idle.wait_for(lambda: self._busy_workers == 0)
            self._run_all(call)

    def _run_all(self, call: _Call[Any]) -> None:
        started = now()
        try:
            batches = call.task.split()
            results: list[tuple[Any, Any]] = []
            for batch in batches:
                with _exit_gate.passage():
                    results += zip([batch], self._run_batches([(call.task, batch)]), strict=True)
            answer = call.task.finish(results, now() - started, 0.0)
        except BaseException as error:  # the caller's to handle, whatever it is
            self._answer(call, error=error)
        else:
            self._answer(call, answer)

    def _work(self) -> None:
        """Work until nothing waits."""
        while (work := self._take()) is not None:
            if isinstance(work, _Call):
                self._split(work)
            else:
                self._run(work)

    def _take(self) -> _Call[Any] | _Pairs | None:
        """Return the next work: a call to split, or else the batch most due with compatible ones; ``None`` for none."""
        with self._lock:
            if not (self._unsplit or self._queue):
                self._busy_workers -= 1
                if self._busy_workers == 0:
                    self._idle.notify_all()
                return None
            self._takes += 1
            work: _Call[Any] | _Pairs
            if self._unsplit:
                work = self._unsplit.popleft()
            else:
                call, batch = self._queue.take()
                work = [(call, batch), *self._queue.take_compatible(batch, self._target_tokens - batch.size)]
                for call, _ in work:
                    self._note_first_batch(call)
            self._start_worker()
            return work

    def _note_first_batch(self, call: _Call[Any]) -> None:
        """Note how long a call waited for others, when its first batch is taken. Needs the lock."""
        if call.waited is None:
            others = call.others_before or self._takes - call.takes_before > 2  # two takes are its own
            call.waited = now() - call.accepted_at - call.seconds if others else 0.0

    def _split(self, call: _Call[Any]) -> None:
        started = now()
        try:
            batches = call.task.split()
        except BaseException as error:  # the caller's to handle, whatever it is
            self._answer(call, error=error)
            return
        with self._lock:
            call.seconds = now() - started
            call.unfinished = len(batches)
            if batches and call in self._futures:
                self._queue.join(call, [(batch.size, batch) for batch in batches])
        if not batches:
            self._finish(call)

    def _run(self, pairs: _Pairs) -> None:
        """Run batches together, and hand each result to its call; where that fails, run each batch by itself."""
        started = now()
        try:
            results = self._run_batches([(call.task, batch) for call, batch in pairs])
            done = list(zip(pairs, results, strict=True))
        except BaseException as error:  # the caller's to handle, whatever it is
            if len(pairs) == 1:
                self._answer(pairs[0][0], error=error)
                return
            for pair in pairs:
                self._run([pair])
            return
        seconds, size = now() - started, sum(batch.size for _, batch in pairs)
        complete = []
        with self._lock:
            for (call, batch), result in done:
                call.results.append((batch, result))
                call.seconds += seconds * batch.size / size
                call.unfinished -= 1
                if call.unfinished == 0:
                    complete.append(call)
        for call in complete:
            self._finish(call)

    def _finish(self, call: _Call[Any]) -> None:
        """Answer a call after its last batch."""
        try:
            answer = call.task.finish(call.results, call.seconds, call.waited or 0.0)
        except BaseException as error:  # the caller's to handle, whatever it is
            self._answer(call, error=error)
        else:
            self._answer(call, answer)

    def _answer(self, call: _Call[Any], answer: Any = None, error: BaseException | None = None) -> None:
        """Remove a call with its answer or its error, unless it is removed already. Must be called without the lock."""
        future = self._remove(call)
        if future is None or not future.set_running_or_notify_cancel():
            return
        if error is None:
            future.set_result(answer)
        else:
            future.set_exception(error)

    def _remove(self, call: _Call[Any]) -> Future[Any] | None:
        """Remove a call with its undone work; return its future, or ``None`` where the call was removed before."""
        with self._lock:
            future = self._futures.pop(call, None)
            if future is not None:
                if call in self._unsplit:
                    self._unsplit.remove(call)
                self._queue.drop(call)
            return future
