"""Counts over a recording, in all and by reranker, in one pass over the records."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import ceil
from typing import Any

__all__ = ["overview"]


def overview(records: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return counts over all records and by reranker, most calls first, and the times of the first and last call."""
    everything = _Tally()
    by_reranker: dict[str, _Tally] = {}
    first = last = None
    for record in records:
        everything.add(record)
        by_reranker.setdefault(str(record.get("reranker")), _Tally()).add(record)
        if time := record.get("time"):
            first = min(first or time, time)
            last = max(last or time, time)
    ordered = sorted(by_reranker.items(), key=lambda item: -item[1].calls)
    return {
        **everything.to_dict(),
        "first": first,
        "last": last,
        "rerankers": [{"reranker": name, **tally.to_dict()} for name, tally in ordered],
    }


@dataclass
class _Tally:
    """Sums over calls. A figure that a call does not know is left out; ``*_known`` counts the calls that know it."""

    calls: int = 0
    errors: int = 0
    degraded: int = 0
    seconds: list[float] = field(default_factory=list)
    tokens: int = 0
    tokens_known: int = 0
    cost: float = 0.0
    cost_known: int = 0
    estimated: set[str] = field(default_factory=set)
    covered: int = 0
    cut: int = 0

    def add(self, record: Mapping[str, Any]) -> None:
        usage = record.get("usage") or {}
        self.calls += 1
        self.errors += record.get("error") is not None
        self.degraded += bool(record.get("degraded"))
        if record.get("seconds") is not None:
            self.seconds.append(record["seconds"])
        if usage.get("tokens") is not None:
            self.tokens += usage["tokens"]
            self.tokens_known += 1
        if usage.get("cost") is not None:
            self.cost += usage["cost"]
            self.cost_known += 1
        self.estimated.update(usage.get("estimated") or ())
        for entry in record.get("candidates") or ():
            if coverage := entry.get("coverage"):
                self.covered += 1
                self.cut += coverage["seen"] < coverage["total"]

    def to_dict(self) -> dict[str, Any]:
        return {
            **{name: getattr(self, name) for name in ("calls", "errors", "degraded", "tokens_known", "cost_known")},
            "p50": _quantile(self.seconds, 0.5),
            "p95": _quantile(self.seconds, 0.95),
            "tokens": self.tokens if self.tokens_known else None,
            "cost": self.cost if self.cost_known else None,
            "estimated": sorted(self.estimated),
            "covered": self.covered,
            "cut": self.cut,
        }


def _quantile(values: list[float], share: float) -> float | None:
    """Return the value that this share of the values does not exceed (nearest rank)."""
    return sorted(values)[ceil(share * len(values)) - 1] if values else None
