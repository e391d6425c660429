"""Checks of config values: each raises a `ConfigError` that names the field, the rule and the value."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Collection
from pathlib import Path

from rag_rerank.errors import ConfigError, did_you_mean

__all__ = ["at_least", "finite_positive", "number", "one_of", "path_text", "share", "whole_number"]


def one_of(value: object, choices: Collection[str], path: str) -> None:
    """Raise unless a field holds one of these words; the message names the nearest one."""
    if value not in choices:
        hint = did_you_mean(value, choices) if isinstance(value, str) else f"; known: {', '.join(choices)}"
        raise ConfigError(f"unknown {_field(path)} {value!r:.80}{hint}", path=path)


def at_least(value: float, least: float, path: str) -> None:
    """Raise unless a number is at least ``least``."""
    if not value >= least:
        raise ConfigError(f"{_field(path)} must be at least {least}, got {value}", path=path)


def whole_number(value: object, least: int, path: str) -> None:
    """Raise unless a value is an integer of at least ``least``; ``True`` and ``1.0`` are not accepted."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigError(f"must be a whole number of at least {least}, got {value!r:.80}", path=path)


def finite_positive(value: float, path: str) -> None:
    """Raise unless a number is finite and more than 0."""
    if not (value > 0 and math.isfinite(value)):
        raise ConfigError(f"{_field(path)} must be a finite number of more than 0, got {value}", path=path)


def share(value: float, path: str) -> None:
    """Raise unless a number is more than 0 and at most 1."""
    if not 0 < value <= 1:
        raise ConfigError(f"{_field(path)} must be more than 0 and at most 1, got {value}", path=path)


def number(value: object, path: str, least: float = -math.inf, most: float = math.inf) -> float:
    """Return a finite number within bounds as a float; raise for anything else, including a truth value."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) <= sys.float_info.max:
        raise ConfigError(f"expected a finite number, got {value!r:.60}", path=path)
    if not least <= value <= most:
        limits = f"of at least {least:g}" if most == math.inf else f"in {least:g}..{most:g}"
        raise ConfigError(f"expected a number {limits}, got {value!r:.60}", path=path)
    return float(value)


def path_text(path: str | os.PathLike[str]) -> str:
    """Return a path as a config holds it: a relative one begins with ``./``, so that it is no name of anything else."""
    text = os.fspath(path)
    return text if text.startswith((".", "~", os.sep)) or Path(text).is_absolute() else f".{os.sep}{text}"


def _field(path: str) -> str:
    return path.rpartition(".")[2]
