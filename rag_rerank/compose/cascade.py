"""Cascade: a cheap reranker first, a better one on what is left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import ClassVar

from rag_rerank._plan import Call, Decision, Plan
from rag_rerank.base import Composite, Reranker, check_reranker
from rag_rerank.errors import ConfigError
from rag_rerank.types import Candidate, Hit, Ranking, Scale, renumbered

__all__ = ["Cascade", "Stage"]


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One step of a cascade.

    Args:
        reranker: What orders the candidates that enter.
        depth: How many candidates enter at most: the best of the stage before, or the first of the incoming order
            for the first stage. ``None`` lets all in.
        margin: The largest difference between two raw scores of the stage before that this stage may still turn
            round; see `Cascade`. In the units of those scores: logits where a cross-encoder stands before, cosines
            where a bi-encoder does. ``None`` leaves the choice to ``depth`` alone.

    Raises:
        ConfigError: ``depth`` is below 1, ``margin`` is below 0 or not finite, or ``reranker`` is no reranker.
    """

    reranker: Reranker
    depth: int | None = None
    margin: float | None = None

    def __post_init__(self) -> None:
        check_reranker(self.reranker, "reranker")
        if self.depth is not None and self.depth < 1:
            raise ConfigError(f"depth must be at least 1, got {self.depth}", path="depth")
        if self.margin is not None and not (self.margin >= 0 and isfinite(self.margin)):
            raise ConfigError(f"margin must be a finite number of at least 0, got {self.margin}", path="margin")


@dataclass(frozen=True, kw_only=True)
class Cascade(Composite):
    """Several rerankers in turn, each on fewer candidates than the one before (multi-stage ranking).

    The ranking is the last stage's, on its scale. Nothing is lost: candidates that did not enter a stage follow
    behind, in the order in which they stood when they stopped, without a score (their scores of earlier stages
    are on another scale; the trace has them).

    A stage with a ``margin`` stops early, query by query. Where ``cut`` hits will be kept, a candidate that scored
    more than ``margin`` below the one at place ``cut`` in the stage before is surely out, and does not enter; all
    others do, so that the hits that are kept are ordered, and scored, by the better reranker. (The proximity threshold
    of Cambazoglu et al., WSDM 2010.) If the stage turns round no difference larger than its margin, the first ``cut``
    hits are those of the cascade without margins, in the same order. A stage before that answered degraded may have
    scored in other units: then all enter whom ``depth`` lets in.

    Args:
        stages: At least one; each with what enters it.
        cut: How many hits will be kept; where the margins are measured. Goes with a margin, and only with one.

    Raises:
        ConfigError: There is no stage, or something else in its place; a margin without ``cut``, in the first stage
            (nothing scored before it), or where ``depth`` lets in no more than ``cut``; ``cut`` without a margin.
    """

    kind: ClassVar[str] = "cascade"

    stages: tuple[Stage, ...]
    cut: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.stages:
            raise ConfigError("a cascade needs at least one stage", path="stages")
        for i, stage in enumerate(self.stages):
            if not isinstance(stage, Stage):
                raise ConfigError(f"expected a Stage, got {type(stage).__name__}", path=f"stages[{i}]")
        self._check_cut()

    def _check_cut(self) -> None:
        """Refuse a margin that has nothing to be measured in, and a cut that nothing is measured at."""
        if self.cut is not None and self.cut < 1:
            raise ConfigError(f"cut must be at least 1, got {self.cut}", path="cut")
        if self.cut is not None and all(stage.margin is None for stage in self.stages):
            raise ConfigError("cut says where margins are measured, and no stage has a margin", path="cut")
        for i, stage in enumerate(self.stages):
            if stage.margin is None:
                continue
            if self.cut is None:
                raise ConfigError(
                    "a margin needs the cascade's cut: how many hits will be kept", path=f"stages[{i}].margin"
                )
            if i == 0:
                raise ConfigError(
                    "the first stage has none before it whose scores a margin could be measured in; put a cheap one "
                    "there, such as lexical",
                    path="stages[0].margin",
                )
            if stage.depth is not None and stage.depth <= self.cut:
                raise ConfigError(
                    f"depth {stage.depth} lets in no more than the cut of {self.cut} keeps, which leaves the margin "
                    "nothing to decide",
                    path=f"stages[{i}].depth",
                )

    @property
    def scale(self) -> Scale:
        """The last stage's scale."""
        return self.stages[-1].reranker.scale

    def _plan(self, query: str, candidates: tuple[Candidate, ...]) -> Plan:
        hits: tuple[Hit, ...] = ()
        stopped: list[Hit] = []
        entering, before = candidates, None
        scale, notes = self.scale, []
        for number, stage in enumerate(self.stages, start=1):
            limit, why, remark = self._limit(stage, entering, before)
            stopped[:0] = [_stopped(c, f"stopped before stage {number} ({why})") for c in entering[limit:]]
            notes.append(f"stage {number}: {min(limit, len(entering))} of {len(entering)} entered{remark}")
            before = yield Call(stage.reranker, query, entering[:limit])
            hits, scale = before.hits, before.scale
            entering = tuple(hit.candidate for hit in hits if hit.raw_score is not None)
            if number < len(self.stages):
                stopped[:0] = [hit for hit in hits if hit.raw_score is None]
        return Decision(renumbered((*hits, *stopped)), scale, notes=tuple(notes))

    def _limit(self, stage: Stage, entering: tuple[Candidate, ...], before: Ranking | None) -> tuple[int, str, str]:
        """Return how many may enter, why no more, and what the trace should say of the margin."""
        limit, why = len(entering) if stage.depth is None else stage.depth, f"depth {stage.depth}"
        if stage.margin is None or self.cut is None or before is None:
            return limit, why, ""
        if before.degraded:
            return limit, why, f"; its margin of {stage.margin:g} was not used, because the stage before was degraded"
        sure, close = _around(self.cut, stage.margin, [h.raw_score for h in before if h.raw_score is not None])
        remark = (
            f" (margin {stage.margin:g} at the cut of {self.cut}: {sure} surely in, {close - sure} undecided, "
            f"{len(entering) - close} surely out)"
        )
        if close < limit:
            limit, why = close, f"more than {stage.margin:g} below place {self.cut}"
        return limit, why, remark


def _around(cut: int, margin: float, scores: Sequence[float]) -> tuple[int, int]:
    """Return how many of falling scores are surely above a cut, and how many are not surely below it."""
    if len(scores) <= cut:
        return len(scores), len(scores)
    last_in, first_out = scores[cut - 1], scores[cut]
    return sum(s - first_out > margin for s in scores), sum(last_in - s <= margin for s in scores)


def _stopped(candidate: Candidate, reason: str) -> Hit:
    return Hit(rank=0, score=None, raw_score=None, candidate=candidate, unscored=reason)
