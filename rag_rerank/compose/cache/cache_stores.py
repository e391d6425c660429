"""Stores for the scores of a cache: memory, or an SQLite file that processes share. Nothing is unpickled."""

from __future__ import annotations

import json
import math
import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from time import time as clock
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from rag_rerank._files import absolute_path
from rag_rerank.errors import ConfigError
from rag_rerank.text.relevance import RelevantSpan
from rag_rerank.trace import Coverage

if TYPE_CHECKING:
    import sqlite3
    from pathlib import Path

__all__ = ["FileStore", "MemoryStore", "Store", "StoredScore", "check_cache_file", "clock"]

_BUSY_SECONDS = 30.0
"""Seconds to wait for other writers; they write for milliseconds."""

_USED_EVERY = 60.0
"""Seconds after which a use is noted again: a hit should not cost a write."""

_AT_ONCE = 900
"""Variables in one statement; older builds of SQLite take 999."""

_SMALLEST = 512
"""Bytes of the smallest database."""

_APPLICATION_ID, _LAYOUT = 0x52524B43, 2  # "RRKC"

_TABLES = (
    "CREATE TABLE scores (key BLOB PRIMARY KEY, score REAL NOT NULL, total INTEGER, seen INTEGER, made REAL NOT NULL, "
    "used REAL NOT NULL, spans TEXT) WITHOUT ROWID",
    "CREATE INDEX by_use ON scores (used)",
    f"PRAGMA application_id = {_APPLICATION_ID}",
)


_ADD_SPANS = "ALTER TABLE scores ADD COLUMN spans TEXT"
"""What layout 1 lacks."""


class StoredScore(NamedTuple):
    """The raw score of a text, and its coverage and its relevant spans where they are known."""

    score: float
    coverage: Coverage | None
    spans: tuple[RelevantSpan, ...] | None = None


class Store(Protocol):
    """Scores by key; threads may share it. Problems that cost no score are added to ``notes``."""

    def find(self, keys: Sequence[bytes], notes: list[str]) -> dict[bytes, StoredScore]:
        """Return the scores of those keys that are in the store."""

    def put(self, scores: Mapping[bytes, StoredScore], notes: list[str]) -> None:
        """Add scores, or replace them."""

    def close(self) -> None:
        """Release everything that is open; a later `find` finds nothing."""


class MemoryStore:
    """Scores in the memory of this process.

    Args:
        max_entries: Scores at most; those used least recently are removed first.
        ttl: Seconds after which a score expires; ``None`` for never.
    """

    def __init__(self, max_entries: int, ttl: float | None) -> None:
        self._max_entries = max_entries
        self._ttl = ttl
        self._lock = threading.Lock()
        self._entries: OrderedDict[bytes, tuple[StoredScore, float]] = OrderedDict()

    def find(self, keys: Sequence[bytes], notes: list[str]) -> dict[bytes, StoredScore]:
        """Return the scores of those keys that are in the store."""
        first, last = _valid_times(self._ttl, clock())
        scores = {}
        with self._lock:
            for key in keys:
                score, time = self._entries.get(key, (None, 0.0))
                if score is not None and first <= time <= last:
                    self._entries.move_to_end(key)
                    scores[key] = score
        return scores

    def put(self, scores: Mapping[bytes, StoredScore], notes: list[str]) -> None:
        """Add scores, or replace them."""
        now = clock()
        with self._lock:
            for key, score in scores.items():
                self._entries[key] = score, now
                self._entries.move_to_end(key)
            while len(self._entries) > self._max_entries:
                self._entries.popitem(last=False)

    def close(self) -> None:
        """Forget all scores."""
        with self._lock:
            self._entries.clear()


def _valid_times(ttl: float | None, now: float) -> tuple[float, float]:
    """Return the first and the last time at which a score may have been stored to be found now."""
    return (-math.inf, math.inf) if ttl is None else (now - ttl, now)


_creating = threading.Lock()
"""Held while a file is created: closing a second handle of a file drops SQLite's locks on it (POSIX)."""


