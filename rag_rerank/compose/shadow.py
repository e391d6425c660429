"""Shadow: a share of the calls also goes to another reranker, off the path of the answer."""

from __future__ import annotations

import logging
import math
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from random import random
from typing import Any, ClassVar

from rag_rerank._lazy import load_once
from rag_rerank.base import Reranker
from rag_rerank.compose.shadow_report import ShadowReport, ShadowSide, ShadowSummary
from rag_rerank.compose.wrapper import Wrapper, check_reranker
from rag_rerank.errors import ConfigError
from rag_rerank.execution.clock import now, start_thread, wait_for_any
from rag_rerank.execution.deadline import detached
from rag_rerank.execution.plan import Call, Plan, PlanResult
from rag_rerank.types import Candidate, Ranking

__all__ = ["Shadow"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Shadow(Wrapper):
    """Answers with its reranker, and lets another one rank a share of the same calls afterwards, for comparison.

    The other reranker runs on a thread of its own, one call after the other, after the answer was found. Nothing that
    it does can change or delay the answer: not its failure, not its time, and the caller's time does not limit it. What
    came of it is in `reports` and `summary` and not in the ranking; what it costs is there too. A call whose answer
    failed is not compared. Texts go to the other reranker's provider, if it has one.

    `close` lets the comparison that runs come to its end, and drops those that wait. Reports stay readable.

    Args:
        reranker: What answers.
        other: What is compared with it.
        share: Share of the calls that are compared, chosen at random: more than 0, at most 1.
        timeout: Seconds that the other reranker gets for a call.
        max_waiting: Calls that may wait for the one that is being compared; beyond that they are skipped and counted.
        keep: Reports that are kept, the newest ones.
        on_report: Called with each report, on the shadow's thread. What it raises is logged and counted.

    Raises:
        ConfigError: One of the two is no reranker, or a number makes no sense.
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
        if not 0 < self.share <= 1:
            raise ConfigError(f"share must be more than 0 and at most 1, got {self.share}", path="share")
        if not (self.timeout > 0 and math.isfinite(self.timeout)):
            raise ConfigError(f"timeout must be a finite number of more than 0, got {self.timeout}", path="timeout")
        for name, least in (("max_waiting", 0), ("keep", 1)):
            if getattr(self, name) < least:
                raise ConfigError(f"{name} must be at least {least}, got {getattr(self, name)}", path=name)

    def reports(self) -> tuple[ShadowReport, ...]:
        """Return the reports that are kept, oldest first."""
        return self._line.reports()

    def summary(self) -> ShadowSummary:
        """Return what the reports say together."""
        return self._line.summary()

    def close(self) -> None:
        """End the shadow, then close both rerankers."""
        try:
            self._line.settle()
        finally:
            super().close()

    async def aclose(self) -> None:
        """Do what `close` does without blocking the event loop, and release what belongs to it."""
        import asyncio

        try:
            await asyncio.to_thread(self._line.settle)
        finally:
            await super().aclose()

    def _plan(self, query: str, candidates: tuple[Candidate, ...]) -> Plan:
        ranking: Ranking = yield Call(self.reranker, query, candidates)
        notes: tuple[str, ...] = ()
        if candidates and random() < self.share:
            sent = self._line.offer(detached(partial(self._compare, query, candidates, ranking)))
            notes = (f"{self.other.label} {'ranks this too' if sent else 'is too busy to rank this too'}",)
        return PlanResult(ranking.hits, ranking.scale, notes=notes, substituted=ranking.substituted)

    def _compare(self, query: str, candidates: tuple[Candidate, ...], answer: Ranking) -> None:
        """Let the other reranker rank, and report; whatever happens stays here."""
        started = now()
        try:
            report = ShadowReport.compared(answer, self.other.rerank(query, candidates, timeout=self.timeout))
        except BaseException as error:  # of any class: it is the shadow's alone, and told in the report
            failed = ShadowSide.failed(self.other.label, now() - started, error)
            report = ShadowReport(answer=ShadowSide.of(answer), other=failed, candidates=len(candidates))
        self._line.note(report)
        if self.on_report is not None:
            try:
                self.on_report(report)
            except BaseException:  # the caller's own code; there is nobody else to tell
                self._line.note_unheard()
                _log.exception("on_report of %s raised", self.label)

    @load_once
    def _line(self) -> _Line:
        return _Line(self.max_waiting, self.keep)


class _Line:
    """The calls that wait for their comparison, the thread that works on them, and what came of them."""

    def __init__(self, max_waiting: int, keep: int) -> None:
        self._max_waiting = max_waiting
        self._lock = threading.RLock()
        self._waiting: deque[Callable[[], None]] = deque()
        self._reports: deque[ShadowReport] = deque(maxlen=keep)
        self._counts = {"skipped": 0, "dropped": 0, "unheard": 0}
        self._busy = False
        self._work_done: Future[Any] | None = None
        self._worker: int | None = None

    def offer(self, work: Callable[[], None]) -> bool:
        """Take work that never raises, unless too much waits; it begins at once where nothing runs."""
        with self._lock:
            if self._busy and len(self._waiting) < self._max_waiting:
                self._waiting.append(work)
                return True
            if not self._busy:
                self._busy = True
                try:
                    self._work_done = start_thread(partial(self._run, work))
                    return True
                except RuntimeError:  # no thread is to be had
                    self._busy = False
            self._counts["skipped"] += 1
            return False

    def note(self, report: ShadowReport) -> None:
        """Keep a report."""
        with self._lock:
            self._reports.append(report)

    def note_unheard(self) -> None:
        """Count a report that nobody heard."""
        with self._lock:
            self._counts["unheard"] += 1

    def reports(self) -> tuple[ShadowReport, ...]:
        """Return what is kept."""
        with self._lock:
            return tuple(self._reports)

    def summary(self) -> ShadowSummary:
        """Return what there is to say of all."""
        with self._lock:
            return ShadowSummary.of(self._reports, **self._counts)

    def settle(self) -> None:
        """Drop what waits, and wait for what runs."""
        with self._lock:
            self._counts["dropped"] += len(self._waiting)
            self._waiting.clear()
            running = self._work_done if self._worker != threading.get_ident() else None  # a callback that closes
        if running is not None:
            wait_for_any([running])

    def _run(self, work: Callable[[], None] | None) -> None:
        self._worker = threading.get_ident()
        while work is not None:
            work()
            with self._lock:
                work = self._waiting.popleft() if self._waiting else None
                self._busy = work is not None
                if not self._busy:
                    self._worker = None
