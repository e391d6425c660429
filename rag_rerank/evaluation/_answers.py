"""What a reranker made of one judged query, without the texts: all that figures are worked out from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from rag_rerank.evaluation.data.judged import JudgedQuery
from rag_rerank.records.record import Record
from rag_rerank.trace import Coverage, Usage

__all__ = ["Answer"]

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What a reranker made of one query; sequences are by position in ``query.candidates``, as far as they entered.

    Args:
        query: The query.
        order: Positions of all candidates, best first; those that did not enter follow in the first stage's order.
        raw: The numbers that were ranked by; ``None`` where a candidate has none.
        scores: The numbers that people use.
        coverage: How much of each text was read, where that is known.
        scale: Scale of the scores; ``None`` where the call failed.
        seconds: Wall time of the call; ``None`` where there was none, since there was no candidate.
        warm: Whether it tells how long a call takes: it succeeded, and was not the first of its run.
        workers: How many calls ran at a time.
        usage: What the call cost.
        degraded: Why it is not quite what was asked.
        substituted: Whether the scores are another reranker's.
        error: Why it failed; the order is then the first stage's.
    """

    query: JudgedQuery
    order: tuple[int, ...]
    raw: tuple[float | None, ...] = ()
    scores: tuple[float | None, ...] = ()
    coverage: tuple[Coverage | None, ...] = ()
    scale: str | None = None
    seconds: float | None = None
    warm: bool = False
    workers: int = 1
    usage: Usage = field(default_factory=Usage)
    degraded: tuple[str, ...] = ()
    substituted: bool = False
    error: str | None = None

    @property
    def ids(self) -> list[str]:
        """Ids of all candidates, best first."""
        return [self.query.candidates[position].id for position in self.order]

    def by_id(self, values: Sequence[T]) -> dict[str, T]:
        """Return what stands by position, by id."""
        return {candidate.id: value for candidate, value in zip(self.query.candidates, values, strict=False)}

    @classmethod
    def unchanged(cls, query: JudgedQuery) -> Answer:
        """Return the first stage's own order and scores."""
        return cls(
            query=query,
            order=tuple(range(len(query.candidates))),
            raw=tuple(candidate.score for candidate in query.candidates),
        )

    @classmethod
    def of(cls, query: JudgedQuery, record: Record) -> Answer:
        """Return what a record says of the query whose candidates it holds."""
        entries = sorted(record.candidates, key=lambda entry: entry.first_rank)
        entered = [entry.first_rank - 1 for entry in record.candidates]
        return cls(
            query=query,
            order=(*entered, *range(len(entered), len(query.candidates))),
            raw=tuple(entry.raw_score for entry in entries),
            scores=tuple(entry.score for entry in entries),
            coverage=tuple(entry.coverage for entry in entries),
            scale=record.scale,
            seconds=record.seconds,
            warm=record.error is None and not record.tags.get("cold", False),
            workers=record.tags.get("workers", 1),
            usage=record.usage,
            degraded=record.degraded,
            substituted=record.substituted,
            error=record.error,
        )
