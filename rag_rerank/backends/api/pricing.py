"""What providers charge, as data (``prices.json``), and what this process has spent."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from threading import Lock

from rag_rerank.errors import ConfigError
from rag_rerank.trace import Usage

__all__ = ["Ledger", "Price", "list_price", "search_units"]

_UNIT_TEXTS, _UNIT_TOKENS = 100, 500
"""A search unit of Cohere is up to 100 texts; one of more than 500 tokens, with the query, counts as several."""


@dataclass(frozen=True, kw_only=True)
class Price:
    """What a provider charges, in US dollars; exactly one of the two.

    Args:
        per_million_tokens: For 1,000,000 tokens, the query counted once for each text.
        per_thousand_search_units: For 1,000 search units, each of up to 100 texts of up to 500 tokens.

    Raises:
        ConfigError: None or both are given, or a value is negative or not finite.
    """

    per_million_tokens: float | None = None
    per_thousand_search_units: float | None = None

    def __post_init__(self) -> None:
        given = {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) is not None}
        if len(given) != 1:
            raise ConfigError("give exactly one of per_million_tokens and per_thousand_search_units")
        ((name, value),) = given.items()
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not (number and value >= 0 and math.isfinite(value)):
            raise ConfigError(f"{name} must be finite and at least 0 dollars, got {value!r}", path=name)

    def billed(self, usage: Usage) -> float | None:
        """Return the cost of what an answer says was billed; ``None`` where it does not say it."""
        if self.per_million_tokens is not None:
            return None if usage.tokens is None else usage.tokens * self.per_million_tokens / 1_000_000
        assert self.per_thousand_search_units is not None
        return None if usage.search_units is None else usage.search_units * self.per_thousand_search_units / 1_000

    def estimate(self, tokens: Sequence[int]) -> float:
        """Return the cost of a request by the estimated tokens of each text, the query's included."""
        if self.per_million_tokens is not None:
            return sum(tokens) * self.per_million_tokens / 1_000_000
        assert self.per_thousand_search_units is not None
        return search_units(tokens) * self.per_thousand_search_units / 1_000


def search_units(tokens: Sequence[int]) -> int:
    """Return the search units of a request by the estimated tokens of each text, the query's included."""
    chunks = sum(max(1, -(-count // _UNIT_TOKENS)) for count in tokens)
    return -(-chunks // _UNIT_TEXTS)


def list_price(backend: str, model: str) -> Price | None:
    """Return the price of a model at the provider itself, as of the date in ``prices.json``; ``None`` if unknown."""
    return _table().get((backend, model))


@cache
def _table() -> dict[tuple[str, str], Price]:
    rows = json.loads(Path(__file__).with_name("prices.json").read_text(encoding="utf-8"))
    names = [f.name for f in fields(Price)]
    return {
        (row["backend"], model): Price(**{name: row[name] for name in names if name in row})
        for row in rows
        for model in row["models"]
    }


class Ledger:
    """What a process has spent with one key, and what requests that are on their way may cost."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._spent = 0.0
        self._reserved = 0.0

    @property
    def spent(self) -> float:
        """US dollars, by the answers that came."""
        return self._spent

    def reserve(self, cost: float, later: float, ceiling: float | None) -> float | None:
        """Set money aside for a request.

        Args:
            cost: What the request may cost.
            later: What the rest of its call may cost.
            ceiling: What may be spent in all.

        Returns:
            ``None`` where it is set aside, else what was spent or set aside before.
        """
        with self._lock:
            before = self._spent + self._reserved
            if ceiling is not None and before + cost + later > ceiling * (1 + 1e-9):  # sums of decimals do not round
                return before
            self._reserved += cost
            return None

    def settle(self, reserved: float, spent: float) -> None:
        """Replace what was set aside by what was spent."""
        with self._lock:
            self._reserved -= reserved
            self._spent += spent
