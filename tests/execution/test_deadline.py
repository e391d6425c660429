"""The total time of a call: `rerank(timeout=)` and `arerank(timeout=)`."""

from __future__ import annotations

import asyncio
import contextlib
import math
import pickle
import sys
from typing import Any

import pytest
from support.slow_rerankers import Flaky, Timed
from support.virtual_clock import VirtualClock, VirtualLoop

from rag_rerank import (
    AuthenticationError,
    BackendUnavailable,
    Cascade,
    Deadline,
    DeadlineExceeded,
    Ensemble,
    Fallback,
    InputError,
    RateLimited,
    Stage,
    TransientError,
)
from rag_rerank.backends.api.retry import RetryPolicy
from rag_rerank.execution import deadline
from rag_rerank.testing import ScriptedReranker


def in_time(took: float, seconds: float) -> bool:
    return seconds - 0.01 <= took <= seconds * 1.1 + 0.05


def test_an_answer_in_time_is_the_same_with_and_without_a_limit(world: Any) -> None:
    reranker = Timed(seconds=1, by_text={"b": 2.0})
    limited, took = world.timed(world.rank, reranker, timeout=3)
    assert limited.hits == world.rank(reranker).hits
    assert took == 1 and limited.degraded == ()


def test_a_late_answer_raises_within_the_time(world: Any) -> None:
    error, took = world.timed(world.rank, Timed(name="slow", seconds=60), timeout=2)
    assert type(error) is DeadlineExceeded
    assert isinstance(error, TransientError) and isinstance(error, TimeoutError)
    assert str(error) == "slow has not answered within its time of 2 s"
    assert in_time(took, 2)
    assert (error.trace.step, error.trace.error) == ("slow", f"DeadlineExceeded: {error}")


def test_it_pickles_with_its_trace(world: Any) -> None:
    error, _ = world.timed(world.rank, Fallback(members=(Timed(seconds=9), Timed())), timeout=1)
    twin = pickle.loads(pickle.dumps(error))
    assert type(twin) is DeadlineExceeded and str(twin) == str(error)
    assert twin.trace == error.trace and len(twin.trace.children) == 1


@pytest.mark.parametrize("timeout", [0, -1, math.nan, math.inf, pytest.param(10**400, id="huge"), "3", True])
def test_a_timeout_that_is_no_time_is_refused_before_any_call(world: Any, timeout: Any) -> None:
    reranker = Timed()
    error, _ = world.timed(world.rank, reranker, timeout=timeout)
    assert type(error) is InputError and str(error).startswith("timeout must be more than 0 seconds")
    assert reranker.calls == []


def test_a_time_longer_than_threads_can_wait_is_a_time() -> None:
    reranker = Ensemble(members=(Deadline(reranker=ScriptedReranker(), seconds=1e12), ScriptedReranker()))
    assert len(reranker.rerank("q", ["a", "b"], timeout=1e300)) == 2


def test_asking_what_is_left_takes_one_step_for_each_limit_around() -> None:
    steps = 0

    def count(frame: Any, event: str, argument: Any) -> None:
        nonlocal steps
        steps += event == "call"

    with contextlib.ExitStack() as stack:
        stack.enter_context(deadline.time_limit(5))
        for _ in range(10):
            stack.enter_context(deadline.time_limit(math.inf))
        sys.setprofile(count)
        remaining = deadline.seconds_left()
        sys.setprofile(None)
    assert 0 < remaining <= 5
    assert steps < 20


def test_whole_numbers_and_tiny_times_are_times(world: Any) -> None:
    assert len(world.rank(Timed(), timeout=5)) == 2
    error, took = world.timed(world.rank, Timed(seconds=1), timeout=1e-9)
    assert type(error) is DeadlineExceeded and took <= 0.05


def test_the_trace_of_a_late_provider_tells_its_attempts_and_failures(world: Any) -> None:
    down = (1.0, BackendUnavailable("gone"))
    reranker = Flaky(script=(down, down, (60.0, None)), retry=RetryPolicy(attempts=5, first_wait=0.5, jitter=0))
    error, took = world.timed(world.rank, reranker, timeout=6)
    assert type(error) is DeadlineExceeded and in_time(took, 6)
    assert len(reranker.sent) == 3
    assert error.trace.attempts == error.trace.usage.requests == 3
    assert error.trace.failures == ("BackendUnavailable: gone",) * 2


