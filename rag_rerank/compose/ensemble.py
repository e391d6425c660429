"""Ensemble: several rerankers read everything, and their rankings become one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

from rag_rerank.base import Composite, Reranker, check_choice, check_reranker
from rag_rerank.compose.fusion import FUSIONS, NORMALISATIONS, fused
from rag_rerank.errors import AllFailed, ConfigError, RerankError, TransientError
from rag_rerank.execution.plan import Call, Decision, Outcome, Plan, Together, Work, lasting
from rag_rerank.types import Candidate, Ranking, Scale

__all__ = ["Ensemble"]

_MANY = 2000
"""Scores of all members together whose fusion takes some ten milliseconds."""


@dataclass(frozen=True, kw_only=True)
class Ensemble(Composite):
    """Asks all its members side by side, and fuses their rankings into one, on the scale ``unbounded``.

    ``fusion`` says how:

    - ``"rrf"``: reciprocal rank fusion, the sum of ``weight / (k + rank)`` (Cormack, Clarke and Buettcher, SIGIR
      2009). Looks at ranks only, so the members' scales do not matter.
    - ``"combsum"``: the sum of the normalised scores (Fox and Shaw, TREC-2, 1994).
    - ``"combmnz"``: that sum times the number of members that scored the candidate (same paper). Scores below 0 would
      turn its meaning round, so it takes scores from 0 on only.
    - ``"weighted"``: the sum of ``weight * normalised score``.

    ``normalise`` says what is done to a member's scores before they are added:

    - ``"min-max"``: raw scores to 0..1 within the call; all 0.5 where they are equal (Lee, SIGIR 1997).
    - ``"z-score"``: raw scores to mean 0 and standard deviation 1 within the call; all 0 where they are equal.
    - ``"none"``: the presented scores as they are, for members that all answer on one scale.

    A candidate that a member left without a score counts as that member's lowest; ``"rrf"`` gives it nothing. One that
    no member scored has no score and stands last.

    A member that fails for a reason that may pass is left out, and the ranking is degraded; any other failure is
    raised.

    Args:
        members: At least two.
        fusion: How rankings become one.
        normalise: For all fusions but ``"rrf"``; ``None`` means ``"min-max"`` for them.
        weights: One a member, not negative, some positive; for ``"weighted"`` (needed) and ``"rrf"``.
        k: The constant of reciprocal rank fusion; 60 is the paper's.

    Raises:
        ConfigError: Too few members, members on different scales whose scores are added as they are, an option that
            the fusion does not know, or a number that is none.
        AllFailed: All members failed for reasons that may pass.
    """

    kind: ClassVar[str] = "ensemble"

    members: tuple[Reranker, ...]
    fusion: Literal["rrf", "combsum", "combmnz", "weighted"] = "rrf"
    normalise: Literal["min-max", "z-score", "none"] | None = None
    weights: tuple[float, ...] | None = None
    k: float = 60.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.members) < 2:
            raise ConfigError(f"an ensemble needs at least two members, got {len(self.members)}", path="members")
        for i, member in enumerate(self.members):
            check_reranker(member, f"members[{i}]")
        check_choice(self.fusion, FUSIONS, "fusion")
        if self.normalise is not None:
            check_choice(self.normalise, NORMALISATIONS, "normalise")
            if self.fusion == "rrf":
                raise ConfigError("rrf looks at ranks, so there are no scores to normalise", path="normalise")
        if not (self.k >= 0 and math.isfinite(self.k)):
            raise ConfigError(f"k must be a finite number of at least 0, got {self.k}", path="k")
        self._check_weights()
        if self.fusion == "combmnz" and not self._from_zero:
            raise ConfigError(
                "combmnz multiplies, so it needs scores that are not below 0; normalise them by 'min-max'",
                path="normalise",
            )
        if self.normalise == "none":
            for i, member in enumerate(self.members):
                if member.scale != self.members[0].scale:
                    raise ConfigError(
                        f"{member.label} scores on the scale {member.scale!r} and {self.members[0].label} on "
                        f"{self.members[0].scale!r}; choose another normalise, since these cannot be added",
                        path=f"members[{i}]",
                    )

    @property
    def _from_zero(self) -> bool:
        """Whether no score that is added can be below 0."""
        if self.normalise == "none":
            return all(member.scale in ("sigmoid", "relevance", "calibrated") for member in self.members)
        return self.normalise != "z-score"

    def _check_weights(self) -> None:
        if self.weights is None:
            if self.fusion == "weighted":
                raise ConfigError("a weighted fusion needs weights, one a member", path="weights")
            return
        if self.fusion not in ("weighted", "rrf"):
            raise ConfigError(f"{self.fusion} knows no weights; fusion 'weighted' does", path="weights")
        if len(self.weights) != len(self.members):
            raise ConfigError(f"{len(self.weights)} weights for {len(self.members)} members", path="weights")
        for i, weight in enumerate(self.weights):
            if not (weight >= 0 and math.isfinite(weight)):
                raise ConfigError(f"a weight must be a finite number of at least 0, got {weight}", path=f"weights[{i}]")
        if not any(self.weights):
            raise ConfigError("all weights are 0", path="weights")

    @property
    def scale(self) -> Scale:
        """Unbounded: sums of ranks or of normalised scores mean something within one call only."""
        return "unbounded"

    def _plan(self, query: str, candidates: tuple[Candidate, ...]) -> Plan:
        calls = tuple(Call(member, query, candidates) for member in self.members)
        outcomes: tuple[Outcome, ...] = yield Together(calls, vital=len(calls))
        errors = [outcome for outcome in outcomes if isinstance(outcome, RerankError)]
        for error in errors:
            if lasting(error):
                raise error
        weights = self.weights or (1.0,) * len(self.members)
        voices, missing = [], []
        for member, weight, outcome in zip(self.members, weights, outcomes, strict=True):
            if not isinstance(outcome, Ranking):
                missing.append(f"{member.label} ({type(outcome).__name__})")
            elif self.normalise == "none" and outcome.scale != member.scale:
                missing.append(f"{member.label} (answered on the scale {outcome.scale!r}, not {member.scale!r})")
            else:
                voices.append((weight, outcome))
        if not voices:
            passing = [error for error in errors if isinstance(error, TransientError)]
            raise AllFailed(f"no member can be fused: {', '.join(missing)}", errors=passing)
        fuse = partial(fused, candidates, voices, self.fusion, self.normalise or "min-max", self.k)
        many = len(candidates) * len(voices) > _MANY
        return Decision(
            (yield Work(fuse)) if many else fuse(),
            self.scale,
            degraded=(f"fused without {', '.join(missing)}",) if missing else (),
            substituted=bool(missing) or any(ranking.substituted for _, ranking in voices),
            own_scores=True,
        )
