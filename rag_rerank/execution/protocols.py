"""The protocols of a call: rankers and observers. They keep this package free of `rag_rerank.base`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

from rag_rerank.text.short_repr import short_repr
from rag_rerank.types import Candidate, Ranking, Scale, Scores

if TYPE_CHECKING:
    from rag_rerank.context.result import Context

__all__ = ["CallStarted", "Observer", "OnCallEnd", "OnContext", "PointwiseRanker", "Ranker", "ScoresCandidates"]


class Ranker(Protocol):
    """The members of a reranker that a call needs; `rag_rerank.Reranker` has them all."""

    kind: ClassVar[str]

    @property
    def label(self) -> str:
        """The name in traces."""

    @property
    def remote(self) -> bool:
        """Whether providers do all the work."""

    @property
    def takes_instruction(self) -> bool:
        """Whether it follows an instruction."""

    @property
    def observers(self) -> tuple[Observer, ...]:
        """The observers of this reranker's calls alone."""

    def _rank(self, query: str, candidates: tuple[Candidate, ...]) -> Ranking: ...

    async def _arank(self, query: str, candidates: tuple[Candidate, ...]) -> Ranking: ...


class PointwiseRanker(Ranker, Protocol):
    """The members that a call needs of a reranker that scores each text on its own."""

    @property
    def scale(self) -> Scale:
        """The scale of its scores."""

    @property
    def model_id(self) -> str | None:
        """The model with its revision."""

    @property
    def template_id(self) -> str | None:
        """The name of the prompt."""

    def score(self, query: str, texts: Sequence[str]) -> Scores:
        """Score each text."""

    async def ascore(self, query: str, texts: Sequence[str]) -> Scores:
        """Score each text without blocking the event loop."""


@runtime_checkable
class ScoresCandidates(Protocol):
    """A reranker that reads more of a candidate than its text."""

    def score_candidates(self, query: str, texts: Sequence[str], candidates: Sequence[Candidate]) -> Scores:
        """Score each text; ``candidates`` has the candidate of each."""

    async def ascore_candidates(self, query: str, texts: Sequence[str], candidates: Sequence[Candidate]) -> Scores:
        """Do what `score_candidates` does without blocking the event loop."""


@dataclass(frozen=True, slots=True)
class CallStarted:
    """A call that starts.

    Args:
        reranker: The reranker that is called.
        query: The query as the caller gave it.
        candidates: All candidates, checked.
        top_k: How many hits the caller wants; ``None`` for all, and for calls inside a composite.
        inner: Whether a composite calls, and not the user.
        tags: The user's tags of the call; see `rag_rerank.tagged`.
        instruction: The instruction of the user's call; ``None`` where it has none of its own.
    """

    reranker: Ranker
    query: str
    candidates: tuple[Candidate, ...]
    top_k: int | None = None
    inner: bool = False
    tags: Mapping[str, Any] = field(default_factory=dict)
    instruction: str | None = None

    __repr__ = short_repr


OnContext = Callable[["Context"], None]
"""Takes a context that was packed from the ranking of a call, after the call and in any thread; maybe several."""

OnCallEnd = Callable[["Ranking | None", "BaseException | None"], "OnContext | None"]
"""Takes the outcome of a call: its ranking over all candidates, or the exception.

It may return a function that takes each context that is packed from the ranking; that of a call inside a composite is
never called, because only the ranking of the user's call is packed.
"""


class Observer(Protocol):
    """An observer of calls. It runs in the thread or task of the call; many calls may run at once."""

    def on_call_start(self, call: CallStarted) -> OnCallEnd | None:
        """Note that a call starts. Return a function that takes its outcome; ``None`` to ignore it."""
