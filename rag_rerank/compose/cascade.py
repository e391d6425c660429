"""Cascade: a cheap reranker first, a better one on what is left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import ClassVar, NamedTuple

from rag_rerank.base import Composite, Reranker
from rag_rerank.compose.wrapper import check_reranker
from rag_rerank.errors import ConfigError
from rag_rerank.execution.plan import Call, Plan, PlanResult
from rag_rerank.trace import Usage
from rag_rerank.types import BLANK, Candidate, Hit, Ranking, Scale, renumber

__all__ = ["Cascade", "Stage", "tops_unscored"]


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One step of a cascade.

    Args:
        reranker: What orders the candidates that enter.
        depth: How many candidates enter at most: the best of the stage before, or the first of the incoming order
            for the first stage. ``None`` sets no bound.
        margin: How far below the cascade's ``cut`` a candidate may stand and still enter: a difference of raw scores
            of the stage before, in their units (logits where a cross-encoder stands before, cosines where a bi-encoder
            does). Larger differences count as decided. ``None`` leaves the choice to ``depth`` alone.
        border_only: Whether candidates that are surely in stay outside too; for the last stage, with a margin.

    Raises:
        ConfigError: ``depth`` is below 1, ``margin`` is below 0 or not finite, ``border_only`` without a margin, or
            ``reranker`` is no reranker.
    """

    reranker: Reranker
    depth: int | None = None
    margin: float | None = None
    border_only: bool = False

    def __post_init__(self) -> None:
        check_reranker(self.reranker, "reranker")
        if self.depth is not None and self.depth < 1:
            raise ConfigError(f"depth must be at least 1, got {self.depth}", path="depth")
        if self.margin is not None and not (self.margin >= 0 and isfinite(self.margin)):
            raise ConfigError(f"margin must be a finite number of at least 0, got {self.margin}", path="margin")
        if self.border_only and self.margin is None:
            raise ConfigError("border_only needs a margin, which says what the border is", path="border_only")


