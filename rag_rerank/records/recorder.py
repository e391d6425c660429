"""Recording: calls are noted as they end, and written to a file behind them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from time import time as wall
from types import TracebackType
from uuid import uuid4

from rag_rerank._clock import now
from rag_rerank._lazy import loaded
from rag_rerank._watching import Asked, Ended, check_tags, unwatch, watch
from rag_rerank.errors import ConfigError
from rag_rerank.records._line import Call, Counts, Line
from rag_rerank.records.file import RecordFile
from rag_rerank.types import Ranking

__all__ = ["KEEP", "MAX_BYTES", "Recorder", "check_options", "recording"]

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

    def began(self, asked: Asked) -> Ended | None:
        """Note when a call begins, unless it is left out."""
        if asked.inner and not self._inner:
            return None
        if not self._line.chosen(self._share):
            return None
        id, time, started = uuid4().hex, wall(), now()

        def ended(ranking: Ranking | None, error: BaseException | None) -> None:
            self._line.offer(Call(asked, ranking, error, id, time, now() - started))

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
        if line := type(self)._line.peek(self):
            line.flush()

    def __enter__(self) -> Recorder:
        self.open()
        watch(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        unwatch(self)
        self.flush()

    @loaded
    def _line(self) -> Line:
        return Line(RecordFile(self._path, *self._bounds), self._texts, self._tags)


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
