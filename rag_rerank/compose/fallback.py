"""Fallback: the next reranker when the one before is unavailable."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from rag_rerank._plan import Call, Decision, Plan
from rag_rerank.base import Composite, Reranker, check_reranker
from rag_rerank.errors import AllFailed, ConfigError, TransientError
from rag_rerank.types import Candidate, Scale

__all__ = ["Fallback"]


@dataclass(frozen=True, kw_only=True)
class Fallback(Composite):
    """Asks its members in turn until one answers.

    Only a `TransientError` (timeout, rate limit, unavailable) moves on to the next member: a wrong key or a
    rejected request is a mistake that a fallback would hide. An answer by any but the first member is marked in
    ``ranking.degraded``, with the reason and with the change of scale, if there is one.

    Args:
        members: At least two, the preferred one first.

    Raises:
        ConfigError: There are fewer than two members, or one is no reranker.
    """

    kind: ClassVar[str] = "fallback"

    members: tuple[Reranker, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.members) < 2:
            raise ConfigError(f"a fallback needs at least two members, got {len(self.members)}", path="members")
        for i, member in enumerate(self.members):
            check_reranker(member, f"members[{i}]")

    @property
    def scale(self) -> Scale:
        """The first member's scale; a degraded ranking may be on another."""
        return self.members[0].scale

    def _plan(self, query: str, candidates: tuple[Candidate, ...]) -> Plan:
        errors: list[TransientError] = []
        for member in self.members:
            try:
                ranking = yield Call(member, query, candidates)
            except TransientError as error:
                errors.append(error)
                continue
            return Decision(ranking.hits, ranking.scale, degraded=self._degraded(member, ranking.scale, errors))
        tried = "; ".join(f"{m.label}: {type(e).__name__}" for m, e in zip(self.members, errors, strict=True))
        raise AllFailed(f"all {len(errors)} members failed ({tried})", errors=errors) from errors[-1]

    def _degraded(self, answered: Reranker, scale: Scale, errors: list[TransientError]) -> tuple[str, ...]:
        if not errors:
            return ()
        failed = ", ".join(f"{m.label} ({type(e).__name__})" for m, e in zip(self.members, errors, strict=False))
        change = "" if scale == self.scale else f"; scores are on the scale {scale!r}, not {self.scale!r}"
        return (f"{answered.label} answered in place of {failed}{change}",)
