"""The contrasts in ``probes.jsonl``."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from itertools import combinations
from math import factorial
from pathlib import Path
from typing import Any

from rag_rerank.errors import InputError, did_you_mean

__all__ = ["FILE", "VERSION", "Contrast", "suite"]

FILE = Path(__file__).with_name("probes.jsonl")

VERSION = 1
"""Version of the suite; rates of different versions cannot be compared."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Contrast:
    """A query with a passage that answers it and up to three that do not, or less well.

    Args:
        id: Kind and number, ``"negation-03"``.
        kind: What the contrast tests.
        query: The query.
        better: The passage that must be above all others.
        worse: The others; from better to worse if ``ordered``.
        ordered: Whether the worse passages must keep their order, too.
        why: What makes the difference, in a sentence.
    """

    id: str
    kind: str
    query: str
    better: str
    worse: tuple[str, ...]
    ordered: bool = False
    why: str

    @property
    def passages(self) -> tuple[str, ...]:
        """All passages, the better one first."""
        return (self.better, *self.worse)

    @property
    def pairs(self) -> tuple[tuple[int, int], ...]:
        """Pairs of positions in ``passages``; the first must be above the second."""
        pairs = combinations(range(len(self.passages)), 2)
        return tuple((above, below) for above, below in pairs if self.ordered or above == 0)

    @property
    def chance(self) -> float:
        """Probability that a random order passes."""
        count = len(self.passages)
        return 1 / (factorial(count) if self.ordered else count)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON-ready values."""
        return {**asdict(self), "worse": list(self.worse)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Contrast:
        """Rebuild it from `to_dict`."""
        return cls(**{**data, "worse": tuple(data["worse"])})


def suite(kinds: Collection[str] | None = None) -> tuple[Contrast, ...]:
    """Return the contrasts, in the order of the file.

    Args:
        kinds: The kinds of contrasts to return; ``None`` for all.

    Raises:
        InputError: ``kinds`` is empty, or one of them is unknown; the message names the known kinds.
    """
    all_kinds = {contrast.kind: None for contrast in _read()}
    if kinds is None:
        return _read()
    if isinstance(kinds, str) or not kinds:
        raise InputError(f"kinds must name at least one kind in a list, got {kinds!r}; known: {', '.join(all_kinds)}")
    for kind in kinds:
        if kind not in all_kinds:
            raise InputError(f"unknown kind of probe {kind!r}{did_you_mean(kind, all_kinds)}")
    return tuple(contrast for contrast in _read() if contrast.kind in kinds)


@cache
def _read() -> tuple[Contrast, ...]:
    _, *lines = FILE.read_text(encoding="utf-8").splitlines()  # the first line says what the file is
    return tuple(Contrast.from_dict(json.loads(line)) for line in lines)
