"""Checks of values: each raises a `ConfigError` that names the field, the rule and the value.

`finite`, `check_top_k` and `check_values` are for the data of a call, and raise an `InputError`.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Collection, Iterable
from dataclasses import fields
from operator import index
from pathlib import Path
from typing import Any

from rag_rerank.errors import ConfigError, InputError, did_you_mean

__all__ = [
    "at_least",
    "check_number",
    "check_top_k",
    "check_values",
    "describe",
    "finite",
    "finite_positive",
    "number",
    "one_of",
    "path_text",
    "plain",
    "plain_fields",
    "share",
    "whole_number",
]

_PLAIN = (str, int, float, bool, type(None))


def plain(value: Any) -> Any:
    """Return a scalar of numpy, or anything else that is a whole number, as Python's own type; others unchanged."""
    if type(value) in _PLAIN or isinstance(value, type):
        return value
    if getattr(value, "shape", None) == () and hasattr(value, "dtype") and hasattr(value, "item"):
        return value.item()
    if hasattr(value, "__index__") and not isinstance(value, (int, float)):
        try:
            return index(value)
        except TypeError:  # an array of several numbers has the method, too
            return value
    return value


def plain_fields(instance: Any) -> None:
    """Replace the scalars of numpy in the fields of a frozen dataclass, also inside tuples, by plain values."""
    for f in fields(instance):
        if f.metadata.get("live"):  # a client or another object of the caller
            continue
        value = getattr(instance, f.name)
        new = tuple(map(plain, value)) if type(value) is tuple else plain(value)
        if new is not value:
            object.__setattr__(instance, f.name, new)


def one_of(value: object, choices: Collection[str], path: str) -> None:
    """Raise unless a field holds one of these words; the message names the nearest one."""
    if not isinstance(value, str) or value not in choices:
        hint = did_you_mean(value, choices) if isinstance(value, str) else f"; known: {', '.join(choices)}"
        raise ConfigError(f"unknown {_field(path)} {value!r:.80}{hint}", path=path)


def at_least(value: float, least: float, path: str) -> None:
    """Raise unless a number is at least ``least``."""
    check_number(value, path)
    if not value >= least:
        raise ConfigError(f"{_field(path)} must be at least {least}, got {value}", path=path)


def whole_number(value: object, least: int, path: str) -> int:
    """Return a whole number of at least ``least`` as an int; raise for anything else, ``True`` and ``1.0`` included."""
    number = plain(value)
    if isinstance(number, bool) or not isinstance(number, int) or number < least:
        raise ConfigError(f"must be a whole number of at least {least}, got {value!r:.80}", path=path)
    return int(number)


def finite_positive(value: float, path: str) -> None:
    """Raise unless a number is finite and more than 0."""
    check_number(value, path)
    if not (value > 0 and math.isfinite(value)):
        raise ConfigError(f"{_field(path)} must be a finite number of more than 0, got {value}", path=path)


def share(value: float, path: str) -> None:
    """Raise unless a number is more than 0 and at most 1."""
    check_number(value, path)
    if not 0 < value <= 1:
        raise ConfigError(f"{_field(path)} must be more than 0 and at most 1, got {value}", path=path)


def number(value: object, path: str, least: float = -math.inf, most: float = math.inf) -> float:
    """Return a finite number within bounds as a float; raise for anything else, including a truth value."""
    own = plain(value)
    if isinstance(own, bool) or not isinstance(own, (int, float)) or not abs(own) <= sys.float_info.max:
        raise ConfigError(f"expected a finite number, got {value!r:.60}", path=path)
    if not least <= own <= most:
        limits = f"of at least {least:g}" if most == math.inf else f"in {least:g}..{most:g}"
        raise ConfigError(f"expected a number {limits}, got {value!r:.60}", path=path)
    return float(own)


def check_number(value: object, path: str) -> None:
    """Raise for what cannot be compared with a number, such as a text."""
    if not hasattr(value, "__float__") or getattr(value, "shape", ()) != ():
        raise ConfigError(f"{_field(path)} must be a number, got {value!r:.60}", path=path)


def finite(value: Any, what: str) -> float:
    """Return a number of a call as a finite float; ``what`` names it in the message.

    Raises:
        InputError: It is no number, or not finite.
    """
    if type(value) is float and math.isfinite(value):
        return value
    if isinstance(plain(value), (str, bytes, bool)):
        raise InputError(f"{what} must be a number, got {describe(value)}")
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{what} must be a number, got {describe(value)}") from error
    if not math.isfinite(number):
        raise InputError(f"{what} must be finite, got {number}")
    return number


def check_top_k(top_k: int | None) -> int | None:
    """Return ``top_k`` as an int, or ``None``.

    Raises:
        InputError: It is neither ``None`` nor a whole number of at least 1.
    """
    number = plain(top_k)
    if number is None:
        return None
    if isinstance(number, bool) or not isinstance(number, int) or number < 1:
        raise InputError(f"top_k must be a whole number of at least 1, or None for all, got {top_k!r:.80}")
    return int(number)


def check_values(values: Iterable[Any]) -> tuple[float, ...]:
    """Return plain finite floats.

    Raises:
        InputError: Some value is not a finite number; the message names its position.
    """
    return tuple(finite(value, f"score {i}") for i, value in enumerate(values))


def describe(value: object) -> str:
    """Return a value as a message shows it: of a long text, only what it is."""
    return f"{type(value).__name__}" if isinstance(value, (str, bytes)) and len(value) > 40 else f"{value!r:.60}"


def path_text(path: str | os.PathLike[str]) -> str:
    """Return a path as a config holds it: a relative one begins with ``./``, so that it is no name of anything else."""
    text = os.fspath(path)
    return text if text.startswith((".", "~", os.sep)) or Path(text).is_absolute() else f".{os.sep}{text}"


def _field(path: str) -> str:
    return path.rpartition(".")[2]
