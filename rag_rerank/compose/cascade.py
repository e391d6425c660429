"""Cascade: a cheap reranker first, a better one on the best of its ranking."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from rag_rerank._checks import at_least, plain_fields
from rag_rerank.base import Composite, Reranker
from rag_rerank.compose.wrapper import check_reranker
from rag_rerank.errors import ConfigError
from rag_rerank.execution.plan import Call, Plan, PlanResult
from rag_rerank.execution.ranking import renumber
from rag_rerank.trace import Usage
from rag_rerank.types import BLANK, Candidate, Hit, Ranking, Scale

__all__ = ["Cascade", "Stage"]


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage of a `Cascade`: a reranker, and how many candidates it gets.

    Args:
        reranker: The reranker of this stage.
        depth: How many candidates enter this stage at most: the best of the stage before, or the first of the incoming
            order in the first stage. By default all enter. Use a small number where a text costs time or money.

    Raises:
        ConfigError: ``depth`` is below 1, or ``reranker`` is no reranker.
    """

    reranker: Reranker
    depth: int | None = None

    def __post_init__(self) -> None:
        plain_fields(self)
        check_reranker(self.reranker, "reranker")
        if self.depth is not None:
            at_least(self.depth, 1, "depth")


@dataclass(frozen=True, kw_only=True)
class Cascade(Composite):
    """Several rerankers in turn, each on fewer candidates than the one before: a fast one first, a better one last.

    This is multi-stage ranking. The ranking is that of the last stage, on its scale. It has all candidates: those that
    did not enter a stage follow without a score, in the order that they had when they stopped. (Their scores of earlier
    stages are on another scale; the trace has them.) A stage may score nothing, because its `Deadline` was over or all
    members of its `Fallback` failed. Then all its candidates go on to the next stage, in their order.

    Only the depth of a stage can be chosen. A bound on the difference of scores, as in Cambazoglu et al. (WSDM 2010),
    was measured on eleven collections and was no better than a depth of the same cost (benchmarks/README.md).

    Args:
        stages: The stages in their order, at least one.

    Raises:
        ConfigError: There is no stage, or something else than a stage.
    """

    kind: ClassVar[str] = "cascade"

    stages: Sequence[Stage]

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.stages:
            raise ConfigError("a cascade needs at least one stage", path="stages")
        for i, stage in enumerate(self.stages):
            if not isinstance(stage, Stage):
                raise ConfigError(f"expected a Stage, got {type(stage).__name__}", path=f"stages[{i}]")

    @property
    def scale(self) -> Scale:
        """The last stage's scale."""
        return self.stages[-1].reranker.scale

    def estimate(self, query: str, texts: Sequence[str]) -> Usage:
        """Estimate the cost of all stages, each with the first texts up to its depth: the best ones are not known."""
        usage = Usage()
        for stage in self.stages:
            texts = texts[: stage.depth]
            usage += stage.reranker.estimate(query, texts)
        return usage

    def _plan(self, query: str, candidates: tuple[Candidate, ...]) -> Plan:
        entering = candidates
        stopped: list[Hit] = []  # hits of candidates that stopped, the best first
        notes: list[str] = []
        for number, stage in enumerate(self.stages, start=1):
            inside = entering[: stage.depth]
            outside = entering[len(inside) :]
            stopped[:0] = [_without_score(c, f"stopped before stage {number} (depth {stage.depth})") for c in outside]
            notes.append(f"stage {number}: {len(inside)} of {len(entering)} entered")
            ranking: Ranking = yield Call(stage.reranker, query, inside)
            if number == len(self.stages):
                break
            going_on = [hit for hit in ranking if hit.raw_score is not None]
            if not going_on and (going_on := [hit for hit in ranking if hit.unscored != BLANK]):
                notes.append(f"stage {number} scored nothing, so its candidates went on in their order")
            entering = tuple(hit.candidate for hit in going_on)
            ids = {hit.id for hit in going_on}
            stopped[:0] = [hit for hit in ranking if hit.id not in ids]
        return PlanResult(
            renumber((*ranking, *stopped)), ranking.scale, notes=tuple(notes), substituted=ranking.substituted
        )


def _without_score(candidate: Candidate, reason: str) -> Hit:
    return Hit(rank=0, score=None, raw_score=None, candidate=candidate, unscored=reason)
