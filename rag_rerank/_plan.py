"""How composites run: a flow written once as a generator, driven by threads' world or by asyncio's.

A composite's ``_plan`` yields a `Call` whenever it wants a reranker to rank something, and is sent the
`Ranking`; if that call fails, the error is raised at the ``yield``, where ordinary ``try``/``except`` sees it.
It returns a `Decision`. The drivers note every call, failed ones included, so that no composite can lose one
from its trace.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING, Any

from rag_rerank.errors import RerankError
from rag_rerank.trace import Trace, Usage
from rag_rerank.types import Candidate, Hit, Ranking, Scale

if TYPE_CHECKING:
    from rag_rerank.base import Composite, Reranker

__all__ = ["Call", "Decision", "Plan", "Run", "adrive", "drive"]


@dataclass(frozen=True, slots=True)
class Call:
    """A wish of a plan: let this reranker rank these candidates."""

    reranker: Reranker
    query: str
    candidates: tuple[Candidate, ...]


@dataclass(frozen=True, slots=True)
class Decision:
    """What a plan returns: the hits with their scale, and what there is to say about them."""

    hits: tuple[Hit, ...]
    scale: Scale
    degraded: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


Plan = Generator[Call, Ranking, Decision]


@dataclass(slots=True)
class Journal:
    """What the drivers note while a plan runs: the trace of every call, and why rankings were degraded."""

    traces: list[Trace] = field(default_factory=list)
    degraded: list[str] = field(default_factory=list)

    def answered(self, ranking: Ranking) -> Ranking:
        """Note a call that gave a ranking."""
        self.traces.append(ranking.trace)
        self.degraded += ranking.degraded
        return ranking

    def failed(self, call: Call, error: RerankError) -> RerankError:
        """Note a call that failed."""
        self.traces.append(error.trace or Trace(step=call.reranker.label, error=describe(error)))
        return error


def describe(error: BaseException) -> str:
    """Return an error as one line of a trace: its class and its message."""
    return f"{type(error).__name__}: {error}"


def drive(plan: Plan, journal: Journal) -> Decision:
    """Run a plan to its end, one call after the other, on this thread."""
    try:
        call = next(plan)
        while True:
            try:
                ranking = call.reranker._rank(call.query, call.candidates)
            except StopIteration as error:  # a reranker's mistake, which must not pass for the plan's end
                raise RuntimeError(f"{call.reranker.label} raised StopIteration") from error
            except RerankError as error:
                call = plan.throw(journal.failed(call, error))
            else:
                call = plan.send(journal.answered(ranking))
    except StopIteration as end:
        decision: Decision = end.value
        return decision
    finally:
        plan.close()


async def adrive(plan: Plan, journal: Journal) -> Decision:
    """Run a plan to its end on the running event loop; the same steps as `drive`."""
    try:
        call = next(plan)
        while True:
            try:
                ranking = await call.reranker._arank(call.query, call.candidates)
            except RerankError as error:
                call = plan.throw(journal.failed(call, error))
            else:
                call = plan.send(journal.answered(ranking))
    except StopIteration as end:
        decision: Decision = end.value
        return decision
    finally:
        plan.close()


class Run:
    """One call of a composite, from plan to ranking."""

    def __init__(self, reranker: Composite, query: str) -> None:
        self.started = perf_counter()
        self.reranker = reranker
        self.query = query
        self.journal = Journal()

    def trace(self, **facts: Any) -> Trace:
        """Return the trace node of this call, as of now, with all calls so far inside."""
        children = tuple(self.journal.traces)
        return Trace(
            step=self.reranker.label,
            seconds=perf_counter() - self.started,
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
        trace = self.trace(scale=decision.scale, notes=decision.notes)
        degraded = tuple(dict.fromkeys((*self.journal.degraded, *decision.degraded)))
        return Ranking(self.query, decision.hits, decision.scale, trace, trace.usage, degraded)
