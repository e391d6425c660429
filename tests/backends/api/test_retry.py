"""The retry policy by itself: how often, how long, and when it gives up."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from rag_rerank import AuthenticationError, BackendTimeout, BackendUnavailable, ConfigError, RateLimited
from rag_rerank.backends.api.call import ApiCall
from rag_rerank.backends.api.exchange import Exchange, Reply
from rag_rerank.backends.api.limiter import CallPolicy
from rag_rerank.backends.api.retry import RetryPolicy
from rag_rerank.trace import Trace

Send = Callable[[float], None]
Run = Callable[[RetryPolicy, Send], Trace]


def call_of(policy: RetryPolicy) -> ApiCall:
    """A call of one request with one text."""
    exchange = partial(Exchange, "provider", "m", "query")
    return ApiCall(CallPolicy(label="provider:m", retry=policy), ["text"], [2], [range(1)], exchange)


def reply(send: Send, exchange: Exchange, seconds: float) -> Reply:
    send(seconds)
    return Reply(rows=[(0, 0.5)])


def run(policy: RetryPolicy, send: Send) -> Trace:
    call = call_of(policy)
    call.run(partial(reply, send))
    return call.trace()


def arun(policy: RetryPolicy, send: Send) -> Trace:
    async def asend(exchange: Exchange, seconds: float) -> Reply:
        return reply(send, exchange, seconds)

    call = call_of(policy)
    asyncio.run(call.arun(asend))
    return call.trace()


@pytest.fixture(params=[run, arun], ids=["sync", "async"])
def go(request: pytest.FixtureRequest) -> Run:
    """Runs a call under a policy, and returns its trace."""
    function: Run = request.param
    return function


def failing(*errors: Exception) -> Send:
    """A request that fails with each of the errors in turn, and then answers."""
    pending = list(errors)

    def send(seconds: float) -> None:
        if pending:
            raise pending.pop(0)

    return send


def raises(kind: type[Exception], go: Run, policy: RetryPolicy, send: Send) -> tuple[Any, Trace]:
    with pytest.raises(kind) as caught:
        go(policy, send)
    trace = caught.value.trace  # type: ignore[attr-defined]
    assert trace is not None
    return caught.value, trace


def steady(**options: object) -> RetryPolicy:
    return RetryPolicy(**{"jitter": 0.0, **options})  # type: ignore[arg-type]


def test_an_answer_at_once_is_one_attempt_without_a_wait(go: Run, waits: list[float]) -> None:
    trace = go(RetryPolicy(), failing())
    assert (trace.attempts, trace.failures, waits) == (1, (), [])


def test_waits_double_up_to_the_longest(go: Run, waits: list[float]) -> None:
    policy = steady(attempts=6, first_wait=1, max_wait=5, budget=100)
    trace = go(policy, failing(*[BackendUnavailable("down")] * 5))
    assert waits == [1, 2, 4, 5, 5]
    assert trace.failures == ("BackendUnavailable: down",) * 5


def test_attempts_are_bounded_and_the_last_error_is_raised(go: Run, waits: list[float]) -> None:
    last = BackendTimeout("third")
    send = failing(BackendUnavailable("first"), RateLimited("second"), last)
    error, trace = raises(BackendTimeout, go, steady(attempts=3), send)
    assert error is last
    assert trace.attempts == 3
    assert trace.failures == ("BackendUnavailable: first", "RateLimited: second")


def test_a_lasting_error_is_raised_at_once(go: Run, waits: list[float]) -> None:
    _, trace = raises(AuthenticationError, go, RetryPolicy(), failing(AuthenticationError("no")))
    assert (trace.attempts, waits) == (1, [])


def test_our_own_mistakes_are_not_tried_again(go: Run, waits: list[float]) -> None:
    attempts = []

    def send(seconds: float) -> None:
        attempts.append(seconds)
        raise KeyError("bug")

    with pytest.raises(KeyError):
        go(RetryPolicy(), send)
    assert len(attempts) == 1


def test_the_providers_wait_counts_when_it_is_longer(go: Run, waits: list[float]) -> None:
    errors = [RateLimited("slow down", retry_after=after) for after in (7.5, 0.25, None)]
    go(steady(attempts=4, first_wait=1, max_wait=2), failing(*errors))
    assert waits == [7.5, 2, 2]


def test_a_providers_wait_beyond_the_budget_ends_it_at_once(go: Run, waits: list[float]) -> None:
    _, trace = raises(RateLimited, go, steady(budget=30), failing(RateLimited("slow down", retry_after=31)))
    assert (trace.attempts, waits) == (1, [])


def test_no_wait_goes_beyond_the_budget(go: Run, waits: list[float]) -> None:
    policy = steady(attempts=99, first_wait=4, max_wait=4, budget=10)
    _, trace = raises(BackendUnavailable, go, policy, failing(*[BackendUnavailable("down")] * 99))
    assert waits == [4, 4]
    assert trace.attempts == 3


def test_each_attempt_gets_what_is_left_of_the_budget(go: Run, waits: list[float]) -> None:
    timeouts = []

    def send(seconds: float) -> None:
        timeouts.append(seconds)
        raise BackendUnavailable("down")

    raises(BackendUnavailable, go, steady(attempts=3, first_wait=2, budget=10), send)
    assert timeouts == [10, 8, 4]


def test_jitter_only_adds_and_is_bounded(go: Run, waits: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random, "random", lambda: 0.5)
    go(RetryPolicy(first_wait=1, jitter=0.5), failing(BackendUnavailable("down")))
    assert waits == [1.25]


def test_many_attempts_do_not_overflow(go: Run, waits: list[float]) -> None:
    policy = steady(attempts=2000, first_wait=0.001, max_wait=0.001)
    go(policy, failing(*[BackendUnavailable("down")] * 1500))
    assert len(waits) == 1500


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("attempts", 0),
        ("attempts", True),
        ("attempts", 2.5),
        ("first_wait", -1.0),
        ("max_wait", float("inf")),
        ("jitter", float("nan")),
        ("budget", 0.0),
        ("budget", float("inf")),
    ],
)
def test_a_policy_that_means_nothing_is_refused(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"^{name}: "):
        RetryPolicy(**{name: value})  # type: ignore[arg-type]
