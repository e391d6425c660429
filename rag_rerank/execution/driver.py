"""How plans run: two drivers of the same steps, one on threads, one on the running event loop.

They note every call, failed and abandoned ones included, so that no composite can lose one from its trace, and they
keep the time: once it is up, no plan is asked any more, and `DeadlineExceeded` leaves the composite.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from rag_rerank.errors import DeadlineExceeded, RerankError
from rag_rerank.execution.calls import Journal
from rag_rerank.execution.clock import first_of, now
from rag_rerank.execution.deadline import (
    Limit,
    Progress,
    ain_time,
    beside,
    heard,
    in_time,
    late,
    left,
    spent,
    timely,
    within,
)
from rag_rerank.execution.observers import watched
from rag_rerank.execution.plan import Call, Decision, Outcome, Plan, Together, Wish, Work, lasting
from rag_rerank.trace import Trace
from rag_rerank.types import Ranking

__all__ = ["Race", "adrive", "drive"]


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


def drive(plan: Plan, journal: Journal, what: str) -> Decision:
    """Run a plan to its end on this thread; calls side by side get threads of their own."""
    try:
        wish = next(plan)
        while True:
            try:
                answer = _granted(wish, journal, what)
            except RerankError as error:
                wish = plan.throw(_while_there_is_time(error, what))
            else:
                wish = plan.send(answer)
    except StopIteration as end:
        decision: Decision = end.value
        return decision
    finally:
        plan.close()


async def adrive(plan: Plan, journal: Journal, what: str) -> Decision:
    """Run a plan to its end on the running event loop; the same steps as `drive`."""
    try:
        wish = next(plan)
        while True:
            try:
                answer = await _agranted(wish, journal, what)
            except RerankError as error:
                wish = plan.throw(_while_there_is_time(error, what))
            else:
                wish = plan.send(answer)
    except StopIteration as end:
        decision: Decision = end.value
        return decision
    finally:
        plan.close()


def _while_there_is_time(error: RerankError, what: str) -> RerankError:
    """Return an error for the plan to see; once the time of the whole composite is up, no plan is asked any more."""
    if (still := timely(error, what)) is not error:
        raise still from error
    if isinstance(error, DeadlineExceeded) and spent():
        raise error
    return error


def _granted(wish: Wish, journal: Journal, what: str) -> Any:
    if spent():
        raise late(what)
    if isinstance(wish, Call):
        try:
            with journal.asked() as progress:
                return journal.answered(_ranked(wish, progress))
        except RerankError as error:
            journal.failed(wish, error)
            raise
    if isinstance(wish, Work):
        return in_time(what, wish.do)
    with _race(wish, journal, what) as (race, outcomes):
        while not race.over and not spent():
            race.begin(lambda call, progress: beside(partial(_ranked, call, progress)))
            first_of(race.running, race.patience)
            race.look()
    return tuple(outcomes)


async def _agranted(wish: Wish, journal: Journal, what: str) -> Any:
    import asyncio

    if spent():
        raise late(what)
    if isinstance(wish, Call):
        try:
            with journal.asked() as progress:
                return journal.answered(await _aranked(wish, progress))
        except RerankError as error:
            journal.failed(wish, error)
            raise
    if isinstance(wish, Work):
        return await ain_time(what, asyncio.to_thread(wish.do))
    with _race(wish, journal, what) as (race, outcomes):
        while not race.over and not spent():
            race.begin(lambda call, progress: asyncio.ensure_future(_aranked(call, progress)))
            await asyncio.wait(race.running, timeout=race.patience, return_when=asyncio.FIRST_COMPLETED)
            race.look()
    return tuple(outcomes)


@contextmanager
def _race(wish: Together, journal: Journal, what: str) -> Iterator[tuple[Race, list[Outcome]]]:
    """Let calls run side by side, and whatever happens, let go and note each; fills in what came of them."""
    race, outcomes = Race(wish), list[Outcome]()
    journal.under_way = race.under_way
    try:
        yield race, outcomes
    finally:
        race.abandon()
        journal.under_way = []
        outcomes += race.outcomes(journal)
    if not race.over:
        raise late(what)


def _ranked(call: Call, progress: Progress) -> Ranking:
    try:
        with within(call.seconds), progress.opened(), _watched(call) as told:
            return told(call.reranker._rank(call.query, call.candidates))
    except StopIteration as error:  # a reranker's mistake, which must not pass for the plan's end
        raise RuntimeError(f"{call.reranker.label} raised StopIteration") from error


async def _aranked(call: Call, progress: Progress) -> Ranking:
    with within(call.seconds), progress.opened(), _watched(call) as told:
        return told(await call.reranker._arank(call.query, call.candidates))


def _watched(call: Call) -> AbstractContextManager[Callable[[Ranking], Ranking]]:
    return watched(call.reranker, call.query, call.candidates, inner=True)
