"""The result of probing a reranker, as plain data."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any

from rag_rerank.evaluation.probes.suite import Contrast
from rag_rerank.text.short_repr import short_repr
from rag_rerank.types import Scale

__all__ = ["SCHEMA", "KindResult", "MissedContrast", "ProbeReport"]

SCHEMA = "rag_rerank.probes/1"
"""Name and version of the layout."""

_Z = NormalDist().inv_cdf(0.975)


@dataclass(frozen=True, kw_only=True, slots=True)
class KindResult:
    """How many contrasts of one kind a reranker got right.

    Args:
        kind: The kind; ``"all"`` for all kinds together.
        passed: How many passed.
        total: How many there are.
        chance: Share that a random order passes on average.
    """

    kind: str
    passed: int
    total: int
    chance: float

    @property
    def rate(self) -> float:
        """Share that passed, from 0 to 1."""
        return self.passed / self.total

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the rate by Wilson's score method (Wilson, JASA 1927).

        It says how far the rate may differ with other contrasts of the same kind.
        """
        n, z = self.total, _Z
        middle = (self.rate + z * z / (2 * n)) / (1 + z * z / n)
        half = z / (1 + z * z / n) * math.sqrt(self.rate * (1 - self.rate) / n + z * z / (4 * n * n))
        return max(0.0, middle - half), min(1.0, middle + half)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON-ready values, with the rate and the ends of its interval."""
        low, high = self.interval
        return {**asdict(self), "rate": self.rate, "low": low, "high": high}


@dataclass(frozen=True, kw_only=True, slots=True)
class MissedContrast:
    """A contrast that did not pass.

    Args:
        contrast: The contrast.
        scores: The score of each of its passages, the better one first, on the report's scale; ``None``: not scored.
        margin: The smallest difference of raw scores between a passage and one that must be below it: negative if
            these two are in the wrong order, 0 for a tie. ``None`` if a passage has no score.
    """

    contrast: Contrast
    scores: tuple[float | None, ...]
    margin: float | None

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON-ready values."""
        return {"contrast": self.contrast.to_dict(), "scores": list(self.scores), "margin": self.margin}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> MissedContrast:
        """Rebuild it from `to_dict`."""
        contrast = Contrast.from_dict(data["contrast"])
        return cls(contrast=contrast, scores=tuple(data["scores"]), margin=data["margin"])


@dataclass(frozen=True, kw_only=True, slots=True)
class ProbeReport:
    """What one reranker got right and what it missed.

    Args:
        name: The name or file of its config, or its label.
        label: Its name in traces.
        model: Model with its revision, as in the trace; ``None`` for composites and where there is none.
        scale: Scale of its scores.
        suite: Version of the suite.
        version: Version of the library.
        time: When it was probed, ISO 8601, UTC.
        kinds: One result for each kind, in the order of the suite.
        missed: The contrasts that did not pass, in the order of the suite.
        truncated: Passages of which the model read only the beginning; ``None`` where no coverage is known.
        degraded: Contrasts whose ranking was not quite what was asked for (for example, a fallback answered).
    """

    name: str
    label: str
    model: str | None
    scale: Scale
    suite: int
    version: str
    time: str
    kinds: tuple[KindResult, ...]
    missed: tuple[MissedContrast, ...]
    truncated: int | None
    degraded: int

    __repr__ = short_repr

    def _repr_html_(self) -> str:
        """Return a table of the kinds of contrasts for notebooks."""
        from rag_rerank.text.html import section, table

        rows = [
            (
                row.kind,
                f"{row.passed:,} of {row.total:,}",
                f"{row.rate:.0%}",
                "{:.0%} to {:.0%}".format(*row.interval),
                f"{row.chance:.0%}",
            )
            for row in (self.all, *self.kinds)
        ]
        lines = [f"Warning: only the beginning of {self.truncated:,} passages was read."] if self.truncated else []
        lines += [f"Degraded: {self.degraded:,} contrasts"] if self.degraded else []
        heading = ("kind", "#passed", "#share", "#95 % interval", "#by chance")
        return section(f"Probes of {self.name} ({self.scale})", lines, table(heading, rows, len(rows), "kinds"))

    @property
    def all(self) -> KindResult:
        """All kinds together; the kinds say more than their sum."""
        total = sum(row.total for row in self.kinds)
        chance = sum(row.chance * row.total for row in self.kinds) / total
        return KindResult(kind="all", passed=sum(row.passed for row in self.kinds), total=total, chance=chance)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON-ready values; the first key names the layout."""
        plain = {name: getattr(self, name) for name in ("name", "label", "model", "scale", "suite", "version", "time")}
        return {
            "schema": SCHEMA,
            **plain,
            "all": self.all.to_dict(),
            "kinds": [row.to_dict() for row in self.kinds],
            "missed": [row.to_dict() for row in self.missed],
            "truncated": self.truncated,
            "degraded": self.degraded,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ProbeReport:
        """Rebuild it from `to_dict`."""
        plain = {name: value for name, value in data.items() if name not in ("schema", "all", "kinds", "missed")}
        rows = [{name: row[name] for name in ("kind", "passed", "total", "chance")} for row in data["kinds"]]
        return cls(
            **plain,
            kinds=tuple(KindResult(**row) for row in rows),
            missed=tuple(MissedContrast.from_dict(row) for row in data["missed"]),
        )
