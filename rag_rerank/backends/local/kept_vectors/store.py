"""What keeps the vectors of texts: the protocol of a store, and its figures.

A store maps keys to rows and knows nothing of what is in a row. A key is a SHA-256 over all that decides the vectors:
the model's files, its tokenizer, the cut, the precision, the pooling, and the text as it is read. So a row that is
found under a key is always right, and a changed model or text can never hit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

__all__ = ["KEY_BYTES", "StoreStats", "VectorStore"]

KEY_BYTES = 32
"""Length of a key: that of a SHA-256."""


@dataclass(frozen=True, slots=True)
class StoreStats:
    """What a store holds at one moment.

    Args:
        texts: Number of texts whose vectors are kept.
        bytes: Bytes of their rows, keys not counted.
        max_bytes: The bound on `bytes`; ``None`` where there is none.
    """

    texts: int
    bytes: int
    max_bytes: int | None

    @property
    def bytes_per_text(self) -> float:
        """Mean bytes of a row; 0.0 where the store is empty."""
        return self.bytes / self.texts if self.texts else 0.0


class VectorStore(Protocol):
    """A store of the vectors of texts; any number of threads may use one at the same time."""

    @property
    def path(self) -> Path | None:
        """The folder that it is in; ``None`` for memory."""

    def get(self, keys: Sequence[bytes]) -> list[bytes | memoryview | None]:
        """Return the row of each key, in the order of the keys; ``None`` where there is none.

        Callers read rows and never change them. A row stays valid after `put` and `close`, for as long as the caller
        holds it.
        """

    def put(self, rows: Mapping[bytes, bytes], ids: Mapping[str, bytes] | None = None) -> None:
        """Keep rows under their keys, within the bound of the store; a key that is there already keeps one row.

        Args:
            rows: Rows by key.
            ids: The key of each id, for `delete`; a store without ids leaves them out.

        Raises:
            ConfigError: The rows cannot be kept.
        """

    def delete(self, ids: Iterable[str]) -> int:
        """Delete ids, and the rows that no other id names; return how many of the ids were there.

        Raises:
            ConfigError: The store keeps no ids, or may not be changed.
        """

    @property
    def stats(self) -> StoreStats:
        """What the store holds now."""

    def close(self) -> None:
        """Release what the store holds; it is not used afterwards."""
