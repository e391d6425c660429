"""How plans run: two drivers of the same steps, one on threads, one on the running event loop.

They note every call, failed and abandoned ones included, so that no composite can lose one from its trace, and they
keep the time: once it is up, no plan is asked any more, and `DeadlineExceeded` leaves the composite.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any

from rag_rerank._clock import first_of
from rag_rerank._deadline import ain_time, beside, in_time, late, spent, timely, within
from rag_rerank._plan import Call, Decision, Outcome, Plan, Together, Wish, Work
from rag_rerank._progress import Progress
from rag_rerank._race import Race
from rag_rerank._run import Journal
from rag_rerank._watching import watched
from rag_rerank.errors import DeadlineExceeded, RerankError
from rag_rerank.types import Ranking

__all__ = ["adrive", "drive"]


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
