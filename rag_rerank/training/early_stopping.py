"""Early stopping: the curve of a run, its best step, and how long ago that was. Checkpoints hold this state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from rag_rerank.training.validation import Quality

__all__ = ["Point", "TrainingState"]


@dataclass(frozen=True, kw_only=True)
class Point:
    """A point of the curve: loss and quality after some steps.

    Args:
        step: Steps so far.
        loss: Mean loss of the steps since the point before; ``None`` before the first step.
        ndcg: nDCG@10 on the validation, if there is one.
        lift: Lift at top-3 on the validation, if there is one.
    """

    step: int
    loss: float | None
    ndcg: float | None = None
    lift: float | None = None


@dataclass
class TrainingState:
    """The state of a run: the curve so far, the best step, and the number of validations since then.

    Checkpoints hold it as JSON.

    Args:
        curve: Points in order of steps.
        best_step: The step with the best nDCG@10; without a validation 0, and at the end the last step.
        best: Its nDCG@10.
        stale: Validations since that step.
        finished: Whether the last step is done, or patience ended the run.
        losses: Losses of the steps since the last point.
        sessions: When it was started or resumed (UTC), and from which step.
        seconds: Time of the training, in all sessions.
    """

    curve: list[Point] = field(default_factory=list)
    best_step: int = 0
    best: float | None = None
    stale: int = 0
    finished: bool = False
    losses: list[float] = field(default_factory=list)
    sessions: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0

    def add(self, step: int, quality: Quality | None, *, competes: bool = True) -> bool:
        """Add a point; return whether it is the best so far, if it competes for that."""
        loss = sum(self.losses) / len(self.losses) if self.losses else None
        self.losses.clear()
        ndcg, lift = (None, None) if quality is None else (quality.ndcg, quality.lift)
        self.curve.append(Point(step=step, loss=loss, ndcg=ndcg, lift=lift))
        if ndcg is None or not competes:
            return False
        if self.best is not None and ndcg <= self.best:
            self.stale += 1
            return False
        self.best_step, self.best, self.stale = step, ndcg, 0
        return True

    def to_dict(self) -> dict[str, Any]:
        """Return plain values; `from_dict` reads them back, floats bit by bit."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> TrainingState:
        """Return the state whose `to_dict` this was; further keys are ignored."""
        fields = {name: data[name] for name in cls.__dataclass_fields__}
        return cls(**{**fields, "curve": [Point(**point) for point in data["curve"]]})
