"""Ensemble: several rerankers score all candidates, and their rankings are fused into one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import fmean, pstdev
from typing import ClassVar, Literal

from rag_rerank._checks import number, one_of
from rag_rerank.base import Composite, Reranker
from rag_rerank.compose.wrapper import check_reranker
from rag_rerank.errors import AllFailed, ConfigError, RerankError, TransientError
from rag_rerank.execution.plan import Call, InThread, Outcome, Parallel, Plan, PlanResult, is_permanent
from rag_rerank.execution.ranking import ranked_hits, reciprocal_ranks
from rag_rerank.types import Candidate, Hit, Ranking, Scale, Scores

__all__ = ["Ensemble"]

FUSIONS = ("rrf", "combsum", "combmnz", "weighted")

_MANY = 2000
"""Scores of all members together, whose fusion takes some ten milliseconds."""


@dataclass(frozen=True, kw_only=True)
class Ensemble(Composite):
    """Several rerankers that each rank all candidates at the same time; their rankings are fused into one.

    The scores of the fused ranking are on the scale ``unbounded``: they compare within one call only.

    A candidate without a score from some member gets that member's lowest one; with ``"rrf"`` it gets nothing from that
    member. A candidate that no member scored has no score and comes last. A member that fails with a transient error is
    left out, and ``ranking.degraded`` says so; any other failure is raised.

    Args:
        members: The rerankers, at least two.
        fusion: The formula that makes one score of the members' ranks or scores.

            - ``"rrf"``: Reciprocal rank fusion, the sum of ``weight / (k + rank)`` (Cormack, Clarke and Buettcher,
              SIGIR 2009). It uses ranks only, so the members' scales do not matter.
            - ``"combsum"``: The sum of the normalised scores (Fox and Shaw, TREC-2, 1994).
            - ``"combmnz"``: That sum times the number of members that scored the candidate (same paper). It would
              favour candidates with few scores if scores could be below 0, so it takes scores of at least 0 only.
            - ``"weighted"``: The sum of ``weight * normalised score``.
        normalise: What is done with a member's scores before they are added. For all fusions but ``"rrf"``; by default
            ``"min-max"`` for them.

            - ``"min-max"``: Raw scores to 0..1 within the call; all 0.5 where they are equal (Lee, SIGIR 1997).
            - ``"z-score"``: Raw scores to mean 0 and standard deviation 1 within the call; all 0 where they are equal.
            - ``"none"``: The presented scores unchanged, for members that all answer on one scale.
        weights: One number a member, not negative, and at least one above 0. ``"weighted"`` needs them; ``"rrf"`` takes
            them, and counts all members equally by default.
        k: The constant of reciprocal rank fusion. A larger one brings the weights of high and low ranks closer
            together. The default, 60, is the paper's.

    Raises:
        ConfigError: Too few members, members on different scales whose scores would be added unchanged, an option that
            the fusion does not have, or a number out of range.
        AllFailed: All members failed with transient errors.
    """

    kind: ClassVar[str] = "ensemble"

    members: Sequence[Reranker]
    fusion: Literal["rrf", "combsum", "combmnz", "weighted"] = "rrf"
    normalise: Literal["min-max", "z-score", "none"] | None = None
    weights: Sequence[float] | None = None
    k: float = 60.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.members) < 2:
            raise ConfigError(f"an ensemble needs at least two members, got {len(self.members)}", path="members")
        for i, member in enumerate(self.members):
            check_reranker(member, f"members[{i}]")
        one_of(self.fusion, FUSIONS, "fusion")
        if self.normalise is not None:
            one_of(self.normalise, NORMALISATIONS, "normalise")
            if self.fusion == "rrf":
                raise ConfigError("rrf uses ranks, so there are no scores to normalise", path="normalise")
        number(self.k, "k", 0)
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
        """Whether all scores that are added are at least 0."""
        if self.normalise == "none":
            return all(member.scale in ("sigmoid", "relevance", "calibrated") for member in self.members)
        return self.normalise != "z-score"

    def _check_weights(self) -> None:
        if self.weights is None:
            if self.fusion == "weighted":
                raise ConfigError("a weighted fusion needs weights, one a member", path="weights")
            return
        if self.fusion not in ("weighted", "rrf"):
            raise ConfigError(f"{self.fusion} has no weights; fusion 'weighted' does", path="weights")
        if len(self.weights) != len(self.members):
            raise ConfigError(f"{len(self.weights)} weights for {len(self.members)} members", path="weights")
        for i, weight in enumerate(self.weights):
            number(weight, f"weights[{i}]", 0)
        if not any(self.weights):
            raise ConfigError("all weights are 0", path="weights")

    @property
    def scale(self) -> Scale:
        """Unbounded: sums of ranks or of normalised scores can be compared within one call only."""
        return "unbounded"

    def _plan(self, query: str, candidates: tuple[Candidate, ...]) -> Plan:
        calls = tuple(Call(member, query, candidates) for member in self.members)
        outcomes: tuple[Outcome, ...] = yield Parallel(calls, required=len(calls))
        errors = [outcome for outcome in outcomes if isinstance(outcome, RerankError)]
        for error in errors:
            if is_permanent(error):
                raise error
        weights = self.weights or (1.0,) * len(self.members)
        weighted_rankings, missing = [], []
        for member, weight, outcome in zip(self.members, weights, outcomes, strict=True):
            if not isinstance(outcome, Ranking):
                missing.append(f"{member.label} ({type(outcome).__name__})")
            elif self.normalise == "none" and outcome.scale != member.scale:
                missing.append(f"{member.label} (answered on the scale {outcome.scale!r}, not {member.scale!r})")
            else:
                weighted_rankings.append((weight, outcome))
        if not weighted_rankings:
            transient = [error for error in errors if isinstance(error, TransientError)]
            raise AllFailed(f"no member can be fused: {', '.join(missing)}", errors=transient)
        work = partial(fuse, candidates, weighted_rankings, self.fusion, self.normalise or "min-max", self.k)
        many = len(candidates) * len(weighted_rankings) > _MANY
        return PlanResult(
            (yield InThread(work)) if many else work(),
            self.scale,
            degraded=(f"fused without {', '.join(missing)}",) if missing else (),
            substituted=bool(missing) or any(ranking.substituted for _, ranking in weighted_rankings),
            own_scores=True,
        )


def fuse(
    candidates: Sequence[Candidate],
    weighted_rankings: Sequence[tuple[float, Ranking]],
    fusion: str,
    normalise: str,
    k: float,
) -> tuple[Hit, ...]:
    """Rank the candidates by all rankings together; see `Ensemble` for the formulas.

    A hit has the relevant spans of the first member that says something about them.

    Args:
        candidates: All of them, in incoming order, which breaks ties.
        weighted_rankings: Weight and ranking of each member that answered.
        fusion: One of `FUSIONS`.
        normalise: One of `NORMALISATIONS`.
        k: The constant of reciprocal rank fusion.
    """
    scored = [[hit for hit in ranking if hit.raw_score is not None] for _, ranking in weighted_rankings]
    count = {candidate.id: 0 for candidate in candidates}
    total = dict.fromkeys(count, 0.0)
    for (weight, _), hits in zip(weighted_rankings, scored, strict=True):
        for hit in hits:
            count[hit.id] += 1
        ids = [hit.id for hit in hits]
        addends = reciprocal_ranks(ids, k) if fusion == "rrf" else _normalised_scores(hits, total, normalise)
        for id, addend in addends.items():
            total[id] += weight * addend
    if fusion == "combmnz":
        total = {id: count[id] * value for id, value in total.items()}
    reasons = {
        hit.id: hit.unscored or ""
        for _, ranking in reversed(weighted_rankings)
        for hit in ranking
        if hit.raw_score is None
    }
    where = [i for i, candidate in enumerate(candidates) if count[candidate.id]]
    values = [total[candidates[i].id] for i in where]
    unscored = {i: reasons[candidate.id] for i, candidate in enumerate(candidates) if not count[candidate.id]}
    spans = {
        hit.id: hit.spans for _, ranking in reversed(weighted_rankings) for hit in ranking if hit.spans is not None
    }
    scores = Scores(values, "unbounded", spans=[spans.get(candidates[i].id) for i in where] if spans else ())
    return ranked_hits(candidates, scores, where, unscored)


def _normalised_scores(hits: Sequence[Hit], ids: Mapping[str, float], normalise: str) -> dict[str, float]:
    """Return a normalised score for every candidate; one without a score gets the lowest."""
    if not hits:
        return {}
    values = NORMALISATIONS[normalise](hits)
    return dict.fromkeys(ids, min(values)) | {hit.id: value for hit, value in zip(hits, values, strict=True)}


def _min_max(hits: Sequence[Hit]) -> list[float]:
    raw = [hit.raw_score or 0.0 for hit in hits]
    low, high = min(raw), max(raw)
    if low == high:
        return [0.5] * len(raw)
    return [(value / 2 - low / 2) / (high / 2 - low / 2) for value in raw]  # halves, because the range may overflow


def _z_score(hits: Sequence[Hit]) -> list[float]:
    raw = [hit.raw_score or 0.0 for hit in hits]
    largest = max(map(abs, raw)) or 1.0
    raw = [value / largest for value in raw]  # their squares may overflow; a common factor changes nothing
    mean, deviation = fmean(raw), pstdev(raw)
    return [0.0] * len(raw) if deviation == 0 else [(value - mean) / deviation for value in raw]


def _presented_scores(hits: Sequence[Hit]) -> list[float]:
    return [hit.score or 0.0 for hit in hits]


NORMALISATIONS: Mapping[str, Callable[[Sequence[Hit]], list[float]]] = {
    "min-max": _min_max,
    "z-score": _z_score,
    "none": _presented_scores,
}
"""Name -> function from a member's hits, which all have a score, to their normalised scores."""
