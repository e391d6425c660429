"""Cascade: a cheap reranker first, a better one on what is left."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from rag_rerank._plan import Call, Decision, Plan
from rag_rerank.base import Composite, Reranker, check_reranker
from rag_rerank.errors import ConfigError
from rag_rerank.types import Candidate, Hit, Scale, renumbered

__all__ = ["Cascade", "Stage"]


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One step of a cascade.

    Args:
        reranker: What orders the candidates that enter.
        depth: How many candidates enter: the best of the stage before, or the first of the incoming order for the
            first stage. ``None`` lets all in.

    Raises:
        ConfigError: ``depth`` is below 1, or ``reranker`` is no reranker.
    """

    reranker: Reranker
    depth: int | None = None

    def __post_init__(self) -> None:
        check_reranker(self.reranker, "reranker")
        if self.depth is not None and self.depth < 1:
            raise ConfigError(f"depth must be at least 1, got {self.depth}", path="depth")


@dataclass(frozen=True, kw_only=True)
class Cascade(Composite):
    """Several rerankers in turn, each on fewer candidates than the one before (multi-stage ranking).

    The ranking is the last stage's, on its scale. Nothing is lost: candidates that did not enter a stage follow
    behind, in the order in which they stood when they stopped, without a score (their scores of earlier stages
    are on another scale; the trace has them).

    Args:
        stages: At least one; each with the ``depth`` that enters it.

    Raises:
        ConfigError: There is no stage, or something else in its place.
    """

    kind: ClassVar[str] = "cascade"

    stages: tuple[Stage, ...]

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

    def _plan(self, query: str, candidates: tuple[Candidate, ...]) -> Plan:
        hits: tuple[Hit, ...] = ()
        stopped: list[Hit] = []
        entering = candidates
        scale, notes = self.scale, []
        for number, stage in enumerate(self.stages, start=1):
            depth = len(entering) if stage.depth is None else stage.depth
            left_out = tuple(_stopped(c, f"stopped before stage {number} (depth {depth})") for c in entering[depth:])
            stopped[:0] = left_out
            ranking = yield Call(stage.reranker, query, entering[:depth])
            notes.append(f"stage {number}: {min(depth, len(entering))} of {len(entering)} entered")
            hits, scale = ranking.hits, ranking.scale
            entering = tuple(hit.candidate for hit in hits if hit.raw_score is not None)
            if number < len(self.stages):
                stopped[:0] = [hit for hit in hits if hit.raw_score is None]
        return Decision(renumbered((*hits, *stopped)), scale, notes=tuple(notes))


def _stopped(candidate: Candidate, reason: str) -> Hit:
    return Hit(rank=0, score=None, raw_score=None, candidate=candidate, unscored=reason)
