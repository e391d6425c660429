"""What providers charge: tokens and search units by estimate, prices as data (``prices.json``), and the ledger."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path
from threading import Lock

from rag_rerank._checks import plain_fields
from rag_rerank.errors import ConfigError
from rag_rerank.trace import Usage

__all__ = [
    "Ledger",
    "ListedModel",
    "Price",
    "is_over",
    "list_price",
    "listed_models",
    "pair_tokens",
    "search_units",
    "text_tokens",
    "token_usage",
    "unit_usage",
]

_UNIT_TEXTS, _UNIT_TOKENS = 100, 500
"""A search unit of Cohere is up to 100 texts; one of more than 500 tokens, with the query, counts as several."""


@dataclass(frozen=True, kw_only=True)
class Price:
    """The price of a provider, in US dollars. Give exactly one of the first two keys.

    Args:
        per_million_tokens: US dollars for 1,000,000 tokens that a model reads. A rerank API counts the query once for
            each text.
        per_thousand_search_units: US dollars for 1,000 search units, each of up to 100 texts of up to 500 tokens.
        per_million_output_tokens: US dollars for 1,000,000 tokens that a language model writes, beside
            ``per_million_tokens``. By default they cost nothing.

    Raises:
        ConfigError: None or both of the first two are given, ``per_million_output_tokens`` stands beside search units,
            or a value is negative or not finite.
    """

    per_million_tokens: float | None = None
    per_thousand_search_units: float | None = None
    per_million_output_tokens: float | None = None

    def __post_init__(self) -> None:
        plain_fields(self)
        if (self.per_million_tokens is None) == (self.per_thousand_search_units is None):
            raise ConfigError("give exactly one of per_million_tokens and per_thousand_search_units")
        if self.per_million_output_tokens is not None and self.per_million_tokens is None:
            raise ConfigError(
                "tokens that are written are billed beside per_million_tokens only", path="per_million_output_tokens"
            )
        for name, value in ((f.name, getattr(self, f.name)) for f in fields(self)):
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if value is not None and not (number and value >= 0 and math.isfinite(value)):
                raise ConfigError(f"{name} must be finite and at least 0 dollars, got {value!r}", path=name)

    def billed_cost(self, usage: Usage) -> float | None:
        """Return the cost of what an answer says was billed; ``None`` where it says nothing."""
        if self.per_million_tokens is not None:
            if usage.tokens is None:
                return None
            return self._token_cost(usage.tokens, usage.output_tokens or 0)
        assert self.per_thousand_search_units is not None
        return None if usage.search_units is None else usage.search_units * self.per_thousand_search_units / 1_000

    def estimate(self, tokens: Sequence[int], output_tokens: int = 0) -> float:
        """Return the cost of a request, by the estimated tokens of each text with the query, and of the answer."""
        if self.per_million_tokens is not None:
            return self._token_cost(sum(tokens), output_tokens)
        assert self.per_thousand_search_units is not None
        return search_units(tokens) * self.per_thousand_search_units / 1_000

    def _token_cost(self, tokens: int, output_tokens: int) -> float:
        cost = tokens * (self.per_million_tokens or 0.0) + output_tokens * (self.per_million_output_tokens or 0.0)
        return cost / 1_000_000


def text_tokens(text: str) -> int:
    """Estimate the tokens of a text as a quarter of its UTF-8 bytes, rounded up.

    For English prose that is the usual rule of four characters a token. Scripts with two or three bytes a character
    have more tokens a character, and so more bytes. Numbers and code can have twice as many tokens.
    """
    return -(-len(text.encode()) // 4)


def pair_tokens(query: str, texts: Sequence[str]) -> list[int]:
    """Estimate the tokens that providers count for each text: its own and the query's."""
    query_tokens = text_tokens(query)
    return [query_tokens + text_tokens(text) for text in texts]


