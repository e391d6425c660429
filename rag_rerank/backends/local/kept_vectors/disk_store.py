"""Vectors of texts in a folder on disk, by LMDB: memory-mapped, shared by processes, whole after a crash.

LMDB (Howard Chu, "MDB: A Memory-Mapped Database and Backend for OpenLDAP", 2011) keeps the old pages until a new
version is complete. So readers see the state before or after a write, never between, and a process that is killed
leaves the last complete state. One process writes at a time; others wait for it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rag_rerank._files import absolute_path
from rag_rerank._lazy import need
from rag_rerank.backends.local.kept_vectors.store import KEY_BYTES, StoreStats
from rag_rerank.errors import ConfigError

__all__ = ["MAX_BYTES", "DiskStore"]

MAX_BYTES = 4 * 2**30
"""Bytes of rows that a folder may hold by default: those of some 100,000 texts of 100 tokens at int8."""

_LAYOUT = b"rag_rerank.vectors/1"
_PAGE_OVERHEAD, _SPARE = 2, 64 * 2**20
"""The file may take so many times the bytes of the rows, and so many bytes more: a row fills whole pages, and a write
needs pages beside those in use."""

_READERS = 1024
"""Threads and processes that read at the same time, at most."""

_ROWS, _KEY_OF_ID, _IDS_OF_KEY, _ARRIVALS, _FACTS = b"rows", b"key of id", b"ids of key", b"arrivals", b"facts"
_BYTES, _LAYOUT_KEY = b"bytes", b"layout"
_LONGEST_ID = 500
"""Bytes of an id in LMDB at most (its own bound is 511); a longer one is kept by its SHA-256."""


class DiskStore:
    """Rows in a folder, for any number of threads and processes on one machine.

    Rows that were put with an id stay until they are deleted. Rows without one, of texts that were encoded at first
    sight, make room for new ones where ``max_bytes`` is reached, the oldest first.

    Args:
        path: The folder. If it does not exist, it is created; only its owner may read its files.
        max_bytes: Bytes of rows at most. On Windows the file has this size from the start, elsewhere it grows.
        read_only: Open an index that may not be changed, such as one on a read-only file system. Where the lock file
            cannot be written either, no other process may write to the folder meanwhile.

    Raises:
        ConfigError: The folder cannot be used, is damaged, or is of something else.
        MissingExtraError: The package lmdb is not installed.
    """

    def __init__(self, path: str | os.PathLike[str], *, max_bytes: int = MAX_BYTES, read_only: bool = False) -> None:
        self.path = absolute_path(path)
        self.max_bytes = max_bytes
        self.read_only = read_only
        self._environment: _Environment | None = _open(self.path, max_bytes, read_only)

    def get(self, keys: Sequence[bytes]) -> list[bytes | memoryview | None]:
        """Return the row of each key, in the order of the keys; ``None`` where there is none."""
        with self._transaction() as (transaction, tables):
            return [transaction.get(key, db=tables[_ROWS]) for key in keys]

    def has(self, keys: Sequence[bytes]) -> list[bool]:
        """Return whether there is a row for each key, without reading it."""
        with self._transaction() as (transaction, tables), transaction.cursor(tables[_ROWS]) as cursor:
            return [cursor.set_key(key) for key in keys]

    def put(self, rows: Mapping[bytes, bytes], ids: Mapping[str, bytes] | None = None) -> None:
        """Keep rows under their keys in one step that is on disk when it returns.

        Args:
            rows: Rows by key; a key that is there already keeps its row.
            ids: The key of each id. A row that an id named before, and that no other id names, is deleted.

        Raises:
            ConfigError: The disk or the store is full, or the folder is read-only. Nothing of this call is kept.
                Rows without an id that find no room are left out instead.
        """
        with self._transaction(write=True) as (transaction, tables):
            table = _Table(transaction, tables, self.max_bytes, self.path)
            keys_with_id = set() if ids is None else set(ids.values())
            for key, row in rows.items():
                table.add(key, row, has_id=key in keys_with_id)
            for name, key in (ids or {}).items():
                table.assign(_id_bytes(name), key)

    def delete(self, ids: Iterable[str]) -> int:
        """Delete ids, and the rows that no other id names; return how many of the ids were there."""
        with self._transaction(write=True) as (transaction, tables):
            table = _Table(transaction, tables, self.max_bytes, self.path)
            return sum(table.unassign(_id_bytes(name)) for name in ids)

    @property
    def stats(self) -> StoreStats:
        """What the folder holds now."""
        with self._transaction() as (transaction, tables):
            texts = transaction.stat(tables[_ROWS])["entries"]
            return StoreStats(texts, _number(transaction.get(_BYTES, db=tables[_FACTS])), self.max_bytes)

    @property
    def ids(self) -> int:
        """How many ids name a row."""
        with self._transaction() as (transaction, tables):
            return int(transaction.stat(tables[_KEY_OF_ID])["entries"])

    def close(self) -> None:
        """Close the folder, as soon as no other store of this process uses it."""
        environment, self._environment = self._environment, None
        if environment is not None:
            _release(environment)

    @contextmanager
    def _transaction(self, *, write: bool = False) -> Iterator[tuple[Any, Mapping[bytes, Any]]]:
        """Begin a transaction; it is complete when the block ends without an error."""
        import lmdb

        if write and self.read_only:
            raise ConfigError(f"{self.path} was opened with read_only, so nothing can be kept in it", path="store")
        environment = self._environment
        if environment is None:
            raise ConfigError(f"{self.path} was closed", path="store")
        if environment.process != os.getpid():  # LMDB must not be used across fork
            environment = self._environment = _open(self.path, self.max_bytes, self.read_only)
        try:
            with environment.lmdb.begin(write=write) as transaction:
                yield transaction, environment.tables
        except lmdb.MapFullError as error:
            raise _full(self.path, self.max_bytes) from error
        except (lmdb.Error, OSError) as error:
            raise _unusable(self.path, error) from error


@dataclass(frozen=True)
class _Table:
    """The rows, ids and figures of a folder within one write."""

    transaction: Any
    tables: Mapping[bytes, Any]
    max_bytes: int
    path: Path

    def add(self, key: bytes, row: bytes, *, has_id: bool) -> None:
        """Keep a row; one without an id (not ``has_id``) only if there is room."""
        rows = self.tables[_ROWS]
        if len(key) != KEY_BYTES:
            raise ValueError(f"a key has {KEY_BYTES} bytes, not {len(key)}")
        if self.transaction.get(key, db=rows) is not None:
            return
        if not self._has_room(len(row)):
            if has_id:
                raise _full(self.path, self.max_bytes)
            return
        self.transaction.put(key, row, db=rows)
        self._count(len(row))
        if not has_id:
            with self.transaction.cursor(self.tables[_ARRIVALS]) as cursor:
                last = _number(cursor.key()) if cursor.last() else 0
            self.transaction.put(_bytes(last + 1), key, db=self.tables[_ARRIVALS])

    def assign(self, name: bytes, key: bytes) -> None:
        """Let an id name a row, and no other one any more."""
        if self.transaction.get(key, db=self.tables[_ROWS]) is None:
            raise ValueError("an id names a key without a row")
        if self.transaction.get(name, db=self.tables[_KEY_OF_ID]) == key:
            return
        self.unassign(name)
        self.transaction.put(name, key, db=self.tables[_KEY_OF_ID])
        self.transaction.put(key, name, db=self.tables[_IDS_OF_KEY])

    def unassign(self, name: bytes) -> bool:
        """Delete an id, and its row if no other id names it; return whether there was such an id."""
        key = self.transaction.pop(name, db=self.tables[_KEY_OF_ID])
        if key is None:
            return False
        self.transaction.delete(key, name, db=self.tables[_IDS_OF_KEY])
        if self.transaction.get(key, db=self.tables[_IDS_OF_KEY]) is None:
            self.remove(key)
        return True

    def remove(self, key: bytes) -> None:
        """Delete a row with the ids that name it."""
        row = self.transaction.pop(key, db=self.tables[_ROWS])
        if row is None:
            return
        self._count(-len(row))
        with self.transaction.cursor(self.tables[_IDS_OF_KEY]) as cursor:
            names = list(cursor.iternext_dup()) if cursor.set_key(key) else []
        for name in names:
            self.transaction.delete(name, db=self.tables[_KEY_OF_ID])
        if names:
            self.transaction.delete(key, db=self.tables[_IDS_OF_KEY])

    def _has_room(self, size: int) -> bool:
        """Whether a row fits, after the oldest rows without an id were removed where that helps."""
        if size > self.max_bytes:
            return False
        while self._bytes() + size > self.max_bytes:
            with self.transaction.cursor(self.tables[_ARRIVALS]) as cursor:
                if not cursor.first():
                    return False
                key = cursor.value()
                cursor.delete()
            if self.transaction.get(key, db=self.tables[_IDS_OF_KEY]) is None:
                self.remove(key)
        return True

    def _bytes(self) -> int:
        return _number(self.transaction.get(_BYTES, db=self.tables[_FACTS]))

    def _count(self, size: int) -> None:
        self.transaction.put(_BYTES, _bytes(self._bytes() + size), db=self.tables[_FACTS])


@dataclass
class _Environment:
    """An open folder; LMDB allows a process to open one only once."""

    process: int
    place: tuple[Path, bool]
    lmdb: Any
    tables: Mapping[bytes, Any]
    uses: int = 1


_environments: dict[tuple[Path, bool], _Environment] = {}
_opening = threading.Lock()


def _open(path: Path, max_bytes: int, read_only: bool) -> _Environment:
    """Open a folder, or share it with another store of this process."""
    with _opening:
        with suppress(OSError):
            path = path.resolve()
        place = (path, read_only)
        shared = _environments.get(place)
        if shared is not None and shared.process == os.getpid():
            shared.uses += 1
            return shared
        if shared is not None:
            shared.lmdb.close()  # inherited by fork: this closes the child's copy only
        environment = _Environment(os.getpid(), place, *_open_folder(path, max_bytes, read_only))
        _environments[place] = environment
        return environment


def _release(environment: _Environment) -> None:
    with _opening:
        environment.uses -= 1
        if not environment.uses and environment.process == os.getpid():
            _environments.pop(environment.place, None)
            environment.lmdb.close()


def _open_folder(path: Path, max_bytes: int, read_only: bool) -> tuple[Any, Mapping[bytes, Any]]:
    lmdb = need("lmdb", extra="store")
    file, locks = path / "data.mdb", path / "lock.mdb"
    try:
        if read_only and not file.is_file():
            raise FileNotFoundError(2, "there is no index in it")
        if not read_only:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        elif max_bytes < file.stat().st_size:
            max_bytes = file.stat().st_size
        environment = lmdb.open(
            str(path),
            map_size=_map_size(max_bytes),
            max_dbs=5,
            max_readers=_READERS,
            mode=0o600,
            create=not read_only,
            readonly=read_only,
            lock=not read_only or os.access(locks if locks.exists() else path, os.W_OK),
            metasync=False,  # a power failure may lose the last write, but damages nothing
            readahead=False,
        )
    except (lmdb.Error, OSError) as error:
        raise _unusable(path, error) from error
    try:
        _check_length(environment, file)
        environment.reader_check()  # places of processes that were killed
        return environment, _open_tables(environment, path, read_only)
    except (lmdb.Error, OSError) as error:
        environment.close()
        raise _unusable(path, error) from error
    except BaseException:
        environment.close()
        raise


def _open_tables(environment: Any, path: Path, read_only: bool) -> Mapping[bytes, Any]:
    import lmdb

    names = (_ROWS, _KEY_OF_ID, _IDS_OF_KEY, _ARRIVALS, _FACTS)
    try:
        is_new = environment.stat()["entries"] == 0 and not read_only
        if is_new:
            with environment.begin(write=True) as transaction:
                for name in names:
                    environment.open_db(name, transaction, dupsort=name == _IDS_OF_KEY)
                transaction.put(_LAYOUT_KEY, _LAYOUT, db=environment.open_db(_FACTS, transaction))
        tables = {name: environment.open_db(name, create=False, dupsort=name == _IDS_OF_KEY) for name in names}
        with environment.begin() as transaction:
            layout = transaction.get(_LAYOUT_KEY, db=tables[_FACTS])
    except lmdb.NotFoundError as error:
        raise ConfigError(f"{path} is a database of something else; name another folder", path="store") from error
    if layout != _LAYOUT:
        raise ConfigError(
            f"{path} is an index of another version of rag_rerank; name another folder, or delete this one and index "
            "the texts again",
            path="store",
        )
    return tables


def _check_length(environment: Any, file: Path) -> None:
    """Raise if the file is shorter than its own last page: reading beyond its end would kill the process."""
    needed = (environment.info()["last_pgno"] + 1) * environment.stat()["psize"]
    if file.stat().st_size < needed:
        raise OSError(5, f"{file.name} was cut off: it has {file.stat().st_size} bytes and needs {needed}")


def _map_size(max_bytes: int) -> int:
    return (max_bytes * _PAGE_OVERHEAD + _SPARE) // 2**16 * 2**16


def _unusable(path: Path, error: Exception) -> ConfigError:
    reason = (error.strerror or error) if isinstance(error, OSError) else error
    return ConfigError(
        f"{path} cannot be used as a store of text vectors: {reason}; make it writable, set read_only if it is "
        "complete, name another folder, or delete it if it is damaged and index the texts again",
        path="store",
    )


def _full(path: Path, max_bytes: int) -> ConfigError:
    return ConfigError(
        f"{path} is full: its rows may take {max_bytes} bytes; raise max_bytes, or delete texts that are not needed",
        path="store.max_bytes",
    )


def _id_bytes(name: str) -> bytes:
    """Return an id as LMDB stores it."""
    from hashlib import sha256

    text = name.encode("utf-8", "surrogatepass")
    return b"t" + text if len(text) <= _LONGEST_ID else b"h" + sha256(text).digest()


def _bytes(number: int) -> bytes:
    return number.to_bytes(8, "big")


def _number(data: bytes | None) -> int:
    return int.from_bytes(data or b"", "big")