def test_the_trace_has_the_attempts_of_a_provider_that_ignores_the_deadline(world: Any) -> None:
    down = (1.0, BackendUnavailable("gone"))
    reranker = Flaky(
        script=(down, down, (60.0, None)), obedient=False, retry=RetryPolicy(attempts=5, first_wait=0.5, jitter=0)
    )
    error, took = world.timed(world.rank, reranker, timeout=6)
    assert type(error) is DeadlineExceeded and in_time(took, 6)
    assert error.trace.attempts == error.trace.usage.requests == 3
    assert error.trace.failures == ("BackendUnavailable: gone",) * 2


def test_no_retry_begins_that_would_come_too_late(world: Any) -> None:
    reranker = Flaky(script=((1.0, BackendUnavailable("gone")),), retry=RetryPolicy(attempts=9, first_wait=4, jitter=0))
    error, took = world.timed(world.rank, reranker, timeout=3)
    assert type(error) is BackendUnavailable  # known at once, and sooner than the time is up
    assert took == 1 and len(reranker.sent) == 1


def test_a_provider_that_asks_for_more_time_than_is_left_is_not_waited_for(world: Any) -> None:
    reranker = Flaky(script=((0.5, RateLimited("later", retry_after=20)),))
    error, took = world.timed(world.rank, reranker, timeout=10)
    assert type(error) is RateLimited and took == 0.5


def test_a_lasting_failure_stays_what_it_is_however_late(world: Any) -> None:
    reranker = Timed(seconds=2.05, error=AuthenticationError("wrong key"))
    error, _ = world.timed(world.rank, reranker, timeout=2)
    assert type(error) is AuthenticationError


@pytest.mark.parametrize("on_late", ["error", "first_stage", "partial"])
def test_a_call_that_has_less_time_than_its_deadline_raises(world: Any, on_late: Any) -> None:
    whole = Deadline(reranker=Timed(seconds=60), seconds=30, on_late=on_late)
    error, took = world.timed(world.rank, whole, timeout=2)
    assert type(error) is DeadlineExceeded and in_time(took, 2)
    assert "2 s" in str(error) and "30 s" not in str(error)


def test_all_stages_share_the_time(world: Any) -> None:
    stages = tuple(Stage(reranker=Timed(name=f"s{i}", seconds=2)) for i in range(3))
    error, took = world.timed(world.rank, Cascade(stages=stages), timeout=5)
    assert type(error) is DeadlineExceeded and in_time(took, 5)
    assert [child.step for child in error.trace.children] == ["s0", "s1", "s2"]
    assert [child.error is None for child in error.trace.children] == [True, True, False]


def test_a_fallback_asks_nobody_once_the_time_is_up(world: Any) -> None:
    spare = Timed()
    error, took = world.timed(world.rank, Fallback(members=(Timed(seconds=60), spare)), timeout=2)
    assert type(error) is DeadlineExceeded and in_time(took, 2)
    assert spare.calls == []


def test_a_limit_ends_with_its_call(world: Any) -> None:
    reranker = Timed(seconds=5)
    world.timed(world.rank, reranker, timeout=1)
    assert len(world.rank(reranker)) == 2


def test_a_mistake_of_the_caller_is_an_error_before_the_deadline_is_checked(world: Any) -> None:
    error, _ = world.timed(world.rank, Timed(seconds=9), query=" ", timeout=1)
    assert type(error) is InputError


def test_a_task_that_is_cancelled_from_outside_stays_cancelled() -> None:
    clock = VirtualClock()
    reranker = Timed(seconds=60)

    async def cancelled() -> float:
        task = asyncio.ensure_future(reranker.arerank("q", ["a"], timeout=30))
        await asyncio.sleep(2)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        assert task.cancelled()
        return clock.now()

    with clock.running():
        loop = VirtualLoop(clock)
        assert loop.settled(cancelled()) == 2
        assert clock.now() == 2 and reranker.ended == []
        loop.close()


def test_side_by_side_calls_each_have_their_own_time() -> None:
    clock = VirtualClock()

    async def both() -> list[Any]:
        slow, quick = Timed(seconds=5), Timed(seconds=1)
        return await asyncio.gather(
            slow.arerank("q", ["a"], timeout=2),
            quick.arerank("q", ["a"], timeout=9),
            slow.arerank("q", ["a"]),
            return_exceptions=True,
        )

    with clock.running():
        loop = VirtualLoop(clock)
        late, ranking, other = loop.settled(both())
        loop.close()
    assert type(late) is DeadlineExceeded and len(ranking) == len(other) == 1
