"""Where in a reranker something stands, such as its local models: the way there, by fields and positions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

from rag_rerank.base import Reranker

__all__ = ["Place", "inside", "shown", "with_replaced"]

T = TypeVar("T")

Place = tuple[str | int, ...]
"""``("stages", 1, "reranker")``: names of fields and positions in tuples, as in the config; empty at the root."""


def inside(value: Any, kind: type[T], place: Place = ()) -> Iterator[tuple[Place, T]]:
    """Yield all of a kind that a reranker holds, itself included, each with its place."""
    if isinstance(value, kind):
        yield place, value
    elif isinstance(value, tuple):
        for i, item in enumerate(value):
            yield from inside(item, kind, (*place, i))
    elif is_dataclass(value) and not isinstance(value, type):
        for f in fields(value):
            yield from inside(getattr(value, f.name), kind, (*place, f.name))


def with_replaced(value: Any, place: Place, reranker: Reranker) -> Any:
    """Return a reranker with another one at a place."""
    if not place:
        return reranker
    first, *rest = place
    if isinstance(first, int):
        return (*value[:first], with_replaced(value[first], tuple(rest), reranker), *value[first + 1 :])
    return replace(value, **{first: with_replaced(getattr(value, first), tuple(rest), reranker)})


def shown(place: Place) -> str:
    """Write a place as error messages do: ``stages[1].reranker``."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in place).removeprefix(".")
