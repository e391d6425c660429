"""Deadline: a time for the whole of a reranker, and what to do when it is up."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from rag_rerank._checks import one_of
from rag_rerank._lazy import load_once
from rag_rerank.base import PointwiseReranker
from rag_rerank.compose.wrapper import Wrapper
from rag_rerank.errors import ConfigError, DeadlineExceeded, TransientError
from rag_rerank.execution.deadline import Limit, seconds_left
from rag_rerank.execution.plan import Call, Plan, PlanResult
from rag_rerank.execution.throughput import Throughput, estimated_tokens
from rag_rerank.types import Candidate, Hit, Ranking, best_first, blank_last, in_first_stage_order, renumber

__all__ = ["Deadline"]

_SHARE = 0.8
"""Share of the time left that a round is to fill by estimate; the rest is for estimates that were too good."""

_LATE = 2.0
"""How much longer than it was given a late call is taken to need: nobody knows, and the next one is to be smaller."""


@dataclass(frozen=True, kw_only=True)
class Deadline(Wrapper):
    """Gives its reranker a total time: retries, fallbacks, hedges and waits inside are cut by it.

    Where a call has a shorter time already (``rerank(..., timeout=)``, or a deadline further out), that one counts,
    and raises; ``"partial"`` fits what it scores into it. A `DeadlineExceeded` from a deadline further in is a failure
    like any other: it is raised.

    ``on_late="partial"`` scores as many candidates as fit, in incoming order, and lets the others follow without a
    score. At least one is tried. How many fit is estimated from how long earlier calls took: a local model estimates by
    its own pace and by the calls that it is serving, everything else by the calls of this deadline. Where a score
    depends on nothing but the query and its text, candidates go in several rounds, each as large as fits in most of
    the time that is left; so the scores of earlier rounds are kept when a later one is late, or fails for a reason
    that may pass. All else gets one round.

    Args:
        reranker: What has to answer in time.
        seconds: The time.
        on_late: What to do when the time is up: ``"error"`` raises `DeadlineExceeded`, which a `Fallback` further out
            takes as a reason to move on; ``"first_stage"`` returns the candidates in incoming order without scores;
            ``"partial"`` scores what fits. Both of the latter are marked in ``ranking.degraded``.

    Raises:
        ConfigError: ``seconds`` is no finite number of more than 0, ``on_late`` is none of the three, or ``reranker``
            is no reranker.
    """

    kind: ClassVar[str] = "deadline"

    seconds: float
    on_late: Literal["first_stage", "error", "partial"] = "first_stage"

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of(self.on_late, ("first_stage", "error", "partial"), "on_late")
        if not (self.seconds > 0 and math.isfinite(self.seconds)):
            raise ConfigError(f"seconds must be a finite number of more than 0, got {self.seconds}", path="seconds")

    def texts_within(self, query: str, texts: Sequence[str], seconds: float) -> None:
        """Return ``None``: a `Deadline` further out uses the times of its own calls."""

    def _plan(self, query: str, candidates: tuple[Candidate, ...]) -> Plan:
        if self.on_late == "partial":
            return (yield from self._partly(query, candidates))
        time = Limit(self.seconds, None)
        try:
            ranking = yield Call(self.reranker, query, candidates, self.seconds)
        except DeadlineExceeded:
            if self.on_late == "error" or not time.over:
                raise
            reason = f"not reranked, in the order of the first stage: {self.reranker.label} was late for {self._time}"
            hits = in_first_stage_order(candidates, f"late for {self._time}")
            return PlanResult(hits, self.scale, degraded=(reason,), substituted=True)
        return PlanResult(ranking.hits, ranking.scale, substituted=ranking.substituted)

    def _partly(self, query: str, candidates: tuple[Candidate, ...]) -> Plan:
        time = Limit(self.seconds, None)
        end = f"in {min(self.seconds, seconds_left()):.3g} s"
        rankings: list[Ranking] = []
        waiting = candidates
        while True:
            seconds = time.remaining
            fitting = self._fitting(query, [c.text for c in waiting], min(seconds, seconds_left()) * _SHARE)
            if waiting and not fitting:
                if rankings:
                    break
                fitting = 1  # or an estimate that was made in a bad hour would never be mended
            load = sum(estimated_tokens(query, [c.text for c in waiting[:fitting]]))
            try:
                rankings.append((yield Call(self.reranker, query, waiting[:fitting], seconds)))
            except TransientError as error:
                if isinstance(error, DeadlineExceeded) and time.over:
                    self._pace.note(load, _LATE * (seconds - time.remaining))
                elif rankings:
                    end = f"before a failure ({type(error).__name__})"
                else:
                    raise
                break
            self._pace.note(load, seconds - time.remaining)
            waiting = waiting[fitting:]
            if not waiting or not self._in_rounds:
                break
        return self._joined(candidates, rankings, waiting, end)

    def _fitting(self, query: str, texts: Sequence[str], seconds: float) -> int:
        """Return how many of the texts, from the first on, fit by estimate; all where there is none yet."""
        fitting = self.reranker.texts_within(query, texts, seconds)
        if fitting is None:
            fitting = self._pace.texts_within(estimated_tokens(query, texts), seconds)
        return len(texts) if fitting is None else min(fitting, len(texts))

    def _joined(
        self, candidates: tuple[Candidate, ...], rankings: Sequence[Ranking], waiting: Sequence[Candidate], end: str
    ) -> PlanResult:
        """Return the hits of all rounds in one order, and behind them the candidates that were not reached."""
        if len(rankings) == 1:  # its own order stands, whatever made it
            (ranking,) = rankings
            hits, scale = ranking.hits, ranking.scale
        else:
            hits, scale = _ranked_anew([hit for ranking in rankings for hit in ranking]), self.scale
        degraded: tuple[str, ...] = ()
        if waiting:
            reached = len(candidates) - len(waiting)
            degraded = (f"{reached} of {len(candidates)} candidates were scored {end}; the others follow",)
            hits = blank_last((*hits, *in_first_stage_order(waiting, f"not reached {end}")))
        substituted = not rankings or any(ranking.substituted for ranking in rankings)
        return PlanResult(hits, scale, degraded=degraded, substituted=substituted)

    @property
    def _in_rounds(self) -> bool:
        return isinstance(self.reranker, PointwiseReranker) and self.reranker.why_not_cacheable is None

    @property
    def _time(self) -> str:
        return f"{self.seconds:g} s"

    @load_once
    def _pace(self) -> Throughput:
        return Throughput()


def _ranked_anew(hits: Sequence[Hit]) -> tuple[Hit, ...]:
    """Order the hits of several rounds, which come round by round, as if there had been one; ties by incoming order."""
    scored = [hit for hit in hits if hit.raw_score is not None]
    return renumber((*best_first(scored), *(hit for hit in hits if hit.raw_score is None)))
