"""The short form of an object for people: a repr whose length does not grow with the data in it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from dataclasses import MISSING, Field, fields, is_dataclass
from itertools import islice
from typing import Any

__all__ = ["short_repr"]

_ENOUGH = 1500
"""Characters within which one more level of detail is shown."""

_LEVELS = 5
"""Levels of nesting that are shown at most: ranking, hits, hit, candidate, metadata."""

_ITEMS = 3
"""Items of a collection that are shown; the others are counted."""

_TEXT = 80
"""Characters of a text that are shown."""


def short_repr(value: object) -> str:
    """Return a dataclass as a call with its fields: long texts are cut at ``…``, and further items are counted.

    Fields at their default are left out, and so are those that the dataclass does not show. As ``__repr__`` of a
    dataclass it keeps a result of any size readable.
    """
    text = ""
    for level in range(_LEVELS, 0, -1):
        text = _short(value, level)
        if len(text) <= _ENOUGH:
            break
    return text


def _short(value: object, level: int) -> str:
    try:
        if isinstance(value, (str, bytes)):
            return repr(value) if len(value) <= _TEXT else _cut(repr(value[:_TEXT]))
        if is_dataclass(value) and not isinstance(value, type):
            return _dataclass(value, level)
        if isinstance(value, Mapping):
            return _items((f"{_short(key, 0)}: {_short(item, level - 1)}" for key, item in value.items()), value, level)
        if isinstance(value, (list, tuple, Set)):
            return _items((_short(item, level - 1) for item in value), value, level)
        text = f"{value:.6g}" if type(value) is float else repr(value)
        return text if len(text) <= _TEXT else f"{text[:_TEXT]}…"
    except Exception:  # an object of the caller; its repr may raise anything
        return f"<{type(value).__name__}>"


def _cut(text: str) -> str:
    """Return the repr of a beginning with a sign for the rest before its quotation mark."""
    return f"{text[:-1]}…{text[-1]}"


def _dataclass(value: Any, level: int) -> str:
    name = type(value).__name__
    visible = [f for f in fields(value) if f.repr and not _is_default(f, getattr(value, f.name))]
    if level <= 0:
        return f"{name}({'…' if visible else ''})"
    return f"{name}({', '.join(f'{f.name}={_short(getattr(value, f.name), level - 1)}' for f in visible)})"


def _is_default(field: Field[Any], value: object) -> bool:
    default = field.default if field.default_factory is MISSING else field.default_factory()
    return type(value) is type(default) and bool(value == default)


def _items(items: Iterable[str], collection: Any, level: int) -> str:
    """Return the first items of a collection, and how many more there are."""
    number = _ITEMS if level > 0 else 0
    parts = list(islice(items, number))
    if rest := len(collection) - len(parts):
        parts.append(f"… {rest:,} more" if parts else f"… {rest:,}")
    inside = ", ".join(parts)
    if isinstance(collection, tuple):
        return f"({inside},)" if len(collection) == 1 and number else f"({inside})"
    return f"[{inside}]" if isinstance(collection, list) else f"{{{inside}}}"
