"""Vectors of texts in memory, within a bound of bytes; those used least recently make room."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from threading import Lock

from rag_rerank.backends.local.kept_vectors.store import StoreStats
from rag_rerank.errors import ConfigError

__all__ = ["MAX_BYTES", "MemoryVectorStore"]

MAX_BYTES = 64 * 2**20
"""Bytes of rows by default: those of some 450 texts of 100 tokens of the embedded model in fp32, or 1,700 in int8."""


class MemoryVectorStore:
    """Rows in memory, for the threads of one process.

    Args:
        max_bytes: Bytes of rows at most. A row that is larger is not kept, so 0 keeps nothing.
    """

    path: None = None

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self.max_bytes = max_bytes
        self._rows: OrderedDict[bytes, bytes] = OrderedDict()  # least recently used first
        self._bytes = 0
        self._lock = Lock()

    def get(self, keys: Sequence[bytes]) -> list[bytes | memoryview | None]:
        """Return the row of each key, in the order of the keys; ``None`` where there is none."""
        rows: list[bytes | memoryview | None] = []
        with self._lock:
            for key in keys:
                row = self._rows.get(key)
                if row is not None:
                    self._rows.move_to_end(key)
                rows.append(row)
        return rows

    def put(self, rows: Mapping[bytes, bytes], ids: Mapping[str, bytes] | None = None) -> None:
        """Keep rows under their keys, and no ids; a key that is there already keeps its row."""
        with self._lock:
            for key, row in rows.items():
                if len(row) > self.max_bytes or key in self._rows:
                    continue
                self._rows[key] = row
                self._bytes += len(row)
                while self._bytes > self.max_bytes:
                    _, oldest = self._rows.popitem(last=False)
                    self._bytes -= len(oldest)

    def delete(self, ids: Iterable[str]) -> int:
        """Refuse to delete.

        Raises:
            ConfigError: Always, because there are no ids here.
        """
        raise ConfigError("vectors in memory have no ids; keep them in a folder, or close the reranker", path="store")

    @property
    def stats(self) -> StoreStats:
        """What is kept now."""
        with self._lock:
            return StoreStats(len(self._rows), self._bytes, self.max_bytes)

    def close(self) -> None:
        """Forget all rows."""
        with self._lock:
            self._rows.clear()
            self._bytes = 0
