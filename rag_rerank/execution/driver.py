"""Run plans: two drivers of the same steps, one on threads, one on the running event loop.

The drivers log every call, also failed and abandoned ones, so that no composite can lose one from its trace. They
enforce the time limit: once the time is up, a plan is not resumed, and `DeadlineExceeded` leaves the composite.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from rag_rerank.errors import DeadlineExceeded, RerankError
from rag_rerank.execution.calls import CallLog
from rag_rerank.execution.clock import now, wait_for_any
from rag_rerank.execution.deadline import (
    Limit,
    PartialTrace,
    arun_in_thread,
    arun_with_deadline,
    deadline_error,
    ignore_outcome,
    or_deadline_error,
    run_in_thread,
    run_with_deadline,
    seconds_left,
    time_is_up,
    time_limit,
)
from rag_rerank.execution.observers import observed
from rag_rerank.execution.plan import (
    Call,
    InThread,
    Outcome,
    Parallel,
    Plan,
    PlanResult,
    PlanStep,
    is_permanent,
    span_request,
)
from rag_rerank.trace import Trace
from rag_rerank.types import Ranking

__all__ = ["adrive", "drive"]


def drive(plan: Plan, log: CallLog, label: str) -> PlanResult:
    """Run a plan to its end on this thread; parallel calls get threads of their own."""
    try:
        step = next(plan)
        while True:
            try:
                answer = _execute(step, log, label)
            except RerankError as error:
                step = plan.throw(_deadline_first(error, label))
            else:
                step = plan.send(answer)
    except StopIteration as end:
        result: PlanResult = end.value
        return result
    finally:
        plan.close()


async def adrive(plan: Plan, log: CallLog, label: str) -> PlanResult:
    """Run a plan to its end on the running event loop; the same steps as `drive`."""
    try:
        step = next(plan)
        while True:
            try:
                answer = await _aexecute(step, log, label)
            except RerankError as error:
                step = plan.throw(_deadline_first(error, label))
            else:
                step = plan.send(answer)
    except StopIteration as end:
        result: PlanResult = end.value
        return result
    finally:
        plan.close()


def _deadline_first(error: RerankError, label: str) -> RerankError:
    """Return the error that the plan sees; raise instead once the time of the whole composite is up."""
    if (instead := or_deadline_error(error, label)) is not error:
        raise instead from error
    if isinstance(error, DeadlineExceeded) and time_is_up():
        raise error
    return error


def _execute(step: PlanStep, log: CallLog, label: str) -> Any:
    if time_is_up():
        raise deadline_error(label)
    if isinstance(step, Call):
        try:
            with log.one_call() as partial_trace:
                return log.add_answer(_rank_for(step, partial_trace))
        except RerankError as error:
            log.add_failure(step, error)
            raise
    if isinstance(step, InThread):
        return run_with_deadline(label, step.function)
    with _parallel(step, log, label) as (calls, outcomes):
        while not calls.finished and not time_is_up():
            calls.start_due(lambda call, partial_trace: run_in_thread(partial(_rank_for, call, partial_trace)))
            wait_for_any(calls.running, calls.wait_seconds)
            calls.collect()
    return tuple(outcomes)


async def _aexecute(step: PlanStep, log: CallLog, label: str) -> Any:
    import asyncio

    if time_is_up():
        raise deadline_error(label)
    if isinstance(step, Call):
        try:
            with log.one_call() as partial_trace:
                return log.add_answer(await _arank_for(step, partial_trace))
        except RerankError as error:
            log.add_failure(step, error)
            raise
    if isinstance(step, InThread):
        return await arun_with_deadline(label, arun_in_thread(step.function))
    with _parallel(step, log, label) as (calls, outcomes):
        while not calls.finished and not time_is_up():
            calls.start_due(lambda call, partial_trace: asyncio.ensure_future(_arank_for(call, partial_trace)))
            await asyncio.wait(calls.running, timeout=calls.wait_seconds, return_when=asyncio.FIRST_COMPLETED)
            calls.collect()
    return tuple(outcomes)


def _rank_for(call: Call, partial_trace: PartialTrace) -> Ranking:
    try:
        with _circumstances(call), partial_trace.published(), _observe(call) as report:
            return report(call.reranker._rank(call.query, call.candidates))
    except StopIteration as error:  # a bug of the reranker; it must not look like the end of the plan
        raise RuntimeError(f"{call.reranker.label} raised StopIteration") from error


async def _arank_for(call: Call, partial_trace: PartialTrace) -> Ranking:
    with _circumstances(call), partial_trace.published(), _observe(call) as report:
        return report(await call.reranker._arank(call.query, call.candidates))


@contextmanager
def _circumstances(call: Call) -> Iterator[None]:
    """Hold what a call knows without being told: its time limit, and whether relevant spans are wanted."""
    with time_limit(call.seconds), span_request(call.spans):
        yield


def _observe(call: Call) -> AbstractContextManager[Callable[[Ranking], Ranking]]:
    return observed(call.reranker, call.query, call.candidates, inner=True)


@contextmanager
def _parallel(step: Parallel, log: CallLog, label: str) -> Iterator[tuple[_ParallelCalls, list[Outcome]]]:
    """Run calls side by side; at the end abandon those that still run, log all, and fill in the outcomes."""
    calls, outcomes = _ParallelCalls(step), list[Outcome]()
    log.running = calls.partial_traces
    try:
        yield calls, outcomes
    finally:
        calls.abandon()
        log.running = []
        outcomes += calls.outcomes(log)
    if not calls.finished:
        raise deadline_error(label)


@dataclass(frozen=True, slots=True)
class _Started:
    """A call that has started: its future, its time limit, its partial trace, and the time of its start."""

    future: Any
    limit: Limit | None
    partial_trace: PartialTrace
    start_time: float


class _ParallelCalls:
    """Calls side by side: which ones may start, how long to wait, and their outcomes. A driver starts and awaits them.

    Works on futures of threads and of event loops: both have ``done``, ``cancel`` and ``result``.
    """

    def __init__(self, step: Parallel) -> None:
        self._step = step
        self._needed = len(step.calls) if step.needed is None else step.needed
        self.partial_traces: list[PartialTrace] = []
        self._started: list[_Started] = []
        self._next_at = now()
        self._outcomes: dict[int, Ranking | RerankError] = {}  # by position, in the order of their ends

    @property
    def running(self) -> list[Any]:
        """The futures that are not done."""
        return [call.future for i, call in enumerate(self._started) if i not in self._outcomes]

    @property
    def finished(self) -> bool:
        """Whether there is nothing left to wait for."""
        answers = sum(isinstance(outcome, Ranking) for outcome in self._outcomes.values())
        return self._required_failed or answers >= self._needed or not (self.running or self._may_start)

    @property
    def wait_seconds(self) -> float | None:
        """Seconds to wait at most until `start_due` and `collect` must run again; ``None`` for no limit."""
        seconds = min(seconds_left(), self._next_at - now() if self._may_start else float("inf"))
        return None if seconds == float("inf") else max(seconds, 0.0)

    @property
    def _may_start(self) -> bool:
        return len(self._started) < len(self._step.calls) and not any(map(is_permanent, self._outcomes.values()))

    @property
    def _required_failed(self) -> bool:
        """Whether a required call has failed permanently."""
        return any(i < self._step.required and is_permanent(outcome) for i, outcome in self._outcomes.items())

    def start_due(self, start: Callable[[Call, PartialTrace], Any]) -> None:
        """Start each call that is due, with a function that returns its future."""
        while self._may_start and now() >= self._next_at:
            partial_trace = PartialTrace()
            with time_limit(float("inf")) as limit:
                future = start(self._step.calls[len(self._started)], partial_trace)
            future.add_done_callback(ignore_outcome)  # perhaps nobody waits for it when it ends
            self._started.append(_Started(future, limit, partial_trace, now()))
            self.partial_traces.append(partial_trace)
            self._next_at = now() + self._step.stagger

    def collect(self) -> None:
        """Take the outcomes of the calls that have ended."""
        for i, call in enumerate(self._started):
            if i not in self._outcomes and call.future.done():
                try:
                    self._outcomes[i] = call.future.result()
                except RerankError as error:
                    self._outcomes[i] = error
                self._next_at = now()

    def abandon(self) -> None:
        """Abandon the calls that still run: none starts a retry any more, and tasks of an event loop are cancelled."""
        for call in self._started:
            if not call.future.done():
                if call.limit is not None:
                    call.limit.revoke()
                call.future.cancel()

    def outcomes(self, log: CallLog) -> tuple[Outcome, ...]:
        """Return the outcome of each call, and log each; answers beyond the needed ones are not used."""
        answers = [i for i, outcome in self._outcomes.items() if isinstance(outcome, Ranking)]
        used_answers = set(answers[: self._needed])
        outcomes: list[Outcome] = []
        for i, call in enumerate(self._step.calls):
            outcome = self._outcomes.get(i)
            if isinstance(outcome, RerankError):
                outcomes.append(log.add_failure(call, outcome))
            elif outcome is not None and i in used_answers:
                outcomes.append(log.add_answer(outcome))
            else:
                outcomes.append(None)
                if outcome is not None:
                    log.traces.append(outcome.trace)
                elif i < len(self._started):
                    log.traces.append(self._abandoned_trace(call, self._started[i]))
        return tuple(outcomes)

    def _abandoned_trace(self, call: Call, started: _Started) -> Trace:
        why = "abandoned: the time was up" if time_is_up() else "abandoned: others had answered"
        if self._required_failed:
            why = "abandoned: another had failed"
        if call.reranker.remote:
            why += "; a provider may bill what it was sent"
        trace = started.partial_trace.trace or Trace(step=call.reranker.label)
        return replace(trace, seconds=now() - started.start_time, error=why)
