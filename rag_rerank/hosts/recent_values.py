"""Values of the latest calls, so that each step of an agent's turn does not compute the same again."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Iterable
from typing import Generic, TypeVar

__all__ = ["RecentValues"]

T = TypeVar("T")


class RecentValues(Generic[T]):
    """A store of the values that were used last, for several threads.

    Args:
        limit: How many values it keeps.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._values: OrderedDict[bytes, T] = OrderedDict()
        self._lock = threading.Lock()

    @staticmethod
    def key(texts: Iterable[str]) -> bytes:
        """Return the key of a sequence of texts."""
        digest = hashlib.sha256()
        for text in texts:
            raw = text.encode("utf-8", "surrogatepass")
            digest.update(len(raw).to_bytes(8, "big") + raw)
        return digest.digest()

    def get(self, key: bytes) -> T | None:
        """Return the value of a key, or ``None``."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
            return self._values.get(key)

    def put(self, key: bytes, value: T) -> None:
        """Keep a value, and forget the one that was not used for the longest time."""
        with self._lock:
            self._values[key] = value
            self._values.move_to_end(key)
            if len(self._values) > self._limit:
                self._values.popitem(last=False)
