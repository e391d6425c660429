"""Where an evaluation keeps its records, so that nothing is scored twice: a file of JSON lines for each config."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, field
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

__all__ = ["AnswerStore", "Key", "identity", "key_of"]

Key = bytes
"""A hash of what a reranker was asked: the query, and ids and texts of the candidates in their order."""


def identity(reranker: Reranker, depth: int) -> str | None:
    """Return a hash of all that decides what a reranker answers; ``None`` where that cannot be known.

    It covers the config, `Reranker.identity` (the content of model files and of a calibration map), the depth, and this
    package's version.

    Raises:
        ConfigError: A calibration map cannot be read.
        ModelLoadError: A model's files cannot be found or read.
    """
    try:
        config = to_config(reranker)
    except ConfigError:  # a live object, or a class without a name
        if not isinstance(reranker, PointwiseReranker) or reranker.why_not_cacheable is not None:
            return None
        config = {}
    return digest(json.dumps([config, reranker.identity, depth, __version__], sort_keys=True))


def key_of(query_sha256: str, candidates: Sequence[tuple[str, str]]) -> Key:
    """Return the key of a query's hash and of its candidates' ids and text hashes, in the first stage's order."""
    from hashlib import sha256

    return sha256(json.dumps([query_sha256, candidates]).encode()).digest()


def request_of(query: str, candidates: Sequence[Candidate]) -> Key:
    """Return the key of a question."""
    return key_of(digest(query), [(candidate.id, digest(candidate.text)) for candidate in candidates])


@dataclass
class AnswerStore:
    """The records of one config, as a context manager; with no file, nothing is found and nothing is kept.

    Records are appended one by one, so that whatever ends the process costs the call that ran.

    Args:
        file: Where they are; made when there is something to keep.

    Raises:
        ConfigError: The file cannot be read or written, or another evaluation is writing it.
    """

    file: Path | None
    _busy: FileLock | None = field(default=None, init=False)
    _lock: Lock = field(default_factory=Lock, init=False)

    @classmethod
    def under(cls, folder: str | os.PathLike[str] | None, reranker: Reranker, depth: int) -> Self:
        """Return the records of a reranker in a folder of records."""
        name = None if folder is None else identity(reranker, depth)
        if folder is None or name is None:
            return cls(None)
        readable = re.sub(r"[^A-Za-z0-9.]+", "-", reranker.label)[:40].strip("-.")
        return cls(Path(folder) / f"{readable}-{name[:32]}.jsonl")

    def __enter__(self) -> Self:
        if self.file is None:
            return self
        from filelock import FileLock, Timeout

        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            self._busy = FileLock(f"{self.file}.lock", timeout=0)
            self._busy.acquire()
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
        if self._busy is not None:
            self._busy.release()

    def records(self, wanted: Container[Key]) -> Iterator[tuple[Key, Record]]:
        """Yield the records of wanted questions, one at a time; those that failed are to be tried again."""
        if self.file is None:
            return
        for record in read(self.file, bad=_request_of):
            entries = sorted(record.candidates, key=lambda entry: entry.first_rank)
            key = key_of(record.query_sha256, [(entry.id, entry.sha256) for entry in entries])
            if record.error is None and key in wanted:
                yield key, record

    def keep(self, record: Record) -> None:
        """Append a record; threads may do so at once."""
        if self.file is None:
            return
        try:
            with self._lock:
                append(self.file, record.to_line())
        except OSError as error:
            raise self._unusable(error) from error

    def _unusable(self, error: Exception) -> ConfigError:
        return ConfigError(f"records cannot be kept in {self.file}: {reason(error)}; name another folder")


def _request_of(line: BadLine) -> None:
    """Leave out a line that is no record: its question is asked again."""
