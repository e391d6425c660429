"""A file of lines that many processes write to: whole lines only, of bounded size."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from rag_rerank._lazy import load_once
from rag_rerank.errors import ConfigError
from rag_rerank.records.reader import rotated
from rag_rerank.records.record import SCHEMA

if TYPE_CHECKING:
    from filelock import FileLock

__all__ = ["REFUSED", "RecordFile", "append", "reason"]

_PATIENCE = 10.0
"""Seconds to wait for other writers, who write for milliseconds."""

REFUSED = (OSError, NotImplementedError)
"""What a file system says no with; the latter is filelock's word for one that has no locks."""

_HEAD = f'{{"schema": "{SCHEMA}"'.encode()
"""How a file begins that may be written to."""

_FLAGS = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0)


class RecordFile:
    """Appends records to a file, behind a lock that all processes respect (``FILE.lock``, beside it).

    The file is opened for each line and nothing of it is kept meanwhile, so that whoever moves or removes it disturbs
    nobody. It is made for its owner's eyes only.

    Args:
        path: The file, absolute.
        max_bytes: Size that it never passes: before, it becomes ``FILE.1``, which was ``FILE.2`` before, and so on.
        keep: How many of those there are at most; the oldest goes.
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
        """Make the file if it is not there, and its folder.

        Raises:
            ConfigError: It cannot be written, or holds something else.
        """
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with self._lock, _open(self.path) as file:
                head = os.read(file, len(_HEAD))
        except REFUSED as error:
            raise ConfigError(f"records cannot be written to {self.path}: {reason(error)}") from error
        if not _HEAD.startswith(head):
            raise ConfigError(f"{self.path} holds something else than records as {SCHEMA!r} has them; name a new file")
        self._checked = True

    def append(self, lines: Sequence[bytes]) -> list[str]:
        """Append lines that end in a line feed, each whole or not at all; return why, for each that was lost."""
        lost = []
        try:
            if not self._checked:
                self.check()
            with self._lock:
                for line in lines:
                    try:
                        self._append(line)
                    except OSError as error:
                        lost.append(f"{self.path}: {reason(error)}")
        except REFUSED as error:
            return [f"{self.path}: {reason(error)}"] * len(lines)
        except ConfigError as error:
            return [str(error)] * len(lines)
        return lost

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
                os.replace(rotated(self.path, number - 1), rotated(self.path, number))  # noqa: PTH105
        self.path.replace(rotated(self.path, 1))


def append(path: Path, line: bytes) -> None:
    """Append a line that ends in a line feed, whole or not at all; with no line, make sure that one could be.

    What another writer left when it was stopped in the middle of a line gets a line of its own. Nobody else may write
    meanwhile.

    Raises:
        OSError: It cannot be written; what was there stays.
    """
    with _open(path) as file:
        size = os.fstat(file).st_size
        if size and _last(file) != b"\n":
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


def _last(file: int) -> bytes:
    os.lseek(file, -1, os.SEEK_END)
    return os.read(file, 1)


def reason(error: Exception) -> str:
    """Return a refusal in words."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
