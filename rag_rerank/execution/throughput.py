"""The throughput of a reranker, estimated from its calls."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from threading import Lock

__all__ = ["Throughput", "estimated_tokens"]

_MEMORY = 0.9
"""The weight of an observation falls by this factor with the next one: some ten calls count."""

_SPREAD = 1e-3
"""Relative variance of the work, below which the fixed cost of a call cannot be separated."""


def estimated_tokens(query: str, texts: Iterable[str], window: float = math.inf) -> list[float]:
    """Estimate the tokens of each pair of query and text, at four bytes a token.

    Args:
        query: Read again with each text.
        texts: The texts to score.
        window: Tokens that the model reads of a pair at most.
    """
    query_bytes = _bytes(query)
    return [min((query_bytes + _bytes(text)) / 4 + 4, window) for text in texts]


class Throughput:
    """A straight line, ``seconds = start + rate * work``, fitted to the last calls by least squares.

    May be shared by threads.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._sums: tuple[float, ...] = (0.0,) * 5  # 1, x, y, xx, xy, all with fading weights

    def note(self, work: float, seconds: float) -> None:
        """Add a call to the fit."""
        with self._lock:
            new = (1.0, work, seconds, work * work, work * seconds)
            self._sums = tuple(_MEMORY * old + fresh for old, fresh in zip(self._sums, new, strict=True))

    def texts_within(self, works: Sequence[float], seconds: float) -> int | None:
        """Return how many pieces of work, from the first on, fit into the time; ``None`` before the first call."""
        line = self._line()
        if line is None:
            return None
        start, rate = line
        fitting, total = 0, start
        for work in works:
            total += rate * work
            if total > seconds:
                break
            fitting += 1
        return fitting

    def _line(self) -> tuple[float, float] | None:
        """Return the start and the rate of the line; ``None`` before the first call."""
        with self._lock:
            n, x, y, xx, xy = self._sums
        if xx == 0:
            return None
        spread = n * xx - x * x
        if spread > _SPREAD * n * xx:
            rate = (n * xy - x * y) / spread
            start = (y - rate * x) / n
            if rate >= 0 and start >= 0:
                return start, rate
            if rate < 0:  # the work does not matter
                return y / n, 0.0
        return 0.0, xy / xx


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
