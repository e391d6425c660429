"""How composites run: a flow written once as a generator, driven by threads' world or by asyncio's.

A composite's ``_plan`` yields a `Call` whenever it wants a reranker to rank something, and is sent the
`Ranking`; if that call fails, the error is raised at the ``yield``, where ordinary ``try``/``except`` sees it.
It may yield `Together` for several calls side by side, and is sent what came of each; and `Work`, for work of its own
that takes a while. It returns a `Decision`.
The drivers note every call, failed and abandoned ones included, so that no composite can lose one from its trace,
and they keep the time: once it is up, no plan is asked any more, and `DeadlineExceeded` leaves the composite.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from rag_rerank._clock import first_of, now
from rag_rerank._deadline import Limit, ain_time, beside, heard, in_time, late, left, spent, timely, within
from rag_rerank._progress import Progress, tells
from rag_rerank.errors import DeadlineExceeded, RerankError, TransientError
from rag_rerank.trace import Trace, Usage
from rag_rerank.types import Candidate, Hit, Ranking, Scale

if TYPE_CHECKING:
    from rag_rerank.base import Composite, Reranker

__all__ = ["Call", "Decision", "Outcome", "Plan", "Run", "Together", "Work", "adrive", "drive"]


@dataclass(frozen=True, slots=True)
class Call:
    """A wish of a plan: let this reranker rank these candidates.

    ``seconds`` limits the time of this call alone; what is late raises `DeadlineExceeded` at the ``yield``.
    """

    reranker: Reranker
    query: str
    candidates: tuple[Candidate, ...]
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Together:
    """A wish of a plan: these calls side by side.

    The plan is sent one `Outcome` a call, in the order of the calls.

    Args:
        calls: At least one.
        stagger: Seconds before the next call begins, unless one has ended before; 0 begins all at once. After a
            failure that will not pass, no further call begins.
        enough: How many rankings are waited for; what runs beyond that is abandoned. ``None`` for all.
        vital: How many of the first calls must not fail for a reason that will not pass: once one of them has, nothing
            more is waited for.
    """

    calls: tuple[Call, ...]
    stagger: float = 0.0
    enough: int | None = None
    vital: int = 0


Outcome = Ranking | RerankError | None
"""What came of one of several calls; ``None`` for one that was not needed, begun or not."""


@dataclass(frozen=True, slots=True)
class Work:
    """A wish of a plan: do this away from the event loop, within the time of the call; the plan is sent the result."""

    do: Callable[[], Any]


Wish = Call | Together | Work


@dataclass(frozen=True, slots=True)
class Decision:
    """What a plan returns: the hits with their scale, and what there is to say about them; see `Ranking`.

    ``own_scores`` says that the hits carry scores which no call gave, so that this step's trace must hold them.
    """

    hits: tuple[Hit, ...]
    scale: Scale
    degraded: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    substituted: bool = False
    own_scores: bool = False


Plan = Generator[Wish, Any, Decision]


@dataclass(slots=True)
class Journal:
    """What the drivers note while a plan runs: the trace of every call, and why rankings were degraded."""

    traces: list[Trace] = field(default_factory=list)
    degraded: list[str] = field(default_factory=list)
    under_way: list[Progress] = field(default_factory=list)

    @property
    def children(self) -> tuple[Trace, ...]:
        """The traces of all calls, also, as far as they have come, of those that run."""
        running = [progress.trace for progress in self.under_way]
        return (*self.traces, *(trace for trace in running if trace is not None))

    @contextmanager
    def asked(self) -> Iterator[Progress]:
        """Watch a call while it runs."""
        self.under_way = [Progress()]
        try:
            yield self.under_way[0]
        finally:
            self.under_way = []

    def answered(self, ranking: Ranking) -> Ranking:
        """Note a call that gave a ranking."""
        self.traces.append(ranking.trace)
        self.degraded += ranking.degraded
        return ranking

    def failed(self, call: Call, error: RerankError) -> RerankError:
        """Note a call that failed."""
        self.traces.append(error.trace or Trace(step=call.reranker.label, error=describe(error)))
        return error


def scores_of(hits: Sequence[Hit]) -> dict[str, Any]:
    """Return what a trace node says of hits: their scores, why some have none, and how much of each was read."""
    return {
        "scores": {hit.id: hit.raw_score for hit in hits if hit.raw_score is not None},
        "unscored": {hit.id: hit.unscored for hit in hits if hit.unscored is not None},
        "coverage": {hit.id: hit.coverage for hit in hits if hit.coverage is not None},
    }


def describe(error: BaseException) -> str:
    """Return an error as one line of a trace: its class and its message."""
    return f"{type(error).__name__}: {error}"


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
        return len(self._begun) < len(self._wish.calls) and not any(map(_lasting, self._came.values()))

    @property
    def _lost(self) -> bool:
        """Whether a vital call has failed for a reason that will not pass."""
        return any(i < self._wish.vital and _lasting(outcome) for i, outcome in self._came.items())

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


def _lasting(outcome: Outcome) -> bool:
    return isinstance(outcome, RerankError) and not isinstance(outcome, TransientError)


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
                if (still := timely(error, what)) is not error:
                    raise still from error
                if isinstance(error, DeadlineExceeded) and spent():
                    raise
                wish = plan.throw(error)
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
                if (still := timely(error, what)) is not error:
                    raise still from error
                if isinstance(error, DeadlineExceeded) and spent():
                    raise
                wish = plan.throw(error)
            else:
                wish = plan.send(answer)
    except StopIteration as end:
        decision: Decision = end.value
        return decision
    finally:
        plan.close()


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
    race = Race(wish)
    journal.under_way = race.under_way
    try:
        while not race.over and not spent():
            race.begin(lambda call, progress: beside(partial(_ranked, call, progress)))
            first_of(race.running, race.patience)
            race.look()
    finally:
        race.abandon()
        journal.under_way = []
        outcomes = race.outcomes(journal)
    if not race.over:
        raise late(what)
    return outcomes


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
    race = Race(wish)
    journal.under_way = race.under_way
    try:
        while not race.over and not spent():
            race.begin(lambda call, progress: asyncio.ensure_future(_aranked(call, progress)))
            await asyncio.wait(race.running, timeout=race.patience, return_when=asyncio.FIRST_COMPLETED)
            race.look()
    finally:
        race.abandon()
        journal.under_way = []
        outcomes = race.outcomes(journal)
    if not race.over:
        raise late(what)
    return outcomes


def _ranked(call: Call, progress: Progress) -> Ranking:
    try:
        with within(call.seconds), progress.opened():
            return call.reranker._rank(call.query, call.candidates)
    except StopIteration as error:  # a reranker's mistake, which must not pass for the plan's end
        raise RuntimeError(f"{call.reranker.label} raised StopIteration") from error


async def _aranked(call: Call, progress: Progress) -> Ranking:
    with within(call.seconds), progress.opened():
        return await call.reranker._arank(call.query, call.candidates)


class Run:
    """One call of a composite, from plan to ranking."""

    def __init__(self, reranker: Composite, query: str) -> None:
        self.started = now()
        self.reranker = reranker
        self.query = query
        self.journal = Journal()
        tells(self.trace)

    def trace(self, **facts: Any) -> Trace:
        """Return the trace node of this call, as of now, with all calls so far inside."""
        children = self.journal.children
        return Trace(
            step=self.reranker.label,
            seconds=now() - self.started,
            usage=Usage.total(child.usage for child in children),
            children=children,
            **facts,
        )

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Give an error that leaves this call its trace."""
        try:
            yield
        except RerankError as error:
            error.trace = self.trace(error=describe(error))
            raise

    def ranking(self, decision: Decision) -> Ranking:
        """Return the ranking that a plan decided on."""
        facts = scores_of(decision.hits) if decision.own_scores else {}
        trace = self.trace(scale=decision.scale, notes=decision.notes, **facts)
        degraded = tuple(dict.fromkeys((*self.journal.degraded, *decision.degraded)))
        return Ranking(self.query, decision.hits, decision.scale, trace, trace.usage, degraded, decision.substituted)
