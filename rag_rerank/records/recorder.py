"""Recorders: they queue each call that ends, and write its record to a file behind the calls."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from itertools import groupby
from random import Random
from time import time as wall_time
from types import TracebackType
from uuid import uuid4

from rag_rerank._checks import at_least
from rag_rerank._checks import share as check_share
from rag_rerank._files import absolute_path
from rag_rerank._lazy import load_once, peek
from rag_rerank.context.result import Context
from rag_rerank.documentation import RECORDS
from rag_rerank.errors import ConfigError
from rag_rerank.execution.background import BackgroundQueue
from rag_rerank.execution.clock import now
from rag_rerank.execution.observers import add_observer, check_tags, remove_observer
from rag_rerank.execution.protocols import CallStarted, OnCallEnd, OnContext
from rag_rerank.records.build import record_of
from rag_rerank.records.context_record import context_record_of
from rag_rerank.records.file import RecordFile
from rag_rerank.types import Ranking

__all__ = ["KEEP", "MAX_BYTES", "Counts", "Recorder", "check_options", "recording"]

MAX_BYTES = 64 * 2**20
"""Default size of a file: with the four that are kept beside it, a third of a gigabyte."""

KEEP = 4
"""Default number of rotated files that are kept."""

_WAITING = 1000
"""Calls that may wait to be written; each holds its candidates and its ranking in memory."""

_AT_ONCE = 32
"""Calls that are written under one lock of the file."""

_log = logging.getLogger("rag_rerank")


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

    A record holds the query, the result, and the scores of every step for every candidate (`Record`;
    docs/reference/records.md lists its keys). What `pack` makes of its ranking is a line of its own, which reading
    joins to the record. Calls that fail are recorded too. Calls inside a composite are steps in its record, and get no
    records of their own. No call waits for its record: records are built and written afterwards, on another thread.
    Errors there (a full disk) are counted, and logged once. Threads and processes may write to one file. A child
    process does not record, unless it was forked inside the block or opens a block of its own.

    Args:
        file: The file that records are appended to, with ``FILE.lock`` beside it; only its owner may read them.
        share: Share of the calls that are recorded, chosen at random: more than 0, at most 1.
        texts: Whether to record the query, the texts and the metadata of candidates; by default only ids, and hashes of
            query and texts, are recorded. Metadata is read when the record is built, shortly after the call.
        max_bytes: The largest size of the file. Before it would be exceeded, the file becomes ``FILE.1``, and a new
            one is started.
        keep: How many such older files are kept; the oldest is deleted.
        tags: Tags of all these calls; those of `tagged` take precedence.

    Returns:
        A `Recorder`; its ``counts`` are the numbers of calls that were recorded, skipped and lost, and its ``flush``
        writes what waits.

    Raises:
        ConfigError: A value is not allowed; or, when the block starts, the file cannot be written.
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
        raise ConfigError(f"file must be the path of a file, got {file!r:.80}", path="file", page=RECORDS)
    check_share(share, "share")
    at_least(max_bytes, 1, "max_bytes")
    at_least(keep, 1, "keep")


@dataclass(frozen=True, slots=True)
class Counts:
    """The calls that a recorder observed in this process.

    Args:
        recorded: Calls whose record is in the file.
        skipped: Calls left out by ``share``.
        losses: Calls and contexts that could not be written: disk full, file not writable, too many waiting.
        last_loss: Why the last one was lost.
    """

    recorded: int = 0
    skipped: int = 0
    losses: int = 0
    last_loss: str | None = None


class Recorder:
    """An observer that writes a record of each call; see `recording`.

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
        self._path = absolute_path(file)
        self._share = share
        self._texts = texts
        self._bounds = max_bytes, keep
        self._tags = check_tags({} if tags is None else tags)
        self._inner = inner

    def on_call_start(self, call: CallStarted) -> OnCallEnd | None:
        """Note the start of a call, unless ``share`` leaves it out."""
        if call.inner and not self._inner:
            return None
        if not self._writer.choose(self._share):
            return None
        id, time, started = uuid4().hex, wall_time(), now()

        def on_end(ranking: Ranking | None, error: BaseException | None) -> OnContext:
            self._writer.offer(EndedCall(call, ranking, error, id, time, now() - started))
            return lambda context: self._writer.offer(PackedContext(context, id, wall_time()))

        return on_end

    @property
    def counts(self) -> Counts:
        """The numbers of calls so far, without those that wait to be written (see `flush`)."""
        return self._writer.counts

    def open(self) -> None:
        """Check, before any call, that records can be written.

        Raises:
            ConfigError: The file cannot be written, or holds something else.
        """
        self._writer.file.check()

    def flush(self) -> None:
        """Write all calls that have ended; after this they are in the file, or counted as lost."""
        if writer := peek(self, "_writer"):
            writer.flush()

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
    def _writer(self) -> RecordWriter:
        return RecordWriter(RecordFile(self._path, *self._bounds), self._texts, self._tags)


