"""A file that many processes append lines to: whole lines only, and with a bounded size."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from rag_rerank._lazy import load_once
from rag_rerank.documentation import RECORDS
from rag_rerank.errors import ConfigError
from rag_rerank.records.context_record import CONTEXT_SCHEMA
from rag_rerank.records.reader import rotated_name
from rag_rerank.records.record import SCHEMA

if TYPE_CHECKING:
    from filelock import FileLock

__all__ = ["REFUSED", "RecordFile", "append", "reason"]

_PATIENCE = 10.0
"""Seconds to wait for other writers, who write for milliseconds."""

REFUSED = (OSError, NotImplementedError)
"""Errors of file systems; filelock raises the latter where there are no locks."""

_HEADS = tuple(f'{{"schema": "{schema}"'.encode() for schema in (SCHEMA, CONTEXT_SCHEMA))
"""The beginnings of every file that records may be appended to; of a new file the record may be in the one before."""

_FLAGS = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0)


class RecordFile:
    """A file that records are appended to, under a lock that all processes respect (``FILE.lock``, beside it).

    The file is opened for each line and closed again, so that it may be moved or removed at any time. Only its owner
    may read it.

    Args:
        path: The file, absolute.
        max_bytes: The largest size of the file; before it would be exceeded, ``FILE.1`` becomes ``FILE.2`` and so on,
            and the file becomes ``FILE.1``.
        keep: How many such older files are kept; the oldest is deleted.
    """

    def __init__(self, path: Path, max_bytes: int, keep: int) -> None:
        self.path = path
        self._max_bytes = max_bytes
        self._keep = keep
        self._checked = False

    @load_once
    def _lock(self) -> FileLock:
        from filelock import FileLock

        return FileLock(f"{self.path}.lock", timeout=_PATIENCE, mode=0o600)

    def check(self) -> None:
        """Create the file and its folder if they are not there.

        Raises:
            ConfigError: The file cannot be written, or holds something else.
        """
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with self._lock, _open(self.path) as file:
                head = os.read(file, max(map(len, _HEADS)))
        except REFUSED as error:
            raise ConfigError(f"records cannot be written to {self.path}: {reason(error)}", page=RECORDS) from error
        if not any(own.startswith(head[: len(own)]) for own in _HEADS):
            raise ConfigError(
                f"{self.path} holds something else than records as {SCHEMA!r} has them; name a new file", page=RECORDS
            )
        self._checked = True

    def append(self, lines: Sequence[bytes]) -> list[str]:
        """Append lines that end in a line feed, each whole or not at all; return a reason for each that was lost."""
        losses = []
        try:
            if not self._checked:
                self.check()
            with self._lock:
                for line in lines:
                    try:
                        self._append(line)
                    except OSError as error:
                        losses.append(f"{self.path}: {reason(error)}")
        except REFUSED as error:
            return [f"{self.path}: {reason(error)}"] * len(lines)
        except ConfigError as error:
            return [str(error)] * len(lines)
        return losses

    def _append(self, line: bytes) -> None:
        if len(line) > self._max_bytes:
            raise OSError(errno.EFBIG, f"a record of {len(line)} bytes is larger than max_bytes ({self._max_bytes})")
        size = self.path.stat().st_size if self.path.exists() else 0
        if size and size + 1 + len(line) > self._max_bytes:
            self._rotate()
        append(self.path, line)

    def _rotate(self) -> None:
        for number in range(self._keep, 1, -1):
            with suppress(FileNotFoundError):
                os.replace(rotated_name(self.path, number - 1), rotated_name(self.path, number))  # noqa: PTH105
        self.path.replace(rotated_name(self.path, 1))


def append(path: Path, line: bytes) -> None:
    """Append a line that ends in a line feed, whole or not at all; an empty line checks that one could be appended.

    If a writer was stopped in the middle of the last line, a line feed is written first. No one else may write during
    the call.

    Raises:
        OSError: The line cannot be written; the file is as it was.
    """
    with _open(path) as file:
        size = os.fstat(file).st_size
        if size and _last_byte(file) != b"\n":
            line = b"\n" + line
        rest = memoryview(line)
        try:
            while rest:
                rest = rest[os.write(file, rest) :]
        except OSError:
            with suppress(OSError):
                os.ftruncate(file, size)
            raise


@contextmanager
def _open(path: Path) -> Iterator[int]:
    file = os.open(path, _FLAGS, 0o600)
    try:
        yield file
    finally:
        os.close(file)


def _last_byte(file: int) -> bytes:
    os.lseek(file, -1, os.SEEK_END)
    return os.read(file, 1)


def reason(error: Exception) -> str:
    """Return the message of an error of `REFUSED`."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
