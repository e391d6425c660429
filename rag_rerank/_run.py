"""One call of a composite: what is noted while its plan runs, and the ranking or the error that comes of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rag_rerank._clock import now
from rag_rerank._plan import Call, Decision
from rag_rerank._progress import Progress, tells
from rag_rerank.errors import RerankError
from rag_rerank.trace import Trace, Usage
from rag_rerank.types import Hit, Ranking

if TYPE_CHECKING:
    from rag_rerank.base import Composite

__all__ = ["Journal", "Run", "describe", "disclosed", "scores_of"]


@dataclass(slots=True)
class Journal:
    """What the drivers note while a plan runs: the trace of every call, and why rankings were degraded."""

    traces: list[Trace] = field(default_factory=list)
    degraded: list[str] = field(default_factory=list)
    under_way: list[Progress] = field(default_factory=list)

    @property
    def children(self) -> tuple[Trace, ...]:
        """The traces of all calls, also, as far as they have come, of those that run."""
        running = [progress.trace for progress in self.under_way]
        return (*self.traces, *(trace for trace in running if trace is not None))

    @contextmanager
    def asked(self) -> Iterator[Progress]:
        """Watch a call while it runs."""
        self.under_way = [Progress()]
        try:
            yield self.under_way[0]
        finally:
            self.under_way = []

    def answered(self, ranking: Ranking) -> Ranking:
        """Note a call that gave a ranking."""
        self.traces.append(ranking.trace)
        self.degraded += ranking.degraded
        return ranking

    def failed(self, call: Call, error: RerankError) -> RerankError:
        """Note a call that failed."""
        self.traces.append(error.trace or Trace(step=call.reranker.label, error=describe(error)))
        return error


class Run:
    """One call of a composite, from plan to ranking."""

    def __init__(self, reranker: Composite, query: str) -> None:
        self.started = now()
        self.reranker = reranker
        self.query = query
        self.journal = Journal()
        tells(self.trace)

    def trace(self, **facts: Any) -> Trace:
        """Return the trace node of this call, as of now, with all calls so far inside."""
        children = self.journal.children
        return Trace(
            step=self.reranker.label,
            kind=self.reranker.kind,
            seconds=now() - self.started,
            usage=Usage.total(child.usage for child in children),
            children=children,
            **facts,
        )

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Give an error that leaves this call its trace."""
        try:
            yield
        except RerankError as error:
            error.trace = self.trace(error=describe(error))
            raise

    def ranking(self, decision: Decision) -> Ranking:
        """Return the ranking that a plan decided on."""
        facts = scores_of(decision.hits) if decision.own_scores else {}
        trace = self.trace(scale=decision.scale, notes=decision.notes, **facts)
        degraded = tuple(dict.fromkeys((*self.journal.degraded, *decision.degraded)))
        return Ranking(self.query, decision.hits, decision.scale, trace, trace.usage, degraded, decision.substituted)


def scores_of(hits: Sequence[Hit]) -> dict[str, Any]:
    """Return what a trace node says of hits: their scores, why some have none, and how much of each was read."""
    return {
        "scores": {hit.id: hit.raw_score for hit in hits if hit.raw_score is not None},
        "unscored": {hit.id: hit.unscored for hit in hits if hit.unscored is not None},
        "coverage": {hit.id: hit.coverage for hit in hits if hit.coverage is not None},
    }


def describe(error: BaseException) -> str:
    """Return an error as one line of a trace: its class and its message."""
    return f"{type(error).__name__}: {error}"


def disclosed(error: BaseException | None) -> str:
    """Return what may be kept of an error: the words of one that is not ours may hold anything, so only its class."""
    return describe(error) if isinstance(error, RerankError) else type(error).__name__
