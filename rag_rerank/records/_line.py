"""The line in which ended calls wait until a thread has made records of them."""

from __future__ import annotations

import atexit
import logging
import os
import sys
import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from random import Random
from weakref import WeakSet

from rag_rerank._clock import start
from rag_rerank._watching import Asked
from rag_rerank.records.file import RecordFile
from rag_rerank.records.making import record_of
from rag_rerank.types import Ranking

__all__ = ["Call", "Counts", "Line"]

_WAITING = 1000
"""Calls that may wait to be written; each holds its candidates and its ranking in memory."""

_AT_ONCE = 32
"""Calls that are written under one lock of the file."""

_log = logging.getLogger("rag_rerank")


@dataclass(frozen=True, slots=True)
class Counts:
    """What became of the calls that a recorder saw in this process.

    Args:
        recorded: Written to the file.
        skipped: Left out by ``share``.
        lost: Meant to be written, and not: disk full, file not writable, too many calls waiting.
        last_loss: Why the last one was lost.
    """

    recorded: int = 0
    skipped: int = 0
    lost: int = 0
    last_loss: str | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """A call that has ended, as it waits: what `record_of` takes, with the time as seconds since 1970."""

    asked: Asked
    ranking: Ranking | None
    error: BaseException | None
    id: str
    time: float
    seconds: float


class Line:
    """The calls of one process that wait to be written, the thread that works on them, and what became of them."""

    def __init__(self, file: RecordFile, texts: bool, tags: Mapping[str, object]) -> None:
        self.process = os.getpid()
        self.counts = Counts()
        self.file = file
        self._texts = texts
        self._tags = tags
        self._random = Random().random  # of its own, so that nobody's seed is disturbed
        self._lock = threading.RLock()
        self._writing = threading.RLock()
        self._waiting: deque[Call] = deque()
        self._busy = False
        _see_to_the_end_of(self)

    def chosen(self, share: float) -> bool:
        """Whether the next call is to be recorded."""
        if share == 1 or self._random() < share:
            return True
        with self._lock:
            self.counts = replace(self.counts, skipped=self.counts.skipped + 1)
        return False

    def offer(self, call: Call) -> None:
        """Take a call that has ended; it is written soon, unless too many wait."""
        with self._lock:
            if len(self._waiting) >= _WAITING:
                self._lost(f"{_WAITING} calls were waiting to be written")
                return
            self._waiting.append(call)
            if not self._busy:
                self._busy = True
                try:
                    start(self._run)
                except RuntimeError:  # no thread is to be had; the next call tries again, and the end writes the rest
                    self._busy = False

    def flush(self) -> None:
        """Write all that waits, on this thread."""
        with self._writing:
            while calls := self._taken():
                self._write(calls)

    def _run(self) -> None:
        while True:
            self.flush()
            with self._lock:
                if not self._waiting:
                    self._busy = False
                    return

    def _taken(self) -> list[Call]:
        with self._lock:
            return [self._waiting.popleft() for _ in range(min(_AT_ONCE, len(self._waiting)))]

    def _write(self, calls: list[Call]) -> None:
        lines = []
        for call in calls:
            try:
                lines.append(self._made(call))
            except Exception as error:  # of a label, a mapping or a number of the user's; its words may hold anything
                self._lost(f"a record could not be made ({type(error).__name__})")
        lost = self.file.append(lines)
        for reason in lost:
            self._lost(reason)
        with self._lock:
            self.counts = replace(self.counts, recorded=self.counts.recorded + len(lines) - len(lost))

    def _made(self, call: Call) -> bytes:
        asked = replace(call.asked, tags={**self._tags, **call.asked.tags}) if self._tags else call.asked
        time = datetime.fromtimestamp(call.time, timezone.utc).isoformat(timespec="milliseconds")
        record = record_of(
            asked, call.ranking, call.error, id=call.id, time=time, seconds=call.seconds, texts=self._texts
        )
        return record.to_line()

    def _lost(self, reason: str) -> None:
        with self._lock:
            if not self.counts.lost:
                _log.warning("a record of a call is lost: %s (further losses are only counted)", reason)
            self.counts = replace(self.counts, lost=self.counts.lost + 1, last_loss=reason)


_lines: WeakSet[Line] = WeakSet()
_process: int | None = None


def _see_to_the_end_of(line: Line) -> None:
    """Have what waits written when this process ends; children of multiprocessing have an end of their own."""
    global _process
    _lines.add(line)
    if _process != os.getpid():
        _process = os.getpid()
        atexit.register(_flush_all)
        if "multiprocessing.util" in sys.modules:
            sys.modules["multiprocessing.util"].Finalize(None, _flush_all, exitpriority=0)


def _flush_all() -> None:
    for line in list(_lines):
        if line.process == os.getpid():  # not the parent's, which a child inherits
            line.flush()
