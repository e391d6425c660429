"""Hedge: a second request when the first is slow, and the first answer wins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from rag_rerank._checks import finite_positive
from rag_rerank.base import Composite, PointwiseReranker, Reranker
from rag_rerank.compose.fallback import change_of_scale
from rag_rerank.compose.wrapper import check_reranker
from rag_rerank.errors import AllFailed, ConfigError, RerankError, TransientError
from rag_rerank.execution.plan import Call, Outcome, Parallel, Plan, PlanResult, is_permanent
from rag_rerank.types import Candidate, Ranking, Scale

__all__ = ["Hedge"]


@dataclass(frozen=True, kw_only=True)
class Hedge(Composite):
    """Several providers, of which the next is called too if the first is slow; the first answer is used.

    This is the hedged request of Dean and Barroso ("The Tail at Scale", CACM 56(2), 2013). Set ``after`` near the 95th
    percentile of the first member's latency: then about one call in twenty is sent twice, and the slowest calls become
    as fast as the faster of two. If a member fails with a transient error, the next one is called at once.

    The call whose answer is not used is abandoned: it starts no further retry, and is cancelled if it runs on an event
    loop. A provider may bill it nevertheless. Members must be providers, because a local model whose answer is not used
    would keep this machine busy.

    An answer of another model than the first member's, or of the same model with other settings, is marked in
    ``ranking.degraded``. A permanent failure of the first member (a wrong key) is raised, even if another one answers.
    A permanent failure of another member is marked as degraded, because there is no hedge then.

    Args:
        members: The rerankers, the preferred one first: at least two, each of them a provider or made of providers.
        after: Seconds to wait for an answer before the next member is called too. There is no default: measure your
            provider's latency, and take a number near its 95th percentile.

    Raises:
        ConfigError: There are fewer than two members, one of them works on this machine, or ``after`` is not a finite
            number of more than 0.
        AllFailed: All members failed with transient errors.
    """

    kind: ClassVar[str] = "hedge"

    members: Sequence[Reranker]
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
        finite_positive(self.after, "after")

    @property
    def scale(self) -> Scale:
        """The first member's scale; a degraded ranking may be on another."""
        return self.members[0].scale

    def _plan(self, query: str, candidates: tuple[Candidate, ...]) -> Plan:
        calls = tuple(Call(member, query, candidates) for member in self.members)
        outcomes: tuple[Outcome, ...] = yield Parallel(calls, stagger=self.after, needed=1, required=1)
        permanent = [(i, outcome) for i, outcome in enumerate(outcomes) if is_permanent(outcome)]
        winner = next((i for i, outcome in enumerate(outcomes) if isinstance(outcome, Ranking)), None)
        for i, error in permanent:
            if i == 0 or winner is None:
                raise error
        if winner is None:
            errors = [outcome for outcome in outcomes if isinstance(outcome, TransientError)]
            failures = "; ".join(f"{m.label}: {type(o).__name__}" for m, o in zip(self.members, outcomes, strict=True))
            raise AllFailed(f"all {len(errors)} members failed ({failures})", errors=errors) from errors[-1]
        ranking = outcomes[winner]
        assert isinstance(ranking, Ranking)
        other = not _same_model(self.members[winner], self.members[0])
        degraded = [self._substitution(winner, ranking.scale, outcomes)] if other else []
        degraded += [
            f"{self.members[i].label} cannot answer ({type(error).__name__}), so it is no hedge"
            for i, error in permanent
        ]
        return PlanResult(
            ranking.hits,
            ranking.scale,
            degraded=tuple(degraded),
            substituted=ranking.substituted or other,
            answerable=ranking.answerable,
        )

    def _substitution(self, winner: int, scale: Scale, outcomes: tuple[Outcome, ...]) -> str:
        """Return why another member's answer, on this scale, is degraded."""
        why = "failed" if isinstance(outcomes[0], RerankError) else f"had not answered after {self.after:g} s"
        change = change_of_scale(self.scale, scale)
        return f"{self.members[winner].label} answered in place of {self.members[0].label}, which {why}{change}"


def _same_model(first: Reranker, second: Reranker) -> bool:
    """Whether two members give the same scores, judged by their settings: one model on two servers."""
    if first == second:
        return True
    if type(first) is not type(second) or not isinstance(first, PointwiseReranker):
        return False
    if first.children:
        return len(first.children) == len(second.children) and all(map(_same_model, first.children, second.children))
    return first.model_id is not None and _settings(first) == _settings(second)


def _settings(reranker: Reranker) -> dict[str, Any]:
    """Return the settings that decide a reranker's scores, without the address of its model."""
    assert isinstance(reranker, PointwiseReranker)
    places = ("base_url", "path")
    return {"model_id": reranker.model_id, **{n: v for n, v in reranker._settings.items() if n not in places}}
