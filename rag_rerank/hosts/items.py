"""The caller's documents or nodes: taken once, checked, and told apart by unique ids."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from math import isfinite
from typing import TypeVar

from rag_rerank.errors import InputError

__all__ = ["finite_score", "make_ids", "tag_ids", "take_items"]

T = TypeVar("T")


def take_items(items: Iterable[T], kind: type[T], name: str, advise: Callable[[object], str]) -> list[T]:
    """Return the caller's items as a list of our own: an iterator can be read once, and a list may change meanwhile.

    Args:
        items: What the caller gave: a list, tuple, generator, or anything else that can be iterated.
        kind: The class that each item must have.
        name: The argument's name; messages start with it.
        advise: Returns how to mend an item that is none of these, as the end of a sentence.

    Raises:
        InputError: It is one item, a mapping, a table, or nothing that can be iterated, or an item is of another class.
    """
    what = f"must be a list or another iterable of {kind.__name__}"
    if isinstance(items, kind):
        raise InputError(f"{name} {what}, got one; put it into a list: [{name.removesuffix('s')}]")
    if isinstance(items, (str, bytes)):
        raise InputError(f"{name} {what}, got one text; {advise(items)}")
    if isinstance(items, Mapping) or hasattr(items, "columns") or hasattr(type(items), "model_fields"):
        # iterating these gives keys, column names or fields
        raise InputError(f"{name} {what}, got {_describe(items)}; {advise(items)}")
    try:
        iterator = iter(items)
    except TypeError as error:
        hint = "; collect it first, in a list" if hasattr(items, "__aiter__") else ""
        hint = "; await it first" if hasattr(items, "__await__") else hint
        raise InputError(f"{name} {what}, got {_describe(items)}{hint}") from error
    out = []
    for position, item in enumerate(iterator):
        if not isinstance(item, kind):
            raise InputError(
                f"{name}[{position}] must be {_with_article(kind.__name__)}, got {_describe(item)}; {advise(item)}"
            )
        out.append(item)
    return out


def make_ids(own_ids: Sequence[str | None]) -> tuple[str, ...]:
    """Return one id an item: its own where no other item has it, else its position in the input.

    A position that is another item's own id becomes ``"position 3"``.

    Args:
        own_ids: The items' own ids; ``None`` or ``""`` for an item without one.
    """
    counts = Counter(own_ids)
    unique = {id for id, count in counts.items() if id and count == 1}
    ids = []
    for position, own_id in enumerate(own_ids):
        id = str(position)
        if own_id in unique:
            id = own_id
        else:
            while id in unique:
                id = f"position {id}"
        ids.append(id)
    return tuple(ids)


def tag_ids(ids: Sequence[str], own_ids: Sequence[str | None]) -> dict[str, str]:
    """Return the tag that says, in records, how many ids are positions; no tag where none is."""
    count = sum(id != own_id for id, own_id in zip(ids, own_ids, strict=True))
    if not count:
        return {}
    return {"rag_rerank.ids": f"{count} of {len(ids)} are positions: no id of their own, or one that occurs twice"}


def finite_score(score: float | None) -> float | None:
    """Return a first-stage score, or ``None`` for one that says nothing (NaN for an all-zero embedding)."""
    return score if score is not None and isfinite(score) else None


def _describe(item: object) -> str:
    return "None" if item is None else _with_article(type(item).__name__)


def _with_article(name: str) -> str:
    return f"{'an' if name[:1].lower() in 'aeio' else 'a'} {name}"
