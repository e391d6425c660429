"""Kept answers with what they cost, and how many more may be bought."""

from __future__ import annotations

from collections.abc import Container, Iterator
from dataclasses import dataclass, field
from threading import Lock

from rag_rerank.errors import CostExceeded
from rag_rerank.evaluation._keeping import Kept, Key
from rag_rerank.records.record import Record
from rag_rerank.trace import Usage

__all__ = ["Purse"]


@dataclass
class Purse(Kept):
    """A teacher's answers, counted as they are found or come.

    Those of a substitute are on another scale, so they are not found again but asked for anew.

    Attributes:
        usage: What all answers cost.
        answered: Hashes of the queries that the teacher itself answered.
    """

    usage: Usage = field(default_factory=Usage, init=False)
    answered: set[str] = field(default_factory=set, init=False)
    _reserved: dict[str, float] = field(default_factory=dict, init=False)
    _reckoned: float = field(default=0.0, init=False)
    _charged: float = field(default=0.0, init=False)
    _counting: Lock = field(default_factory=Lock, init=False)

    def records(self, wanted: Container[Key]) -> Iterator[tuple[Key, Record]]:
        """Yield the records of wanted questions that the teacher itself answered."""
        for key, record in super().records(wanted):
            self._count(record)
            if not record.substituted:
                yield key, record

    def keep(self, record: Record) -> None:
        """Append a record, and count it."""
        super().keep(record)
        with self._counting:
            reckoned = self._reserved.pop(record.tags["query_id"], 0.0)
            if record.error is None:
                self._reckoned += reckoned
                self._charged += record.usage.cost or 0.0
            self._count(record)

    def reserve(self, query: str, cost: float, ceiling: float) -> None:
        """Set money aside for a question, until its answer is kept.

        Where answers have turned out dearer than their estimates, the estimates grow by the same factor.

        Args:
            query: Its id.
            cost: What it will cost by estimate, in US dollars.
            ceiling: What all answers together may cost.

        Raises:
            CostExceeded: There is not enough left.
        """
        with self._counting:
            dearer = max(1.0, self._charged / self._reckoned) if self._reckoned else 1.0
            spent = self.usage.cost or 0.0
            if spent + (sum(self._reserved.values()) + cost) * dearer > ceiling * (1 + 1e-9):
                raise CostExceeded(
                    f"the next answer would pass the ceiling of ${ceiling:.4g}: ${spent:.4g} is spent, and answers "
                    f"cost {dearer:.3g} times their estimate; raise the ceiling, or ask fewer pairs (max_pairs)"
                )
            self._reserved[query] = cost

    def _count(self, record: Record) -> None:
        self.usage += record.usage
        if record.error is None and not record.substituted:
            self.answered.add(record.query_sha256)