@dataclass(frozen=True, kw_only=True)
class Cascade(Composite):
    """Several rerankers in turn, each on fewer candidates than the one before (multi-stage ranking).

    The ranking is the last stage's, on its scale. Nothing is lost: candidates that did not enter a stage follow
    behind, in the order in which they stood when they stopped, without a score (their scores of earlier stages
    are on another scale; the trace has them). From a stage that scored nothing (its `Deadline` was over, or all members
    of a fallback failed), all go on in their order.

    A stage with a ``margin`` stops early, query by query. By the raw scores of the stage before, a candidate is

    - surely out: more than the margin below the one at place ``cut``; it stops;
    - surely in: more than the margin above the one at place ``cut + 1``; it enters, so that what is kept is ordered
      and scored by the better reranker;
    - undecided: all others, ties at the cut among them; it enters.

    That is the proximity threshold of Cambazoglu et al. (WSDM 2010). If no later stage turns round a difference larger
    than the margin, the first ``cut`` hits are those of the cascade without the margin, in the same order.

    With ``border_only`` those surely in do not enter either: they stand first, in the order of the stage before and
    without a score, and where nobody is undecided the last stage is not asked at all. Under the same condition the
    first ``cut`` hits are the same set, no longer in the same order. For uses that need only the set: whatever
    compares scores with a threshold would drop the best.

    Scores of a degraded ranking may be in other units, so a margin is not applied to them: all enter that ``depth``
    lets in. The trace's notes say how many were in, undecided and out, and when a margin was not applied.

    Args:
        stages: At least one; each with what enters it.
        cut: How many hits will be kept: the place that margins are measured from. Goes with a margin only.

    Raises:
        ConfigError: There is no stage, or something else in its place; a margin without ``cut``, in the first stage
            (nothing scored before it), or with a ``depth`` of no more than ``cut``; ``cut`` without a margin;
            ``border_only`` in front of another stage.
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
        if self.cut is not None and self.cut < 1:
            raise ConfigError(f"cut must be at least 1, got {self.cut}", path="cut")
        if self.cut is not None and all(stage.margin is None for stage in self.stages):
            raise ConfigError("cut says where margins are measured, and no stage has a margin", path="cut")
        for i, stage in enumerate(self.stages):
            self._check_margin(i, stage)

    def _check_margin(self, i: int, stage: Stage) -> None:
        """Refuse a margin with nothing to measure or to decide, and unscored hits at the top of what a stage reads."""
        if i < len(self.stages) - 1 and (stage.border_only or tops_unscored(stage.reranker)):
            raise ConfigError(
                "border_only leaves the best hits without a score, so no stage can follow", path=f"stages[{i}]"
            )
        if stage.margin is None:
            return
        if self.cut is None:
            raise ConfigError(
                "a margin needs the cascade's cut: how many hits will be kept", path=f"stages[{i}].margin"
            )
        if i == 0:
            raise ConfigError(
                "the first stage has no stage before it whose scores could be measured; put a cheap one there, such "
                "as lexical",
                path="stages[0].margin",
            )
        if stage.depth is not None and stage.depth <= self.cut:
            raise ConfigError(
                f"depth {stage.depth} lets in no more than the cut of {self.cut} keeps; that leaves the margin nothing "
                "to decide",
                path=f"stages[{i}].depth",
            )

    @property
    def scale(self) -> Scale:
        """The last stage's scale."""
        return self.stages[-1].reranker.scale

    def estimate(self, query: str, texts: Sequence[str]) -> Usage:
        """Estimate what the stages cost, each with as many texts as may enter: the first, since nobody knows which."""
        found = Usage()
        for stage in self.stages:
            texts = texts[: stage.depth]
            found += stage.reranker.estimate(query, texts)
        return found

    def _plan(self, query: str, candidates: tuple[Candidate, ...]) -> Plan:
        hits: tuple[Hit, ...] = ()
        ahead: list[Hit] = []
        stopped: list[Hit] = []
        entering, before = candidates, None
        scale, notes, substituted = self.scale, [], False
        for number, stage in enumerate(self.stages, start=1):
            entry = self._entry(stage, entering, before)
            inside = entering[entry.start : entry.stop]
            ahead += [_unscored(c, f"surely in before stage {number}") for c in entering[: entry.start]]
            stopped[:0] = [_unscored(c, f"stopped before stage {number} ({entry.why})") for c in entering[entry.stop :]]
            notes.append(f"stage {number}: {len(inside)} of {len(entering)} entered{entry.remark}")
            before = yield Call(stage.reranker, query, inside)
            hits, scale, substituted = before.hits, before.scale, before.substituted
            if number == len(self.stages):
                break
            going_on = [hit for hit in hits if hit.raw_score is not None]
            if not going_on and (going_on := [hit for hit in hits if hit.unscored != BLANK]):
                notes.append(f"stage {number} scored nothing, so its candidates went on in their order")
            entering = tuple(hit.candidate for hit in going_on)
            ids = {hit.id for hit in going_on}
            stopped[:0] = [hit for hit in hits if hit.id not in ids]
        return PlanResult(renumber((*ahead, *hits, *stopped)), scale, notes=tuple(notes), substituted=substituted)

    def _entry(self, stage: Stage, entering: Sequence[Candidate], before: Ranking | None) -> _Entry:
        """Choose who enters a stage, by its depth and by its margin in the ranking before."""
        stop, why = len(entering) if stage.depth is None else stage.depth, f"depth {stage.depth}"
        if stage.margin is None or self.cut is None or before is None:
            return _Entry(0, stop, why)
        if before.degraded:
            remark = f"; its margin of {stage.margin:g} was not applied, because the stage before was degraded"
            return _Entry(0, stop, why, remark)
        sure, close = _around(self.cut, stage.margin, [h.raw_score for h in before if h.raw_score is not None])
        if close < stop:
            stop, why = close, f"more than {stage.margin:g} below place {self.cut}"
        remark = (
            f" (margin {stage.margin:g} at the cut of {self.cut}: {sure} surely in, {close - sure} undecided, "
            f"{len(entering) - close} surely out)"
        )
        return _Entry(sure if stage.border_only else 0, stop, why, remark)


class _Entry(NamedTuple):
    """Who enters a stage: the places from ``start`` to ``stop``; why no more, and a remark for the trace."""

    start: int
    stop: int
    why: str
    remark: str = ""


def _around(cut: int, margin: float, scores: Sequence[float]) -> tuple[int, int]:
    """Return how many of falling scores are surely above a cut, and how many are not surely below it."""
    if len(scores) <= cut:
        return len(scores), len(scores)
    last_in, first_out = scores[cut - 1], scores[cut]
    return sum(s - first_out > margin for s in scores), sum(last_in - s <= margin for s in scores)


def tops_unscored(reranker: Reranker) -> bool:
    """Whether rankings may begin with hits that have no score."""
    if isinstance(reranker, Cascade) and reranker.stages[-1].border_only:
        return True
    return isinstance(reranker, Composite) and any(map(tops_unscored, reranker.children))


def _unscored(candidate: Candidate, reason: str) -> Hit:
    return Hit(rank=0, score=None, raw_score=None, candidate=candidate, unscored=reason)
