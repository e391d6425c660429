"""Rerankers that others write: a backend, an async backend, a composite, and their contract tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from typing_extensions import assert_type

from rag_rerank import (
    Call,
    Candidate,
    Composite,
    FilePath,
    InThread,
    Parallel,
    Plan,
    PlanResult,
    PointwiseReranker,
    Ranking,
    Reranker,
    Scale,
    Scores,
)
from rag_rerank.testing import RerankerContract, ScriptedReranker


@dataclass(frozen=True, kw_only=True)
class ByLength(PointwiseReranker):
    """A backend with two fields."""

    kind: ClassVar[str] = "by-length"
    scale: ClassVar[Scale] = "unbounded"  # pyright: ignore[reportIncompatibleMethodOverride]  # a property in the base
    factor: float = 1.0
    words: FilePath | None = None

    @property
    def why_not_cacheable(self) -> str | None:
        return None

    def score(self, query: str, texts: Sequence[str]) -> Scores:
        return Scores([self.factor * len(text) for text in texts], self.scale)

    async def ascore(self, query: str, texts: Sequence[str]) -> Scores:
        return self.score(query, texts)


@dataclass(frozen=True, kw_only=True)
class SecondOpinion(Composite):
    """A composite with every kind of step."""

    kind: ClassVar[str] = "second-opinion"
    first: Reranker
    second: Reranker

    @property
    def scale(self) -> Scale:
        return self.first.scale

    def _plan(self, query: str, candidates: tuple[Candidate, ...]) -> Plan:
        ranking: Ranking = yield Call(self.first, query, candidates)
        score = ranking[0].score
        if score is None or score < 0.5:
            yield Parallel((Call(self.second, query, candidates),), stagger=0.1)
        yield InThread(lambda: len(candidates))
        return PlanResult(ranking.hits, ranking.scale, degraded=("second opinion",))


class TestByLength(RerankerContract):
    """The contract tests of the backend."""

    in_registry = False

    def reranker(self) -> Reranker:
        return ByLength(factor=2)


reranker: Reranker = SecondOpinion(first=ByLength(), second=ScriptedReranker(by_text={"a": 1.0}))
assert_type(ByLength().rerank("q", ["a"]), Ranking)
assert_type(ByLength().factor, float)
assert_type(ByLength().words, str | None)
assert_type(ByLength().score("q", ["a"]), Scores)


@dataclass(frozen=True, kw_only=True)
class Wrong(PointwiseReranker):
    """A backend whose methods do not fit."""

    kind: ClassVar[str] = "wrong"
    scale: ClassVar[Scale] = "percent"  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType, reportIncompatibleMethodOverride]

    def score(self, query: str) -> Scores:  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]
        return [1.0]  # type: ignore[return-value]  # pyright: ignore[reportReturnType]

    def rerank(self, query: str, texts: list[str]) -> Ranking:  # type: ignore[misc, override]  # pyright: ignore[reportIncompatibleMethodOverride]
        return super().rerank(query, texts)


@dataclass(frozen=True, kw_only=True)
class NoScore(PointwiseReranker):
    """A backend without its one method."""

    kind: ClassVar[str] = "no-score"


NoScore()  # type: ignore[abstract]  # pyright: ignore[reportAbstractUsage]
ByLength(2.0)  # type: ignore[arg-type, call-arg]  # pyright: ignore[reportCallIssue]
ByLength(factor="2")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
Scores(["1"], "unbounded")  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
Scores([1.0])  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
Call(reranker, ["q"], ())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
ScriptedReranker(answers_on="percent")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
