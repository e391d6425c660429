"""Store the answers of an evaluation, so that nothing is scored twice: one file of records for each config."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from rag_rerank._version import __version__
from rag_rerank.base import PointwiseReranker, Reranker
from rag_rerank.config import to_config
from rag_rerank.errors import ConfigError
from rag_rerank.records.file import REFUSED, append, reason
from rag_rerank.records.reader import BadLine, read
from rag_rerank.records.record import Record, digest
from rag_rerank.types import Candidate

if TYPE_CHECKING:
    from filelock import FileLock
    from typing_extensions import Self

__all__ = ["AnswerStore", "Key", "request_key"]

Key = bytes
"""A hash of a request: the query, and ids and texts of the candidates in their order."""


def request_key(query: str, candidates: Sequence[Candidate]) -> Key:
    """Return the key of a request."""
    return _key_of_hashes(digest(query), [(candidate.id, digest(candidate.text)) for candidate in candidates])


@dataclass
class AnswerStore:
    """The records of one config, as a context manager. Without a file it is empty and stores nothing.

    Each record is appended at once, so that if the process ends, only the running call is lost.

    Args:
        file: Where the records are; created when needed.

    Raises:
        ConfigError: The file cannot be read or written, or another evaluation is writing it.
    """

    file: Path | None
    _file_lock: FileLock | None = field(default=None, init=False)
    _thread_lock: Lock = field(default_factory=Lock, init=False)

    @classmethod
    def under(cls, folder: str | os.PathLike[str] | None, reranker: Reranker, depth: int) -> Self:
        """Return the store of a reranker in a folder; it has no file if no hash identifies the reranker.

        Raises:
            ConfigError: A calibration map cannot be read.
            ModelLoadError: A model's files cannot be found or read.
        """
        name = None if folder is None else _config_hash(reranker, depth)
        if folder is None or name is None:
            return cls(None)
        label = re.sub(r"[^A-Za-z0-9.]+", "-", reranker.label)[:40].strip("-.")
        return cls(Path(folder) / f"{label}-{name[:32]}.jsonl")

    def __enter__(self) -> Self:
        if self.file is None:
            return self
        from filelock import FileLock, Timeout

        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            self._file_lock = FileLock(f"{self.file}.lock", timeout=0)
            self._file_lock.acquire()
            append(self.file, b"")
        except Timeout as error:
            raise ConfigError(
                f"another evaluation is writing {self.file}; wait for it, or use another folder"
            ) from error
        except REFUSED as error:
            self.__exit__()
            raise self._unusable(error) from error
        return self

    def __exit__(self, *_: Any) -> None:
        if self._file_lock is not None:
            self._file_lock.release()

    def records(self, keys: Container[Key]) -> Iterator[tuple[Key, Record]]:
        """Yield the successful records of these requests, one at a time."""
        if self.file is None:
            return
        for record in read(self.file, bad=_skip_bad_line):
            entries = sorted(record.candidates, key=lambda entry: entry.first_rank)
            key = _key_of_hashes(record.query_sha256, [(entry.id, entry.sha256) for entry in entries])
            if record.error is None and key in keys:
                yield key, record

    def keep(self, record: Record) -> None:
        """Append a record; threads may do so at the same time."""
        if self.file is None:
            return
        try:
            with self._thread_lock:
                append(self.file, record.to_line())
        except OSError as error:
            raise self._unusable(error) from error

    def _unusable(self, error: Exception) -> ConfigError:
        return ConfigError(f"records cannot be kept in {self.file}: {reason(error)}; name another folder")


def _config_hash(reranker: Reranker, depth: int) -> str | None:
    """Return a hash of everything that decides a reranker's answers; ``None`` where that cannot be known.

    It covers the config, `Reranker.identity` (the content of model files and of a calibration map), the depth, and
    this package's version.
    """
    try:
        config = to_config(reranker)
    except ConfigError:  # a live object, or a class without a name
        if not isinstance(reranker, PointwiseReranker) or reranker.why_not_cacheable is not None:
            return None
        config = {}
    return digest(json.dumps([config, reranker.identity, depth, __version__], sort_keys=True))


def _key_of_hashes(query_sha256: str, candidates: Sequence[tuple[str, str]]) -> Key:
    """Return the key for a query's hash, and the candidates' ids and text hashes in the first stage's order."""
    return sha256(json.dumps([query_sha256, candidates]).encode()).digest()


def _skip_bad_line(line: BadLine) -> None:
    """Skip a line that is not a record: its request is sent again."""
