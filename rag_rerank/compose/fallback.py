"""Fallback: the next reranker when the one before is unavailable."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from rag_rerank._checks import one_of
from rag_rerank.base import Composite, Reranker
from rag_rerank.compose.wrapper import check_reranker
from rag_rerank.errors import AllFailed, ConfigError, ModelUnavailable, TransientError
from rag_rerank.execution.plan import Call, Plan, PlanResult
from rag_rerank.execution.ranking import in_first_stage_order
from rag_rerank.trace import Usage
from rag_rerank.types import Candidate, Scale

__all__ = ["Fallback"]


@dataclass(frozen=True, kw_only=True)
class Fallback(Composite):
    """Several rerankers, called in turn until one answers: a reserve for a provider that may be unavailable.

    Only a `TransientError` (a timeout, a rate limit, a provider that cannot be reached) leads to the next member. A
    wrong key or a rejected request is raised, because it is a mistake that a fallback would hide. If another member
    than the first one answers, ``ranking.degraded`` says which, why, and on which scale its scores are if it is another
    one.

    All members share the time of a call. Put a `Deadline` around a member that may hang, so that time is left for the
    next one.

    Args:
        members: The rerankers, the preferred one first: at least two, or one with ``on_failure: first_stage``.
        on_failure: What to do when all members have failed.

            - ``"error"``: Raise `AllFailed`.
            - ``"first_stage"``: Return the candidates in the incoming order without scores, and say so in
              ``ranking.degraded``.

    Raises:
        ConfigError: There are too few members, one is no reranker, or ``on_failure`` is neither of the two.
        AllFailed: All members failed with transient errors, and ``on_failure`` is ``"error"``.
    """

    kind: ClassVar[str] = "fallback"

    members: Sequence[Reranker]
    on_failure: Literal["error", "first_stage"] = "error"

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of(self.on_failure, ("error", "first_stage"), "on_failure")
        least, members = (2, "two members") if self.on_failure == "error" else (1, "one member")
        if len(self.members) < least:
            raise ConfigError(f"a fallback needs at least {members}, got {len(self.members)}", path="members")
        for i, member in enumerate(self.members):
            check_reranker(member, f"members[{i}]")

    @property
    def scale(self) -> Scale:
        """The first member's scale; a degraded ranking may be on another."""
        return self.members[0].scale

    def estimate(self, query: str, texts: Sequence[str]) -> Usage:
        """Estimate the cost of the first member; the others are called only if it fails."""
        return self.members[0].estimate(query, texts)

    def _plan(self, query: str, candidates: tuple[Candidate, ...]) -> Plan:
        errors: list[TransientError] = []
        for member in self.members:
            try:
                ranking = yield Call(member, query, candidates)
            except TransientError as error:
                errors.append(error)
                continue
            return PlanResult(
                ranking.hits,
                ranking.scale,
                degraded=self._degraded_reasons(member, ranking.scale, errors),
                substituted=ranking.substituted or bool(errors),
                answerable=ranking.answerable,
            )
        failures = "; ".join(f"{m.label}: {_cause(e)}" for m, e in zip(self.members, errors, strict=True))
        if self.on_failure == "first_stage":
            reason = f"not reranked, in the order of the first stage: all members failed ({failures})"
            hits = in_first_stage_order(candidates, "all members failed")
            return PlanResult(hits, self.scale, degraded=(reason,), substituted=True)
        raise AllFailed(f"all {len(errors)} members failed ({failures})", errors=errors) from errors[-1]

    def _degraded_reasons(self, member: Reranker, scale: Scale, errors: list[TransientError]) -> tuple[str, ...]:
        """Return why an answer of this member, on this scale, is degraded."""
        if not errors:
            return ()
        failures = ", ".join(f"{m.label} ({_cause(e)})" for m, e in zip(self.members, errors, strict=False))
        return (f"{member.label} answered in place of {failures}{change_of_scale(self.scale, scale)}",)


def _cause(error: TransientError) -> str:
    """Return the class of an error, and why a model is absent: its user can mend that, if they know."""
    reason = error.reason if isinstance(error, ModelUnavailable) else ""
    return type(error).__name__ + (f": {reason}" if reason else "")


def change_of_scale(expected: Scale, actual: Scale) -> str:
    """Return the end of a reason for degradation where scores are on another scale than expected; else nothing."""
    return "" if actual == expected else f"; scores are on the scale {actual!r}, not {expected!r}"
