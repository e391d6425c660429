"""Calls side by side: which may begin, how long to wait for them, and what came of each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from rag_rerank._clock import now
from rag_rerank._deadline import Limit, heard, left, spent, within
from rag_rerank._plan import Call, Outcome, Together, lasting
from rag_rerank._progress import Progress
from rag_rerank._run import Journal
from rag_rerank.errors import RerankError
from rag_rerank.trace import Trace
from rag_rerank.types import Ranking

__all__ = ["Race"]


class Race:
    """Calls side by side: which may begin, how long to wait, what came of them. Begun and awaited by a driver.

    Works on futures of either world, which know ``done``, ``cancel`` and ``result`` alike.
    """

    def __init__(self, wish: Together) -> None:
        self._wish = wish
        self._enough = len(wish.calls) if wish.enough is None else wish.enough
        self.under_way: list[Progress] = []
        self._begun: list[_Begun] = []
        self._next_at = now()
        self._came: dict[int, Ranking | RerankError] = {}  # by position, in the order in which they came

    @property
    def running(self) -> list[Any]:
        """The futures that are not done."""
        return [begun.future for i, begun in enumerate(self._begun) if i not in self._came]

    @property
    def over(self) -> bool:
        """Whether there is nothing left to wait for."""
        answers = sum(isinstance(outcome, Ranking) for outcome in self._came.values())
        return self._lost or answers >= self._enough or not (self.running or self._may_begin)

    @property
    def patience(self) -> float | None:
        """Seconds to wait at most before looking again; ``None`` for any time."""
        seconds = min(left(), self._next_at - now() if self._may_begin else float("inf"))
        return None if seconds == float("inf") else max(seconds, 0.0)

    @property
    def _may_begin(self) -> bool:
        return len(self._begun) < len(self._wish.calls) and not any(map(lasting, self._came.values()))

    @property
    def _lost(self) -> bool:
        """Whether a vital call has failed for a reason that will not pass."""
        return any(i < self._wish.vital and lasting(outcome) for i, outcome in self._came.items())

    def begin(self, start: Callable[[Call, Progress], Any]) -> None:
        """Begin each call that is due, with a function that returns its future."""
        while self._may_begin and now() >= self._next_at:
            progress = Progress()
            with within(float("inf")) as limit:
                future = start(self._wish.calls[len(self._begun)], progress)
            future.add_done_callback(heard)  # nobody may be left to look
            self._begun.append(_Begun(future, limit, progress, now()))
            self.under_way.append(progress)
            self._next_at = now() + self._wish.stagger

    def look(self) -> None:
        """Take what has come."""
        for i, begun in enumerate(self._begun):
            if i not in self._came and begun.future.done():
                try:
                    self._came[i] = begun.future.result()
                except RerankError as error:
                    self._came[i] = error
                self._next_at = now()

    def abandon(self) -> None:
        """Let go what is not done: no retry begins any more, and tasks of an event loop are cancelled."""
        for begun in self._begun:
            if not begun.future.done():
                if begun.limit is not None:
                    begun.limit.revoke()
                begun.future.cancel()

    def outcomes(self, journal: Journal) -> tuple[Outcome, ...]:
        """Return what came of each call, and note each; answers beyond those that were enough are not used."""
        answers = [i for i, outcome in self._came.items() if isinstance(outcome, Ranking)]
        used = set(answers[: self._enough])
        found: list[Outcome] = []
        for i, call in enumerate(self._wish.calls):
            outcome = self._came.get(i)
            if isinstance(outcome, RerankError):
                found.append(journal.failed(call, outcome))
            elif outcome is not None and i in used:
                found.append(journal.answered(outcome))
            else:
                found.append(None)
                if outcome is not None:
                    journal.traces.append(outcome.trace)
                elif i < len(self._begun):
                    journal.traces.append(self._abandoned(call, self._begun[i]))
        return tuple(found)

    def _abandoned(self, call: Call, begun: _Begun) -> Trace:
        why = "abandoned: the time was up" if spent() else "abandoned: others had answered"
        if self._lost:
            why = "abandoned: another had failed"
        if call.reranker.remote:
            why += "; a provider may bill what it was sent"
        done = begun.progress.trace or Trace(step=call.reranker.label)
        return replace(done, seconds=now() - begun.at, error=why)


@dataclass(frozen=True, slots=True)
class _Begun:
    """A call that has begun: its future, its time, where it tells what it does, and when it began."""

    future: Any
    limit: Limit | None
    progress: Progress
    at: float
