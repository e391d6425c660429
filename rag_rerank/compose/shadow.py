"""Shadow: compares another reranker with the one that answers, on a share of the calls, after the answer."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from random import random
from typing import ClassVar

from rag_rerank._checks import at_least, finite_positive
from rag_rerank._checks import share as check_share
from rag_rerank._lazy import load_once
from rag_rerank.base import Reranker
from rag_rerank.compose.shadow_report import ShadowReport, ShadowSide, ShadowSummary
from rag_rerank.compose.wrapper import Wrapper, check_reranker
from rag_rerank.execution.background import BackgroundQueue
from rag_rerank.execution.clock import now
from rag_rerank.execution.deadline import arun_in_thread, detached
from rag_rerank.execution.plan import Call, Plan, PlanResult
from rag_rerank.types import Candidate, Ranking

__all__ = ["Shadow"]

_log = logging.getLogger("rag_rerank")


@dataclass(frozen=True, kw_only=True)
class Shadow(Wrapper):
    """A reranker that answers, and another one that ranks a share of the same calls afterwards, for comparison.

    The other reranker runs on a thread of its own, one call after the other, once the answer is there. It cannot change
    or delay the answer: neither its errors nor its time have an effect, and the time limit of the caller does not apply
    to it. The comparisons, with their cost, are in `reports` and `summary`, and not in the ranking. A call that failed
    is not compared. If the other reranker is a provider, it gets the texts.

    `close` waits for the comparison that is running, and drops those that are waiting. Reports stay readable.

    Args:
        reranker: The reranker that answers.
        other: The reranker to compare with it.
        share: The share of the calls that are compared, chosen at random: more than 0, at most 1. There is no default,
            because each compared call costs the time and the money of the other reranker.
        timeout: The time limit of the other reranker, in seconds a call.
        max_waiting: How many calls may wait while one is being compared. Further ones are skipped and counted.
        keep: How many reports are kept; the oldest go first.
        on_report: Called with each report, on the thread of the comparison. Its errors are logged and counted.

    Raises:
        ConfigError: One of the two is no reranker, or a number is out of range.
    """

    kind: ClassVar[str] = "shadow"

    other: Reranker
    share: float
    timeout: float = 30.0
    max_waiting: int = 8
    keep: int = 1000
    on_report: Callable[[ShadowReport], None] | None = field(
        default=None, repr=False, compare=False, metadata={"live": True}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_reranker(self.other, "other")
        check_share(self.share, "share")
        finite_positive(self.timeout, "timeout")
        at_least(self.max_waiting, 0, "max_waiting")
        at_least(self.keep, 1, "keep")

    @property
    def takes_instruction(self) -> bool:
        """Whether the reranker that answers takes one; the other one is told, too, if it does."""
        return self.reranker.takes_instruction

    def reports(self) -> tuple[ShadowReport, ...]:
        """Return the reports that are kept, oldest first."""
        return self._comparisons.reports()

    def summary(self) -> ShadowSummary:
        """Return a summary of the reports that are kept."""
        return self._comparisons.summary()

    def close(self) -> None:
        """Stop comparing, then close both rerankers."""
        try:
            self._comparisons.queue.drop()
        finally:
            super().close()

    async def aclose(self) -> None:
        """Do what `close` does without blocking the event loop, and release what belongs to the loop."""
        try:
            await arun_in_thread(self._comparisons.queue.drop)
        finally:
            await super().aclose()

    def _plan(self, query: str, candidates: tuple[Candidate, ...]) -> Plan:
        ranking: Ranking = yield Call(self.reranker, query, candidates)
        notes: tuple[str, ...] = ()
        if candidates and random() < self.share:
            accepted = self._comparisons.queue.offer(detached(partial(self._compare, query, candidates, ranking)))
            notes = (f"{self.other.label} {'ranks this too' if accepted else 'is too busy to rank this too'}",)
        return PlanResult(
            ranking.hits,
            ranking.scale,
            notes=notes,
            substituted=ranking.substituted,
            answerable=ranking.answerable,
        )

    def _compare(self, query: str, candidates: tuple[Candidate, ...], answer: Ranking) -> None:
        """Let the other reranker rank, and report on it; raises nothing."""
        started = now()
        try:
            report = ShadowReport.compare(answer, self.other.rerank(query, candidates, timeout=self.timeout))
        except BaseException as error:  # of any class, because it must not reach the worker; the report has it
            failure = ShadowSide.of_failure(self.other.label, now() - started, error)
            report = ShadowReport(answer=ShadowSide.of(answer), other=failure, candidates=len(candidates))
        self._comparisons.add_report(report)
        if self.on_report is not None:
            try:
                self.on_report(report)
            except BaseException:  # the caller's own code, on a thread where no one can catch it
                self._comparisons.count_unheard()
                _log.exception("on_report of %s raised", self.label)

    @load_once
    def _comparisons(self) -> _Comparisons:
        return _Comparisons(self.max_waiting, self.keep)


class _Comparisons:
    """The comparisons of one process: the queue of those to make, and the reports of those made."""

    def __init__(self, max_waiting: int, keep: int) -> None:
        self.queue: BackgroundQueue[Callable[[], None]] = BackgroundQueue(_run_all, max_waiting=max_waiting)
        self._lock = threading.RLock()
        self._reports: deque[ShadowReport] = deque(maxlen=keep)
        self._unheard = 0

    def add_report(self, report: ShadowReport) -> None:
        """Keep a report."""
        with self._lock:
            self._reports.append(report)

    def count_unheard(self) -> None:
        """Count a report on which ``on_report`` raised."""
        with self._lock:
            self._unheard += 1

    def reports(self) -> tuple[ShadowReport, ...]:
        """Return the reports that are kept."""
        with self._lock:
            return tuple(self._reports)

    def summary(self) -> ShadowSummary:
        """Return a summary of the reports that are kept, with the counts since the start."""
        counts = self.queue.counts
        with self._lock:
            return ShadowSummary.of(self._reports, skipped=counts.refusals, dropped=counts.drops, unheard=self._unheard)


def _run_all(comparisons: Sequence[Callable[[], None]]) -> None:
    for compare in comparisons:
        compare()
