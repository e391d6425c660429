"""What a run knows of itself while it goes on, so that it can go on later."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from rag_rerank.training._validating import Quality

__all__ = ["Course", "Point"]


@dataclass(frozen=True, kw_only=True)
class Point:
    """Where a run stood after some steps.

    Args:
        step: Steps that were done.
        loss: Mean loss of the steps since the point before; ``None`` before the first step.
        ndcg: nDCG@10 on the validation, if there is one.
        lift: Lift at top-3 on the validation.
    """

    step: int
    loss: float | None
    ndcg: float | None = None
    lift: float | None = None


@dataclass
class Course:
    """The curve so far, which step is the best, and for how long nothing better came.

    Args:
        curve: Points in order of steps.
        best_step: The step with the best nDCG@10; without a validation, the last one.
        best: Its nDCG@10.
        stale: Validations since.
        finished: Whether the last step was done, or patience was at its end.
        losses: Losses of the steps since the last point.
        sessions: When it was begun and gone on with, and from which step.
        seconds: Time that training took, in all sessions.
    """

    curve: list[Point] = field(default_factory=list)
    best_step: int = 0
    best: float | None = None
    stale: int = 0
    finished: bool = False
    losses: list[float] = field(default_factory=list)
    sessions: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0

    def add(self, step: int, quality: Quality | None) -> bool:
        """Add a point; return whether it is the best so far."""
        loss = sum(self.losses) / len(self.losses) if self.losses else None
        self.losses.clear()
        ndcg, lift = (None, None) if quality is None else (quality.ndcg, quality.lift)
        self.curve.append(Point(step=step, loss=loss, ndcg=ndcg, lift=lift))
        better = ndcg is None or self.best is None or ndcg > self.best
        if better:
            self.best_step, self.best, self.stale = step, ndcg, 0
        else:
            self.stale += 1
        return better

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON has it; floats come back as they were."""
        return asdict(self)

    @classmethod
    def from_dict(cls, found: Mapping[str, Any]) -> Course:
        """Return what `to_dict` made a dictionary of."""
        known = {name: found[name] for name in cls.__dataclass_fields__}
        return cls(**{**known, "curve": [Point(**point) for point in found["curve"]]})