def search_units(tokens: Sequence[int]) -> int:
    """Return the search units of a request, by the estimated tokens of each text with the query."""
    chunks = sum(max(1, -(-count // _UNIT_TOKENS)) for count in tokens)
    return -(-chunks // _UNIT_TEXTS)


def token_usage(count: int | None, query: str, texts: Sequence[str], *, suspect: bool = False) -> Usage:
    """Return the usage for the tokens that an answer names, or our estimate where that number counts characters.

    Infinity does, and a gateway passes its number on. It is the sum of the characters of each text and the query, white
    space around them left out.

    Args:
        count: The number in the answer; ``None`` without one.
        query: The query.
        texts: The texts of the request.
        suspect: Whether the server is known for it. Then a number of tokens must also be plausible: no more than one
            for two characters.
    """
    sums = {
        sum(len(query) + len(text) for text in texts),
        sum(len(query.strip()) + len(text.strip()) for text in texts),
    }
    if count is None or not (count in sums or (suspect and 2 * count > min(sums))):
        return Usage(tokens=count)
    return Usage(tokens=sum(pair_tokens(query, texts)), estimated=("tokens",))


def unit_usage(units: float | None, query: str, texts: Sequence[str]) -> Usage:
    """Return the usage for the search units that an answer names, or our estimate where they must be something else.

    No text has so many chunks that it makes a unit by itself, unless it is very long; some gateways put the number of
    tokens there. So that an estimate of tokens that is too low does no harm, four times as many units are believed.
    """
    if units is None:
        return Usage()
    tokens = pair_tokens(query, texts)
    if units <= sum(max(1, -(-4 * count // _UNIT_TOKENS)) for count in tokens):
        return Usage(search_units=units)
    return Usage(search_units=float(search_units(tokens)), estimated=("search_units",))


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


@dataclass(frozen=True, kw_only=True)
class ListedModel:
    """A model of a provider with a known price.

    Args:
        backend: The type that calls it.
        model: Its name at the provider.
        price: The list price.
        source: Where the price was read, and when.
        window: Most tokens of query and text together; ``None`` where it is not known.
        languages: Languages that its documentation names; ``None`` where it names none.
        quality: Published figures by the name of their measure.
    """

    backend: str
    model: str
    price: Price
    source: str
    window: int | None = None
    languages: str | None = None
    quality: Mapping[str, float] = field(default_factory=dict, hash=False)


@cache
def listed_models() -> tuple[ListedModel, ...]:
    """Return the models of providers whose prices are known, in the order of ``prices.json``."""
    facts = json.loads(Path(__file__).with_name("models.json").read_text(encoding="utf-8"))["models"]
    by_name = {(row.pop("backend"), row.pop("model")): row for row in facts}
    rows = json.loads(Path(__file__).with_name("prices.json").read_text(encoding="utf-8"))
    source_of = {
        (row["backend"], model): f"{row['source']} ({row['as_of']})" for row in rows for model in row["models"]
    }
    return tuple(
        ListedModel(backend=name[0], model=name[1], price=price, source=source_of[name], **by_name.get(name, {}))
        for name, price in _table().items()
    )


class Ledger:
    """The money that a process has spent with one key, and that its requests in flight may cost, in US dollars."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._total = 0.0
        self._reserved = 0.0

    @property
    def total(self) -> float:
        """US dollars spent on the requests that were answered."""
        return self._total

    def reserve(self, cost: float, later: float, ceiling: float | None) -> float | None:
        """Set money aside for a request.

        Args:
            cost: What the request may cost.
            later: What the rest of its call may cost.
            ceiling: The most that may be spent in all; ``None`` for no limit.

        Returns:
            ``None`` where it is set aside, else what was spent or set aside before.
        """
        with self._lock:
            before = self._total + self._reserved
            if is_over(before + cost + later, ceiling):
                return before
            self._reserved += cost
            return None

    def settle(self, reserved: float, cost: float) -> None:
        """Replace what was set aside by what was spent."""
        with self._lock:
            self._reserved -= reserved
            self._total += cost


def is_over(dollars: float, ceiling: float | None) -> bool:
    """Whether a sum is over a ceiling, beyond rounding: sums of decimals are not exact. False without a ceiling."""
    return ceiling is not None and dollars > ceiling * (1 + 1e-9)
