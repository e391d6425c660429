"""Plans: what a composite does, written once as a generator and run by both drivers (see `driver`).

A plan yields steps and returns a `PlanResult`. A `Call` gives it a `Ranking`; if the call fails, its error is raised
at the ``yield``, where ordinary ``try`` and ``except`` see it. `Parallel` gives it one `Outcome` for each call.
`InThread` gives it the return value of a function.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeGuard, runtime_checkable

from rag_rerank.errors import RerankError, TransientError
from rag_rerank.execution.protocols import Ranker
from rag_rerank.text.short_repr import short_repr
from rag_rerank.types import Candidate, Hit, Ranking, Scale

__all__ = [
    *("Call", "InThread", "Outcome", "Parallel", "Plan", "PlanResult", "PlanStep"),
    *("ScoresSentences", "is_permanent", "span_request", "spans_wanted"),
]

_spans_wanted: ContextVar[bool] = ContextVar("rag_rerank_spans_wanted", default=False)


@contextmanager
def span_request(want: bool | None) -> Iterator[None]:
    """Ask the rerankers inside for relevant spans, or tell them not to give any; ``None`` changes nothing."""
    if want is None:
        yield
        return
    token = _spans_wanted.set(want)
    try:
        yield
    finally:
        _spans_wanted.reset(token)


def spans_wanted() -> bool:
    """Whether a reranker that has the scores of a text's sentences at hand should return them with its scores."""
    return _spans_wanted.get()


@runtime_checkable
class ScoresSentences(Protocol):
    """A reranker that may score the sentences of a text while it scores the text, if `spans_wanted`."""

    @property
    def scores_sentences(self) -> bool:
        """Whether it does, as it is configured."""


@dataclass(frozen=True, slots=True)
class Call:
    """A step of a plan: rank these candidates with this reranker; the plan is sent the `Ranking`.

    Args:
        reranker: The reranker to call.
        query: The query.
        candidates: The candidates, all of them or some.
        seconds: A time limit of this call alone; past it, `DeadlineExceeded` is raised at the ``yield``.
        spans: Whether relevant spans are wanted of rerankers that have them at hand; ``None`` for what the call around
            it wants.
    """

    reranker: Ranker
    query: str
    candidates: tuple[Candidate, ...]
    seconds: float | None = None
    spans: bool | None = None

    __repr__ = short_repr


@dataclass(frozen=True, slots=True)
class Parallel:
    """A step of a plan: run these calls side by side; the plan is sent one `Outcome` for each call.

    Args:
        calls: At least one.
        stagger: Seconds between the starts of two calls; the next one starts earlier if one ends before. 0 starts all
            at once. After a permanent failure no further call starts.
        needed: How many rankings to wait for; calls that still run then are abandoned. ``None`` for all.
        required: How many of the first calls must not fail permanently: if one of them does, all others are abandoned.
    """

    calls: tuple[Call, ...]
    stagger: float = 0.0
    needed: int | None = None
    required: int = 0


Outcome = Ranking | RerankError | None
"""The outcome of one of several calls; ``None`` where the answer was not needed, whether the call started or not."""


def is_permanent(outcome: Outcome) -> TypeGuard[RerankError]:
    """Whether a call failed for a reason that neither waiting nor another reranker can mend."""
    return isinstance(outcome, RerankError) and not isinstance(outcome, TransientError)


@dataclass(frozen=True, slots=True)
class InThread:
    """A step of a plan: run a slow function off the event loop, within the call's time; the plan is sent its result."""

    function: Callable[[], Any]


PlanStep = Call | Parallel | InThread


@dataclass(frozen=True, slots=True)
class PlanResult:
    """The return value of a plan; see `Ranking` for the fields of the same name.

    Args:
        hits: All hits, ranked.
        scale: The scale of their scores.
        degraded: Reasons why this is not quite what was asked for.
        notes: Remarks for the trace.
        substituted: Whether the scores are another reranker's.
        own_scores: Whether the hits carry scores that no call returned, so that this step's trace must hold them.
        answerable: Only from a plan that passes on one answer over all its candidates, or that knows the probability
            itself; a plan that makes scores of its own, or that let a part of the candidates in, leaves it out.
        contributions: Addends of each hit's raw score by candidate id, where it is a sum of named parts.
    """

    hits: tuple[Hit, ...]
    scale: Scale
    degraded: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    substituted: bool = False
    own_scores: bool = False
    answerable: float | None = None
    contributions: Mapping[str, Mapping[str, float]] = field(default_factory=dict, hash=False)

    __repr__ = short_repr


Plan = Generator[PlanStep, Any, PlanResult]
"""A generator of steps; see the example in `rag_rerank.Composite`."""
