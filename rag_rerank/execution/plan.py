"""What composites say: a flow written once as a generator, driven by threads' world or by asyncio's (`_drive`).

A composite's ``_plan`` yields a `Call` whenever it wants a reranker to rank something, and is sent the
`Ranking`; if that call fails, the error is raised at the ``yield``, where ordinary ``try``/``except`` sees it.
It may yield `Together` for several calls side by side, and is sent what came of each; and `Work`, for work of its own
that takes a while. It returns a `Decision`.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeGuard

from rag_rerank.errors import RerankError, TransientError
from rag_rerank.types import Candidate, Hit, Ranking, Scale

if TYPE_CHECKING:
    from rag_rerank.base import Reranker

__all__ = ["Call", "Decision", "Outcome", "Plan", "Together", "Wish", "Work", "lasting"]


@dataclass(frozen=True, slots=True)
class Call:
    """A wish of a plan: let this reranker rank these candidates.

    ``seconds`` limits the time of this call alone; what is late raises `DeadlineExceeded` at the ``yield``.
    """

    reranker: Reranker
    query: str
    candidates: tuple[Candidate, ...]
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Together:
    """A wish of a plan: these calls side by side.

    The plan is sent one `Outcome` a call, in the order of the calls.

    Args:
        calls: At least one.
        stagger: Seconds before the next call begins, unless one has ended before; 0 begins all at once. After a
            failure that will not pass, no further call begins.
        enough: How many rankings are waited for; what runs beyond that is abandoned. ``None`` for all.
        vital: How many of the first calls must not fail for a reason that will not pass: once one of them has, nothing
            more is waited for.
    """

    calls: tuple[Call, ...]
    stagger: float = 0.0
    enough: int | None = None
    vital: int = 0


Outcome = Ranking | RerankError | None
"""What came of one of several calls; ``None`` for one that was not needed, begun or not."""


def lasting(outcome: Outcome) -> TypeGuard[RerankError]:
    """Whether a call failed for a reason that will not pass, so that neither waiting nor another member mends it."""
    return isinstance(outcome, RerankError) and not isinstance(outcome, TransientError)


@dataclass(frozen=True, slots=True)
class Work:
    """A wish of a plan: do this away from the event loop, within the time of the call; the plan is sent the result."""

    do: Callable[[], Any]


Wish = Call | Together | Work


@dataclass(frozen=True, slots=True)
class Decision:
    """What a plan returns: the hits with their scale, and what there is to say about them; see `Ranking`.

    ``own_scores`` says that the hits carry scores which no call gave, so that this step's trace must hold them.
    """

    hits: tuple[Hit, ...]
    scale: Scale
    degraded: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    substituted: bool = False
    own_scores: bool = False


Plan = Generator[Wish, Any, Decision]
