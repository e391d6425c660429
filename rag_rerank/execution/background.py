"""Work behind the calls: a bounded queue, and one worker thread that processes what is in it."""

from __future__ import annotations

import atexit
import os
import sys
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar
from weakref import WeakSet

from rag_rerank.execution.clock import start_thread, wait_for_any

__all__ = ["BackgroundQueue", "QueueCounts"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class QueueCounts:
    """The numbers of items that a queue did not process.

    Args:
        refusals: Items that were not accepted, because too many were waiting, or no thread could be started.
        drops: Items that were accepted, and dropped by `BackgroundQueue.drop`.
    """

    refusals: int = 0
    drops: int = 0


class BackgroundQueue(Generic[T]):
    """A queue that processes items in the order of their arrival, on its own thread, which starts when it is needed.

    A queue belongs to the process that made it: a forked child needs one of its own.

    Args:
        process: Processes some items. It must not raise. Two calls of it never overlap.
        max_waiting: How many items may wait beside those that are being processed.
        batch: How many items `process` gets at once at most.
        durable: Whether every accepted item must be processed: items are then accepted even if no thread can be
            started, and those that wait when this process ends are processed then.
    """

    def __init__(
        self, process: Callable[[list[T]], None], *, max_waiting: int, batch: int = 1, durable: bool = False
    ) -> None:
        self.pid = os.getpid()
        self.counts = QueueCounts()
        self._process = process
        self._max_waiting = max_waiting
        self._batch = batch
        self._durable = durable
        self._lock = threading.RLock()
        self._processing = threading.RLock()
        self._waiting: deque[T] = deque()
        self._in_process = 0
        self._busy = False  # a worker thread runs, or is about to
        self._worker: Future[Any] | None = None
        self._worker_thread: int | None = None
        if durable:
            _flush_at_exit(self)

    def offer(self, item: T) -> bool:
        """Accept an item, to be processed soon, unless too many wait; return whether it was accepted."""
        with self._lock:
            not_waiting = 0 if self._in_process else 1  # while nothing is in process, the first item does not wait
            if len(self._waiting) >= self._max_waiting + not_waiting:
                return self._refuse()
            self._waiting.append(item)
            if not self._busy:
                try:
                    self._busy = True
                    self._worker = start_thread(self._run)
                except RuntimeError:  # no thread can be started; the next offer tries again
                    self._busy = False
                    if not self._durable:
                        self._waiting.pop()
                        return self._refuse()
            return True

    def flush(self) -> None:
        """Process the waiting items on this thread, after those that the worker is processing."""
        with self._processing:
            while items := self._take():
                self._process(items)

    def drop(self) -> None:
        """Drop the waiting items, and wait until the worker has processed its items."""
        with self._lock:
            started = 1 if self._busy and not self._in_process else 0  # items that the worker is about to take
            while len(self._waiting) > started:
                self._waiting.pop()
                self.counts = replace(self.counts, drops=self.counts.drops + 1)
            own_thread = self._worker_thread == threading.get_ident()  # the worker cannot wait for itself
            running = None if own_thread else self._worker
        if running is not None:
            wait_for_any([running])

    def _refuse(self) -> bool:
        self.counts = replace(self.counts, refusals=self.counts.refusals + 1)
        return False

    def _run(self) -> None:
        self._worker_thread = threading.get_ident()
        while True:
            self.flush()
            with self._lock:
                if not self._waiting:
                    self._busy, self._worker_thread = False, None
                    return

    def _take(self) -> list[T]:
        with self._lock:
            items = [self._waiting.popleft() for _ in range(min(self._batch, len(self._waiting)))]
            self._in_process = len(items)
            return items


_durable_queues: WeakSet[BackgroundQueue[Any]] = WeakSet()
_registered: int | None = None


def _flush_at_exit(queue: BackgroundQueue[Any]) -> None:
    """Flush a queue when this process ends; children of multiprocessing end without ``atexit``."""
    global _registered
    _durable_queues.add(queue)
    if _registered != os.getpid():
        _registered = os.getpid()
        atexit.register(_flush_all)
        if "multiprocessing.util" in sys.modules:
            sys.modules["multiprocessing.util"].Finalize(None, _flush_all, exitpriority=0)


def _flush_all() -> None:
    for queue in list(_durable_queues):
        if queue.pid == os.getpid():  # a child process inherits its parent's queues
            queue.flush()
