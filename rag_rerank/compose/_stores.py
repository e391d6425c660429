"""Where a cache keeps scores: what it asks of a store, and the one in memory (`_database` has the one on disk).

No store holds a text. Each forgets the scores that were used least recently when there are too many.
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from time import time as clock
from typing import NamedTuple, Protocol

from rag_rerank.trace import Coverage

__all__ = ["Kept", "MemoryStore", "Store", "clock", "fresh"]


class Kept(NamedTuple):
    """What is kept of a text: its raw score and its coverage, where that was known."""

    score: float
    coverage: Coverage | None


class Store(Protocol):
    """Scores by key; threads may share it. What went wrong without harm to the scores goes into ``notes``."""

    def find(self, keys: Sequence[bytes], notes: list[str]) -> dict[bytes, Kept]:
        """Return what there is of these keys."""

    def keep(self, scores: Mapping[bytes, Kept], notes: list[str]) -> None:
        """Add scores, or replace them."""

    def close(self) -> None:
        """Release what is open; a later `find` finds nothing."""


class MemoryStore:
    """Scores in this process."""

    def __init__(self, max_entries: int, ttl: float | None) -> None:
        self._max_entries = max_entries
        self._ttl = ttl
        self._lock = threading.Lock()
        self._entries: OrderedDict[bytes, tuple[Kept, float]] = OrderedDict()

    def find(self, keys: Sequence[bytes], notes: list[str]) -> dict[bytes, Kept]:
        """Return what there is of these keys."""
        first, last = fresh(self._ttl, clock())
        found = {}
        with self._lock:
            for key in keys:
                kept, made = self._entries.get(key, (None, 0.0))
                if kept is not None and first <= made <= last:
                    self._entries.move_to_end(key)
                    found[key] = kept
        return found

    def keep(self, scores: Mapping[bytes, Kept], notes: list[str]) -> None:
        """Add scores, or replace them."""
        now = clock()
        with self._lock:
            for key, kept in scores.items():
                self._entries[key] = kept, now
                self._entries.move_to_end(key)
            while len(self._entries) > self._max_entries:
                self._entries.popitem(last=False)

    def close(self) -> None:
        """Forget all."""
        with self._lock:
            self._entries.clear()


def fresh(ttl: float | None, now: float) -> tuple[float, float]:
    """Return between which times a score must have been made."""
    return (-math.inf, math.inf) if ttl is None else (now - ttl, now)