class _Opened(NamedTuple):
    process: int
    lock: threading.Lock
    connection: sqlite3.Connection


class FileStore:
    """Scores in an SQLite file, for any number of threads and processes on one machine.

    One connection a process, behind a lock; a child of ``fork`` opens its own. Each `find` is one or a few SELECTs,
    each `put` one transaction. Uses are noted to the minute, so that a hit rarely writes.

    Args:
        path: The file. If it does not exist, it is created, and so is its folder; only its owner may read them.
        max_entries: Scores at most; those used least recently are removed first.
        ttl: Seconds after which a score expires; ``None`` for never.

    Raises:
        ConfigError: The file cannot be read and written, or is not such a cache.
    """

    def __init__(self, path: str, max_entries: int, ttl: float | None) -> None:
        self._path = absolute_path(path)
        self._max_entries = max_entries
        self._ttl = ttl
        self._closed = False
        self._opened = self._open()

    def find(self, keys: Sequence[bytes], notes: list[str]) -> dict[bytes, StoredScore]:
        """Return the scores of those keys that are in the store.

        Raises:
            ConfigError: The file cannot be read any more.
        """
        import sqlite3

        now = clock()
        rows: list[tuple[Any, ...]] = []
        try:
            with self._connection() as connection:
                if connection is None:
                    return {}
                for start in range(0, len(keys), _AT_ONCE):
                    batch = keys[start : start + _AT_ONCE]
                    rows += connection.execute(
                        "SELECT key, score, total, seen, spans, used FROM scores "
                        f"WHERE key IN ({','.join('?' * len(batch))}) AND made BETWEEN ? AND ?",
                        (*batch, *_valid_times(self._ttl, now)),
                    )
        except sqlite3.Error as error:
            raise self._unusable(error) from error
        old_uses = [(now, key) for key, *_, last_use in rows if abs(now - last_use) > _USED_EVERY]
        if old_uses:
            self._write("UPDATE scores SET used = ? WHERE key = ?", old_uses, notes)
        return {
            key: StoredScore(
                score,
                None if total is None else Coverage(total, max(read, ~read), estimated=read < 0),
                None if spans is None else tuple(RelevantSpan(*span) for span in json.loads(spans)),
            )
            for key, score, total, read, spans, _ in rows
        }

    def put(self, scores: Mapping[bytes, StoredScore], notes: list[str]) -> None:
        """Add scores, or replace them. A full disk, or another writer that does not end, is only noted.

        Raises:
            ConfigError: The file is damaged.
        """
        now = clock()
        rows = []
        for key, (score, coverage, spans) in scores.items():
            total, read = (coverage.total, coverage.seen) if coverage else (None, None)
            if coverage and coverage.estimated:
                read = ~coverage.seen  # below 0; an estimate needs no column of its own
            content = None if spans is None else json.dumps([list(span.to_dict().values()) for span in spans])
            rows.append((key, score, total, read, now, now, content))
        self._write("INSERT OR REPLACE INTO scores VALUES (?, ?, ?, ?, ?, ?, ?)", rows, notes)

    def close(self) -> None:
        """Close this process's connection; calls that still run find and store nothing more."""
        process, lock, connection = self._opened
        if process == os.getpid():
            with lock:
                self._closed = True
                connection.close()

    def _write(self, statement: str, rows: Sequence[tuple[Any, ...]], notes: list[str]) -> None:
        import sqlite3

        try:
            with self._connection() as connection:
                if connection is not None:
                    with _transaction(connection):
                        connection.executemany(statement, rows)
                        self._evict(connection)
        except sqlite3.OperationalError as error:
            notes.append(f"the cache {self._path} could not be written: {error}")
        except sqlite3.Error as error:
            raise self._unusable(error) from error

    def _evict(self, connection: sqlite3.Connection) -> None:
        (count,) = connection.execute("SELECT count(*) FROM scores").fetchone()
        if count > self._max_entries:
            connection.execute(
                "DELETE FROM scores WHERE key IN (SELECT key FROM scores ORDER BY used LIMIT ?)",
                (count - self._max_entries,),
            )

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection | None]:
        """Hold this process's connection; ``None`` if another thread has just closed it."""
        if self._opened.process != os.getpid():
            self._inherited = self._opened  # the parent's, which a child must neither use nor close
            self._opened = self._open()
        opened = self._opened
        with opened.lock:
            yield None if self._closed else opened.connection

    def _open(self) -> _Opened:
        import sqlite3

        try:
            with _creating:
                self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                with suppress(FileExistsError):
                    os.close(os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
            if 0 < self._path.stat().st_size < _SMALLEST:
                raise sqlite3.DatabaseError("file is not a database")  # SQLite would take it for an empty one
            connection = sqlite3.connect(
                self._path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
        except (OSError, sqlite3.Error) as error:
            raise self._unusable(error) from error
        finish = weakref.finalize(self, _close, os.getpid(), connection)
        try:
            with _transaction(connection):
                self._create_tables(connection)
            with suppress(sqlite3.OperationalError):  # "locked": another process is doing the same
                connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
        except sqlite3.Error as error:
            finish()
            raise self._unusable(error) from error
        except ConfigError:
            finish()
            raise
        return _Opened(os.getpid(), threading.Lock(), connection)

    def _create_tables(self, connection: sqlite3.Connection) -> None:
        """Create the tables in an empty file; refuse the file of another program or layout."""
        (owner,) = connection.execute("PRAGMA application_id").fetchone()
        (layout,) = connection.execute("PRAGMA user_version").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if not owner and not tables:
            for statement in _TABLES:
                connection.execute(statement)
        elif owner != _APPLICATION_ID:
            raise _foreign(self._path)
        elif layout == _LAYOUT - 1:
            connection.execute(_ADD_SPANS)
        elif layout != _LAYOUT:
            raise _other_version(self._path)
        connection.execute(f"PRAGMA user_version = {_LAYOUT}")  # always, to learn now whether the file can be written

    def _unusable(self, error: Exception) -> ConfigError:
        return _unusable(self._path, error)


def check_cache_file(path: str, seconds: float) -> int:
    """Check that an existing file can be used as a score cache, without changing it; return how many scores it has.

    Args:
        path: The file.
        seconds: How long to wait for another process that writes.

    Raises:
        ConfigError: It is no score cache of this layout or the one before, it is damaged, or it is locked for longer.
    """
    import sqlite3

    file = absolute_path(path)
    try:
        connection = sqlite3.connect(f"{file.as_uri()}?mode=rw", uri=True, timeout=seconds, isolation_level=None)
        try:
            (owner,) = connection.execute("PRAGMA application_id").fetchone()
            (layout,) = connection.execute("PRAGMA user_version").fetchone()
            if owner != _APPLICATION_ID:
                raise _foreign(file)
            if layout not in (_LAYOUT - 1, _LAYOUT):
                raise _other_version(file)
            connection.execute("BEGIN IMMEDIATE")  # fails where another process holds the file
            try:
                (count,) = connection.execute("SELECT count(*) FROM scores").fetchone()
            finally:
                connection.execute("ROLLBACK")
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise _unusable(file, error) from error
    return int(count)


def _foreign(file: Path) -> ConfigError:
    return ConfigError(f"{file} is a database of something else; name another file", path="path")


def _other_version(file: Path) -> ConfigError:
    return ConfigError(
        f"{file} is a score cache of another version of rag_rerank; name another file, or delete this one, which loses "
        "cached scores only",
        path="path",
    )


def _unusable(file: Path, error: Exception) -> ConfigError:
    reason = error.strerror if isinstance(error, OSError) else error
    return ConfigError(
        f"{file} cannot be used as a score cache: {reason}; make its folder writable, name another file, or delete "
        "this one if it is a damaged cache",
        path="path",
    )


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # some errors have rolled back already
            connection.execute("ROLLBACK")
        raise


def _close(process: int, connection: sqlite3.Connection) -> None:
    """Close a connection in the process that opened it; a forked child must not."""
    if process == os.getpid():
        connection.close()
