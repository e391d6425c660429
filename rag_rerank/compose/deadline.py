"""Deadline: a time limit for a whole reranker, and what to do when the time is up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from rag_rerank._checks import finite_positive, one_of
from rag_rerank._lazy import load_once
from rag_rerank.base import PointwiseReranker
from rag_rerank.compose.wrapper import Wrapper
from rag_rerank.errors import DeadlineExceeded, TransientError
from rag_rerank.execution.deadline import Limit, seconds_left
from rag_rerank.execution.plan import Call, Plan, PlanResult
from rag_rerank.execution.ranking import best_first, blank_last, in_first_stage_order
from rag_rerank.execution.throughput import Throughput, estimated_tokens
from rag_rerank.types import Candidate, Hit, Ranking

__all__ = ["Deadline"]

_SHARE = 0.8
"""Share of the time left that a round should fill by estimate; the rest is a reserve for low estimates."""

_LATE = 2.0
"""Factor by which a late call is assumed to exceed its time; its real time is unknown, and the next must be smaller."""


@dataclass(frozen=True, kw_only=True)
class Deadline(Wrapper):
    """A reranker with a limit on its total time, with all retries, fallbacks, hedges and waits inside it.

    If a call has a shorter limit already (``rerank(..., timeout=)``, or a deadline around this one), that limit counts,
    and raises when it ends; ``"partial"`` fits its scoring into it. A `DeadlineExceeded` of a deadline inside is a
    failure like any other: it is raised.

    ``"partial"`` scores at least one candidate. How many fit into the time is estimated from earlier calls: a local
    model uses its own throughput and the calls that it is working on; for every other reranker the calls of this
    deadline count. If a score depends on the query and its text alone, candidates go in several rounds, each as large
    as fits into most of the time left. The scores of earlier rounds are then kept if a later one is late or fails with
    a transient error. Other rerankers get one round.

    Args:
        reranker: The reranker that must answer in time.
        seconds: The time limit of a call, in seconds.
        on_late: What to do when the time is up. The last two are marked in ``ranking.degraded``.

            - ``"error"``: Raise `DeadlineExceeded`, on which a `Fallback` around this one calls its next member.
            - ``"first_stage"``: Return the candidates in the incoming order without scores. This is the default.
            - ``"partial"``: Score as many candidates as fit into the time, in the incoming order; the others follow
              without a score.

    Raises:
        ConfigError: ``seconds`` is not a finite number of more than 0, ``on_late`` is none of the three, or
            ``reranker`` is no reranker.
    """

    kind: ClassVar[str] = "deadline"

    seconds: float
    on_late: Literal["first_stage", "error", "partial"] = "first_stage"

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of(self.on_late, ("first_stage", "error", "partial"), "on_late")
        finite_positive(self.seconds, "seconds")

    def texts_within(self, query: str, texts: Sequence[str], seconds: float) -> None:
        """Return ``None``: a `Deadline` around this one uses the times of its own calls."""

    def _plan(self, query: str, candidates: tuple[Candidate, ...]) -> Plan:
        if self.on_late == "partial":
            return (yield from self._in_rounds(query, candidates))
        limit = Limit(self.seconds, None)
        try:
            ranking = yield Call(self.reranker, query, candidates, self.seconds)
        except DeadlineExceeded:
            if self.on_late == "error" or not limit.over:
                raise
            reason = f"not reranked, in the order of the first stage: {self.reranker.label} was late for {self._time}"
            hits = in_first_stage_order(candidates, f"late for {self._time}")
            return PlanResult(hits, self.scale, degraded=(reason,), substituted=True)
        return PlanResult(ranking.hits, ranking.scale, substituted=ranking.substituted, answerable=ranking.answerable)

    def _in_rounds(self, query: str, candidates: tuple[Candidate, ...]) -> Plan:
        limit = Limit(self.seconds, None)
        end = f"in {min(self.seconds, seconds_left()):.3g} s"
        rankings: list[Ranking] = []
        waiting = candidates
        while True:
            seconds = limit.remaining
            fitting = self._fitting(query, [c.text for c in waiting], min(seconds, seconds_left()) * _SHARE)
            if waiting and not fitting:
                if rankings:
                    break
                fitting = 1  # else an estimate from a slow moment would never be corrected
            load = sum(estimated_tokens(query, [c.text for c in waiting[:fitting]]))
            try:
                rankings.append((yield Call(self.reranker, query, waiting[:fitting], seconds)))
            except TransientError as error:
                if isinstance(error, DeadlineExceeded) and limit.over:
                    self._throughput.note(load, _LATE * (seconds - limit.remaining))
                elif rankings:
                    end = f"before a failure ({type(error).__name__})"
                else:
                    raise
                break
            self._throughput.note(load, seconds - limit.remaining)
            waiting = waiting[fitting:]
            if not waiting or not self._may_split:
                break
        return self._merge(candidates, rankings, waiting, end)

    def _fitting(self, query: str, texts: Sequence[str], seconds: float) -> int:
        """Return how many of the texts, from the first on, fit by estimate; all where there is none yet."""
        fitting = self.reranker.texts_within(query, texts, seconds)
        if fitting is None:
            fitting = self._throughput.texts_within(estimated_tokens(query, texts), seconds)
        return len(texts) if fitting is None else min(fitting, len(texts))

    def _merge(
        self, candidates: tuple[Candidate, ...], rankings: Sequence[Ranking], waiting: Sequence[Candidate], end: str
    ) -> PlanResult:
        """Return the hits of all rounds in one order, and behind them the candidates that no round reached."""
        if len(rankings) == 1:  # keep its order, which need not follow from its scores
            (ranking,) = rankings
            hits, scale = ranking.hits, ranking.scale
        else:
            hits, scale = _rank_together([hit for ranking in rankings for hit in ranking]), self.scale
        degraded: tuple[str, ...] = ()
        if waiting:
            reached = len(candidates) - len(waiting)
            degraded = (f"{reached} of {len(candidates)} candidates were scored {end}; the others follow",)
            hits = blank_last((*hits, *in_first_stage_order(waiting, f"not reached {end}")))
        substituted = not rankings or any(ranking.substituted for ranking in rankings)
        return PlanResult(hits, scale, degraded=degraded, substituted=substituted)

    @property
    def _may_split(self) -> bool:
        """Whether a score does not depend on the other candidates, so that several rounds give the same scores."""
        return isinstance(self.reranker, PointwiseReranker) and self.reranker.why_not_cacheable is None

    @property
    def _time(self) -> str:
        return f"{self.seconds:g} s"

    @load_once
    def _throughput(self) -> Throughput:
        return Throughput()


def _rank_together(hits: Sequence[Hit]) -> tuple[Hit, ...]:
    """Rank the hits of several rounds, given round by round, like those of one; ties keep the incoming order."""
    scored = [hit for hit in hits if hit.raw_score is not None]
    return blank_last((*best_first(scored), *(hit for hit in hits if hit.raw_score is None)))
