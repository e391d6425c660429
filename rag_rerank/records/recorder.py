"""Record calls: a recorder queues each call that ends, and a thread writes it to a file."""

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
from pathlib import Path
from random import Random
from time import time as wall
from types import TracebackType
from uuid import uuid4
from weakref import WeakSet

from rag_rerank._lazy import load_once, peek
from rag_rerank.errors import ConfigError
from rag_rerank.execution.clock import now, start_thread
from rag_rerank.execution.observers import add_observer, check_tags, remove_observer
from rag_rerank.execution.protocols import CallStarted, OnCallEnd
from rag_rerank.records.build import record_of
from rag_rerank.records.file import RecordFile
from rag_rerank.types import Ranking

__all__ = ["KEEP", "MAX_BYTES", "Counts", "EndedCall", "RecordQueue", "Recorder", "check_options", "recording"]

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
class EndedCall:
    """A call that has ended, as it waits: what `record_of` takes, with the time as seconds since 1970."""

    asked: CallStarted
    ranking: Ranking | None
    error: BaseException | None
    id: str
    time: float
    seconds: float


class RecordQueue:
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
        self._waiting: deque[EndedCall] = deque()
        self._busy = False
        _flush_at_exit(self)

    def chosen(self, share: float) -> bool:
        """Whether the next call is to be recorded."""
        if share == 1 or self._random() < share:
            return True
        with self._lock:
            self.counts = replace(self.counts, skipped=self.counts.skipped + 1)
        return False

    def offer(self, call: EndedCall) -> None:
        """Take a call that has ended; it is written soon, unless too many wait."""
        with self._lock:
            if len(self._waiting) >= _WAITING:
                self._lost(f"{_WAITING} calls were waiting to be written")
                return
            self._waiting.append(call)
            if not self._busy:
                self._busy = True
                try:
                    start_thread(self._run)
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

    def _taken(self) -> list[EndedCall]:
        with self._lock:
            return [self._waiting.popleft() for _ in range(min(_AT_ONCE, len(self._waiting)))]

    def _write(self, calls: list[EndedCall]) -> None:
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

    def _made(self, call: EndedCall) -> bytes:
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


_queues: WeakSet[RecordQueue] = WeakSet()
_process: int | None = None


def _flush_at_exit(line: RecordQueue) -> None:
    """Have what waits written when this process ends; children of multiprocessing have an end of their own."""
    global _process
    _queues.add(line)
    if _process != os.getpid():
        _process = os.getpid()
        atexit.register(_flush_all)
        if "multiprocessing.util" in sys.modules:
            sys.modules["multiprocessing.util"].Finalize(None, _flush_all, exitpriority=0)


def _flush_all() -> None:
    for line in list(_queues):
        if line.process == os.getpid():  # not the parent's, which a child inherits
            line.flush()


MAX_BYTES = 64 * 2**20
"""Size of a file by default: with the four that are kept beside it, a third of a gigabyte."""

KEEP = 4
"""Rotated files that are kept by default."""


class Recorder:
    """Watches calls and writes a record of each; see `recording`.

    A context manager: inside the block all calls of this process are recorded, in all threads and tasks.
    """

    def __init__(
        self,
        file: str | os.PathLike[str],
        *,
        share: float = 1.0,
        texts: bool = False,
        max_bytes: int = MAX_BYTES,
        keep: int = KEEP,
        tags: Mapping[str, str | int | float | bool | None] | None = None,
        inner: bool = False,
    ) -> None:
        check_options(file, share, max_bytes, keep)
        self._path = Path(os.path.abspath(os.path.expanduser(file)))  # noqa: PTH100, PTH111 - ~nobody is a folder
        self._share = share
        self._texts = texts
        self._bounds = max_bytes, keep
        self._tags = check_tags(tags or {})
        self._inner = inner

    def on_call_start(self, asked: CallStarted) -> OnCallEnd | None:
        """Note when a call begins, unless it is left out."""
        if asked.inner and not self._inner:
            return None
        if not self._line.chosen(self._share):
            return None
        id, time, started = uuid4().hex, wall(), now()

        def ended(ranking: Ranking | None, error: BaseException | None) -> None:
            self._line.offer(EndedCall(asked, ranking, error, id, time, now() - started))

        return ended

    @property
    def counts(self) -> Counts:
        """What became of the calls so far; those that wait to be written are not in it yet (see `flush`)."""
        return self._line.counts

    def open(self) -> None:
        """Make sure, before any call, that records can be written.

        Raises:
            ConfigError: The file cannot be written, or holds something else.
        """
        self._line.file.check()

    def flush(self) -> None:
        """Write all calls that have ended; after this they are in the file or counted as lost."""
        if line := peek(self, "_line"):
            line.flush()

    def __enter__(self) -> Recorder:
        self.open()
        add_observer(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        remove_observer(self)
        self.flush()

    @load_once
    def _line(self) -> RecordQueue:
        return RecordQueue(RecordFile(self._path, *self._bounds), self._texts, self._tags)


def recording(
    file: str | os.PathLike[str],
    *,
    share: float = 1.0,
    texts: bool = False,
    max_bytes: int = MAX_BYTES,
    keep: int = KEEP,
    tags: Mapping[str, str | int | float | bool | None] | None = None,
) -> Recorder:
    """Record every call of this process inside a ``with`` block, as one line of JSON each.

    A record holds what was asked, what every step said of every candidate, and what came of it (`Record`;
    docs/traces.md lists its keys). Calls that fail are recorded too. Calls inside composites are no records of their
    own; they are steps of theirs. A call waits for nothing: records are made and written behind it, on a thread of
    their own, and what goes wrong there (disk full) is counted and logged once. Threads and processes may write to one
    file; a child process does not record unless it says so itself, but for one that was forked inside the block.

    Args:
        file: Where records are appended; made for its owner's eyes only, with ``FILE.lock`` beside it.
        share: Share of the calls that are recorded, chosen at random: more than 0, at most 1.
        texts: Whether the query, the texts and the metadata of candidates are recorded as well; otherwise hashes of
            query and texts are, and ids. Metadata is read when the record is made, shortly after the call.
        max_bytes: Size that the file never passes. Before it would, it becomes ``FILE.1``, and a new one is begun.
        keep: How many of such older files there are at most; the oldest goes.
        tags: Something to say of all these calls; what `tagged` says of one goes before it.

    Returns:
        A `Recorder`; its ``counts`` tell how many calls were recorded, skipped and lost, and its ``flush`` writes what
        waits.

    Raises:
        ConfigError: A value makes no sense; or, when the block begins, the file cannot be written.
        InputError: A tag is not text, a finite number, a truth value or ``None``.

    Example:
        ::

            with rag_rerank.recording("traces.jsonl", share=0.1) as traces:
                serve()
            print(traces.counts)
    """
    return Recorder(file, share=share, texts=texts, max_bytes=max_bytes, keep=keep, tags=tags)


def check_options(file: object, share: float, max_bytes: int, keep: int) -> None:
    """Raise `ConfigError` unless these can be options of a recorder."""
    if not isinstance(file, (str, os.PathLike)) or not str(file).strip():
        raise ConfigError(f"file must be the path of a file, got {file!r:.80}", path="file")
    if not (0 < share <= 1):
        raise ConfigError(f"share must be more than 0 and at most 1, got {share}", path="share")
    for name, value in (("max_bytes", max_bytes), ("keep", keep)):
        if value < 1:
            raise ConfigError(f"{name} must be at least 1, got {value}", path=name)
