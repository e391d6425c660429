"""Hedge: a second request when the first is slow, and the first answer wins."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from rag_rerank.base import Composite, PointwiseReranker, Reranker
from rag_rerank.compose.fallback import change_of_scale
from rag_rerank.compose.wrapper import check_reranker
from rag_rerank.errors import AllFailed, ConfigError, RerankError, TransientError
from rag_rerank.execution.plan import Call, Outcome, Parallel, Plan, PlanResult, is_permanent
from rag_rerank.types import Candidate, Ranking, Scale

__all__ = ["Hedge"]


@dataclass(frozen=True, kw_only=True)
class Hedge(Composite):
    """Asks its first member, the next one too when no answer has come after some time, and takes the first answer.

    That is the hedged request of Dean and Barroso ("The Tail at Scale", CACM 56(2), 2013): with ``after`` near the
    95th percentile of the first member's latency, about one call in twenty is sent twice, and the slowest calls become
    as fast as the faster of two. A member that fails for a reason that may pass is replaced at once.

    What loses is abandoned: it begins no retry any more, and is cancelled where it runs on an event loop. A provider
    may bill it all the same. So members must be providers; a local model that lost would keep this machine busy.

    An answer of another model than the first member's, or of the same model with other settings, is marked in
    ``ranking.degraded``. A failure of the first member that will not pass (a wrong key) is raised, whoever else
    answers; such a failure of another member is marked as degraded, because the hedge is none then.

    Args:
        members: At least two, the preferred one first, each of them a provider or made of providers.
        after: Seconds without an answer, after which the next member is asked too.

    Raises:
        ConfigError: There are fewer than two members, one of them works on this machine, or ``after`` is no finite
            number of more than 0.
        AllFailed: All members failed for reasons that may pass.
    """

    kind: ClassVar[str] = "hedge"

    members: tuple[Reranker, ...]
    after: float

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.members) < 2:
            raise ConfigError(f"a hedge needs at least two members, got {len(self.members)}", path="members")
        for i, member in enumerate(self.members):
            check_reranker(member, f"members[{i}]")
            if not member.remote:
                raise ConfigError(
                    f"{member.label} works on this machine, which a second call would only slow down; hedge providers",
                    path=f"members[{i}]",
                )
        if not (self.after > 0 and math.isfinite(self.after)):
            raise ConfigError(f"after must be a finite number of more than 0 seconds, got {self.after}", path="after")

    @property
    def scale(self) -> Scale:
        """The first member's scale; a degraded ranking may be on another."""
        return self.members[0].scale

    def _plan(self, query: str, candidates: tuple[Candidate, ...]) -> Plan:
        calls = tuple(Call(member, query, candidates) for member in self.members)
        outcomes: tuple[Outcome, ...] = yield Parallel(calls, stagger=self.after, needed=1, required=1)
        mistakes = [(i, o) for i, o in enumerate(outcomes) if is_permanent(o)]
        answer = next((i for i, outcome in enumerate(outcomes) if isinstance(outcome, Ranking)), None)
        for i, error in mistakes:
            if i == 0 or answer is None:
                raise error
        if answer is None:
            errors = [o for o in outcomes if isinstance(o, TransientError)]
            raise AllFailed(f"all {len(errors)} members failed ({self._told(outcomes)})", errors=errors) from errors[-1]
        ranking = outcomes[answer]
        assert isinstance(ranking, Ranking)
        other = not _same_model(self.members[answer], self.members[0])
        degraded = [self._other(answer, ranking.scale, outcomes)] if other else []
        degraded += [
            f"{self.members[i].label} cannot answer ({type(o).__name__}), so it is no hedge" for i, o in mistakes
        ]
        return PlanResult(
            ranking.hits, ranking.scale, degraded=tuple(degraded), substituted=ranking.substituted or other
        )

    def _other(self, answer: int, scale: Scale, outcomes: tuple[Outcome, ...]) -> str:
        why = "failed" if isinstance(outcomes[0], RerankError) else f"had not answered after {self.after:g} s"
        change = change_of_scale(self.scale, scale)
        return f"{self.members[answer].label} answered in place of {self.members[0].label}, which {why}{change}"

    def _told(self, outcomes: tuple[Outcome, ...]) -> str:
        return "; ".join(f"{m.label}: {type(o).__name__}" for m, o in zip(self.members, outcomes, strict=True))


def _same_model(one: Reranker, other: Reranker) -> bool:
    """Whether two members give the same scores, as far as their settings tell: one model at two places."""
    if one == other:
        return True
    if type(one) is not type(other) or not isinstance(one, PointwiseReranker):
        return False
    if one.children:
        return len(one.children) == len(other.children) and all(map(_same_model, one.children, other.children))
    return one.model_id is not None and _settings(one) == _settings(other)


def _settings(reranker: Reranker) -> dict[str, Any]:
    """Return what decides a reranker's scores, but for the place where its model is."""
    assert isinstance(reranker, PointwiseReranker)
    apart = ("base_url", "path")
    return {"model_id": reranker.model_id, **{n: v for n, v in reranker._settings.items() if n not in apart}}
