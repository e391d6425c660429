"""Which store a config means, and how it is opened."""

from __future__ import annotations

import os
from dataclasses import dataclass

from rag_rerank._checks import plain_fields, whole_number
from rag_rerank._files import FilePath
from rag_rerank.backends.local.kept_vectors.disk_store import MAX_BYTES, DiskStore
from rag_rerank.backends.local.kept_vectors.memory_store import MAX_BYTES as MEMORY_BYTES
from rag_rerank.backends.local.kept_vectors.memory_store import MemoryVectorStore
from rag_rerank.backends.local.kept_vectors.store import VectorStore
from rag_rerank.errors import ConfigError

__all__ = ["StoreSettings", "open_store"]


@dataclass(frozen=True, kw_only=True)
class StoreSettings:
    """Where the vectors of texts are kept.

    Args:
        path: A folder on a local disk, which threads and processes share. Without it, vectors are kept in memory until
            the reranker is closed.
        max_bytes: The most bytes of vectors. By default 64 MiB in memory, where those used least recently make room,
            and 4 GiB in a folder, where texts that were never indexed make room, the oldest first.
        read_only: Whether to open a folder without ever changing it, such as one on a read-only file system. Texts that
            are not in it are encoded at each call.

    Raises:
        ConfigError: A value is out of its range, or ``read_only`` is set without a folder.
    """

    path: FilePath | None = None
    max_bytes: int | None = None
    read_only: bool = False

    def __post_init__(self) -> None:
        plain_fields(self)
        if self.path is not None:
            object.__setattr__(self, "path", os.fspath(self.path))
            if not self.path.strip():
                raise ConfigError("the path is blank; leave it out to keep vectors in memory", path="path")
        elif self.read_only:
            raise ConfigError("only a folder can be read_only; name its path", path="read_only")
        if self.max_bytes is not None:
            whole_number(self.max_bytes, 1, "max_bytes")


def open_store(settings: StoreSettings | None) -> VectorStore:
    """Open the store; without settings, one that keeps nothing.

    Raises:
        ConfigError: A folder cannot be used.
    """
    if settings is None:
        return MemoryVectorStore(max_bytes=0)
    if settings.path is None:
        return MemoryVectorStore(settings.max_bytes or MEMORY_BYTES)
    return DiskStore(settings.path, max_bytes=settings.max_bytes or MAX_BYTES, read_only=settings.read_only)
