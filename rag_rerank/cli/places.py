"""Where in a reranker its local models stand: the way to each, by fields and positions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from typing import Any

from rag_rerank.backends._local import LocalReranker
from rag_rerank.base import Composite, Reranker

__all__ = ["Place", "local_models", "shown", "with_replaced"]

Place = tuple[str | int, ...]
"""``("stages", 1, "reranker")``: names of fields and positions in tuples, as in the config; empty at the root."""


def local_models(value: Any, place: Place = ()) -> Iterator[tuple[Place, LocalReranker]]:
    """Yield the local rerankers inside a reranker, itself included, each with its place."""
    if isinstance(value, LocalReranker):
        yield place, value
    elif isinstance(value, tuple):
        for i, item in enumerate(value):
            yield from local_models(item, (*place, i))
    elif isinstance(value, Composite) or (is_dataclass(value) and not isinstance(value, (Reranker, type))):
        for f in fields(value):
            yield from local_models(getattr(value, f.name), (*place, f.name))


def with_replaced(value: Any, place: Place, reranker: LocalReranker) -> Any:
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