@dataclass(frozen=True, slots=True)
class EndedCall:
    """A call that has ended: the arguments of `record_of`, with the time as seconds since 1970."""

    start: CallStarted
    ranking: Ranking | None
    error: BaseException | None
    id: str
    time: float
    seconds: float


@dataclass(frozen=True, slots=True)
class PackedContext:
    """A context that was packed from the ranking of a call: the arguments of `context_record_of`."""

    context: Context
    call: str
    time: float


class RecordWriter:
    """The part of a recorder that belongs to one process: its queue of calls and contexts, and its counts."""

    def __init__(self, file: RecordFile, texts: bool, tags: Mapping[str, object]) -> None:
        self.counts = Counts()
        self.file = file
        self._texts = texts
        self._tags = tags
        self._random = Random().random  # its own, so that the user's seed is left alone
        self._lock = threading.RLock()
        self._queue = BackgroundQueue(self._write, max_waiting=_WAITING, batch=_AT_ONCE, durable=True)

    def choose(self, share: float) -> bool:
        """Decide whether the next call is recorded."""
        if share == 1 or self._random() < share:
            return True
        with self._lock:
            self.counts = replace(self.counts, skipped=self.counts.skipped + 1)
        return False

    def offer(self, item: EndedCall | PackedContext) -> None:
        """Queue a call that has ended, or a context of one; it is written soon, unless too many wait."""
        if not self._queue.offer(item):
            self._note_loss(f"{_WAITING} calls were waiting to be written")

    def flush(self) -> None:
        """Write all waiting calls, on this thread."""
        self._queue.flush()

    def _write(self, items: list[EndedCall | PackedContext]) -> None:
        for kind, some in groupby(items, key=type):  # in their order: a context comes after its call
            lines = []
            for item in some:
                try:
                    lines.append(self._line(item))
                except Exception as error:  # from a label, a mapping or a number of the user; its message may be secret
                    self._note_loss(f"a record could not be made ({type(error).__name__})")
            losses = self.file.append(lines)
            for loss in losses:
                self._note_loss(loss)
            if kind is EndedCall:
                with self._lock:
                    self.counts = replace(self.counts, recorded=self.counts.recorded + len(lines) - len(losses))

    def _line(self, item: EndedCall | PackedContext) -> bytes:
        time = datetime.fromtimestamp(item.time, timezone.utc).isoformat(timespec="milliseconds")
        if isinstance(item, PackedContext):
            return context_record_of(item.context, call=item.call, time=time, texts=self._texts).to_line()
        call = item
        start = replace(call.start, tags={**self._tags, **call.start.tags}) if self._tags else call.start
        record = record_of(
            start, call.ranking, call.error, id=call.id, time=time, seconds=call.seconds, texts=self._texts
        )
        return record.to_line()

    def _note_loss(self, reason: str) -> None:
        with self._lock:
            if not self.counts.losses:
                _log.warning("a record of a call is lost: %s (further losses are only counted)", reason)
            self.counts = replace(self.counts, losses=self.counts.losses + 1, last_loss=reason)
