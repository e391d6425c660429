"""Parallel calls of a composite's plan: when they start, their outcomes, and which are abandoned."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pytest
from support.slow_rerankers import Flaky, Timed
from support.virtual_clock import VirtualClock, VirtualLoop

from rag_rerank import (
    AuthenticationError,
    BackendUnavailable,
    Candidate,
    Composite,
    DeadlineExceeded,
    Ensemble,
    Fallback,
    Ranking,
    Scale,
    Shadow,
)
from rag_rerank.backends.api.retry import RetryPolicy
from rag_rerank.execution.plan import Call, Outcome, Parallel, Plan, PlanResult

Sees = Callable[[tuple[Outcome, ...]], None]


@dataclass(frozen=True, kw_only=True)
class Beside(Composite):
    """Calls its members in parallel, stores their outcomes, and returns the first ranking."""

    kind: ClassVar[str] = "beside"

    members: tuple[Any, ...]
    stagger: float = 0.0
    enough: int | None = None
    seconds: float | None = None
    outcomes_by_step: list[Any] = field(default_factory=list, init=False, compare=False, metadata={"live": True})

    @property
    def scale(self) -> Scale:
        return "unbounded"

    def _plan(self, query: str, candidates: tuple[Candidate, ...]) -> Plan:
        calls = tuple(Call(member, query, candidates, self.seconds) for member in self.members)
        outcomes = yield Parallel(calls, self.stagger, self.enough)
        self.outcomes_by_step.append(outcomes)
        answer = next(outcome for outcome in outcomes if isinstance(outcome, Ranking))
        return PlanResult(answer.hits, answer.scale)


def kinds(whole: Beside) -> list[str | None]:
    return [None if outcome is None else type(outcome).__name__ for outcome in whole.outcomes_by_step[-1]]


def test_calls_run_side_by_side_and_their_outcomes_keep_the_order_of_the_calls(world: Any) -> None:
    whole = Beside(members=tuple(Timed(name=f"m{s}", seconds=s, default=s) for s in (3, 1, 2)))
    ranking, took = world.timed(world.rank, whole)
    assert took == 3
    assert [outcome.hits[0].raw_score for outcome in whole.outcomes_by_step[0]] == [3, 1, 2]
    assert [child.step for child in ranking.trace.children] == ["m3", "m1", "m2"]
    assert ranking.usage.texts == 6


def test_with_a_stagger_each_call_begins_later(world: Any) -> None:
    whole = Beside(members=tuple(Timed(seconds=10) for _ in range(3)), stagger=2)
    _, took = world.timed(world.rank, whole)
    assert took == 14


def test_the_next_call_begins_at_once_when_one_has_failed(world: Any) -> None:
    down = Timed(seconds=1, error=BackendUnavailable("gone"))
    whole = Beside(members=(down, down, Timed(seconds=1)), stagger=60, enough=1)
    ranking, took = world.timed(world.rank, whole)
    assert took == 3
    assert kinds(whole) == ["BackendUnavailable", "BackendUnavailable", "Ranking"]
    assert [child.error for child in ranking.trace.children] == ["BackendUnavailable: gone"] * 2 + [None]


def test_the_next_call_begins_at_once_when_one_has_answered_and_more_are_wanted(world: Any) -> None:
    whole = Beside(members=(Timed(seconds=1), Timed(seconds=1), Timed(seconds=1)), stagger=60, enough=2)
    _, took = world.timed(world.rank, whole)
    assert took == 2
    assert kinds(whole) == ["Ranking", "Ranking", None]


def test_enough_answers_end_the_wait_and_the_others_are_abandoned(world: Any) -> None:
    slow, never = Timed(name="slow", seconds=100), Timed(name="never")
    whole = Beside(members=(slow, Timed(name="quick", seconds=3), never), stagger=2, enough=1)
    ranking, took = world.timed(world.rank, whole)
    assert took in (4, 5)  # the third may begin after 4 seconds, and answers at once
    assert ranking.trace.children[0].error.startswith("abandoned: others had answered")


def test_a_call_that_was_not_started_is_not_in_the_trace(world: Any) -> None:
    whole = Beside(members=(Timed(name="quick", seconds=1), Timed(name="spare")), stagger=5, enough=1)
    ranking, _ = world.timed(world.rank, whole)
    assert kinds(whole) == ["Ranking", None]
    assert [child.step for child in ranking.trace.children] == ["quick"]
    assert whole.members[1].calls == []


def test_an_answer_beyond_those_that_were_enough_is_paid_and_not_used(world: Any) -> None:
    whole = Beside(members=(Timed(name="one", seconds=1), Timed(name="two", seconds=1)), enough=1)
    ranking, _ = world.timed(world.rank, whole)
    assert sorted(str(kind) for kind in kinds(whole)) == ["None", "Ranking"]
    errors = [child.error for child in ranking.trace.children]
    assert len(errors) == 2 and errors.count(None) >= 1


def test_after_a_failure_that_will_not_pass_no_further_call_begins(world: Any) -> None:
    whole = Beside(members=(Timed(seconds=5), Timed(seconds=1, error=AuthenticationError("key")), Timed()), stagger=2)
    _, took = world.timed(world.rank, whole)
    assert took == 5
    assert kinds(whole) == ["Ranking", "AuthenticationError", None]
    assert whole.members[2].calls == []


def test_when_the_time_is_up_all_calls_are_abandoned_and_in_the_trace(world: Any) -> None:
    whole = Beside(members=(Timed(name="a", seconds=60), Timed(name="b", seconds=1)), name="both")
    error, took = world.timed(world.rank, whole, timeout=4)
    assert type(error) is DeadlineExceeded and 4 <= took <= 4.5
    late, done = error.trace.children
    assert late.error.startswith("abandoned: the time was up; a provider may bill") or "DeadlineExceeded" in late.error
    assert done.error is None and done.scores


def test_a_call_with_a_time_of_its_own_is_late_alone(world: Any) -> None:
    whole = Beside(members=(Timed(seconds=60), Timed(seconds=1)), seconds=3)
    _, took = world.timed(world.rank, whole)
    assert 3 <= took <= 3.4
    assert kinds(whole) == ["DeadlineExceeded", "Ranking"]


def test_an_abandoned_provider_gets_no_further_request(world: Any) -> None:
    down = ((1.0, BackendUnavailable("gone")),)
    slow = Flaky(name="slow", script=down, retry=RetryPolicy(attempts=9, first_wait=3, max_wait=3, jitter=0))
    whole = Beside(members=(slow, Timed(seconds=6)), enough=1)
    ranking, took = world.timed(world.rank, whole)
    assert took == 6 and len(slow.sent) == 2
    abandoned = ranking.trace.children[0]
    assert abandoned.attempts == abandoned.usage.requests == 2
    assert abandoned.failures == ("BackendUnavailable: gone",) * 2  # it was waiting for its third attempt
    world.settle()
    assert len(slow.sent) == 2


def test_an_abandoned_provider_sends_none_of_the_requests_that_are_left(world: Any) -> None:
    slow = Flaky(script=((4.0, None),))
    whole = Beside(members=(slow, Timed(seconds=6)), enough=1)
    world.rank(whole, [str(i) for i in range(450)])
    world.settle()
    assert len(slow.sent) == 2


def test_the_trace_has_the_finished_calls_of_an_abandoned_composite(world: Any) -> None:
    down = Flaky(name="down", script=((1.0, BackendUnavailable("gone")),), retry=RetryPolicy(attempts=1))
    inner = Fallback(name="inner", members=(down, Timed(name="slow", seconds=60)))
    ranking = world.rank(Beside(members=(inner, Timed(seconds=5)), enough=1))
    step = ranking.trace.children[0]
    assert step.step == "inner" and step.error.startswith("abandoned")
    assert [(child.step, child.error) for child in step.children] == [
        ("down", "BackendUnavailable: gone"),
        ("slow", None),
    ]
    assert step.children[1].scores == {}


def test_what_a_shadow_does_is_no_part_of_an_abandoned_call(world: Any) -> None:
    inside = Shadow(
        name="inside", reranker=Timed(name="quick", seconds=1), other=Timed(name="other", seconds=9), share=1
    )
    both = Ensemble(name="both", members=(inside, Timed(seconds=60)))
    ranking = world.rank(Beside(members=(both, Timed(seconds=5)), enough=1))
    step = ranking.trace.children[0]
    assert step.step == "both" and [child.step for child in step.children] == ["inside", "timed"]
    assert [child.step for child in step.children[0].children] == ["quick"]


@pytest.mark.parametrize("error", [KeyError("bug"), StopIteration("bug"), ValueError("bug")])
@pytest.mark.parametrize("position", [0, 1])
def test_a_mistake_in_a_member_leaves_the_composite_as_it_is(world: Any, error: Exception, position: int) -> None:
    members: list[Any] = [Timed(seconds=2), Timed(seconds=50)]
    members.insert(position, Timed(seconds=1, error=error))
    raised, took = world.timed(world.rank, Beside(members=tuple(members)))
    expected = RuntimeError if isinstance(error, StopIteration) else type(error)
    assert type(raised) is expected
    assert took == 1  # nobody waits for the others


def test_a_task_that_is_cancelled_cancels_its_calls() -> None:
    clock = VirtualClock()
    members = (Timed(seconds=60), Timed(seconds=90))
    whole = Beside(members=members)

    async def cancelled() -> None:
        task = asyncio.ensure_future(whole.arerank("q", ["a"]))
        await asyncio.sleep(1)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        assert task.cancelled()

    with clock.running():
        loop = VirtualLoop(clock)
        loop.settled(cancelled())
        loop.close()
    assert clock.now() == 1
    assert [member.ended for member in members] == [[], []] and whole.outcomes_by_step == []


def test_composites_side_by_side_nest(world: Any) -> None:
    inner = Beside(name="inner", members=(Timed(seconds=2, default=2.0), Timed(seconds=9)), enough=1)
    outer = Beside(name="outer", members=(inner, Timed(seconds=3)))
    ranking, took = world.timed(world.rank, outer)
    assert took == 3 and ranking[0].raw_score == 2.0
    assert [len(child.children) for child in ranking.trace.children] == [2, 0]
