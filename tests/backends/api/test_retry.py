"""The retry policy by itself: how often, how long, and when it gives up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from rag_rerank import AuthenticationError, BackendTimeout, BackendUnavailable, ConfigError, RateLimited, RerankError
from rag_rerank.backends.api import attempts as api_attempts
from rag_rerank.backends.api.attempts import Attempts, RetryPolicy

Run = Callable[[Attempts, Callable[[float], str]], str]


def run(attempts: Attempts, send: Callable[[float], str]) -> str:
    return attempts.run(send)


def arun(attempts: Attempts, send: Callable[[float], str]) -> str:
    async def asend(left: float) -> str:
        return send(left)

    return asyncio.run(attempts.arun(asend))


@pytest.fixture(params=[run, arun], ids=["sync", "async"])
def go(request: pytest.FixtureRequest) -> Run:
    found: Run = request.param
    return found


def failing(*errors: RerankError) -> Callable[[float], str]:
    """A request that fails with each of the errors in turn, and then answers."""
    left = list(errors)

    def send(seconds: float) -> str:
        if left:
            raise left.pop(0)
        return "answer"

    return send


def calm(**options: object) -> RetryPolicy:
    return RetryPolicy(**{"jitter": 0.0, **options})  # type: ignore[arg-type]


def test_an_answer_at_once_is_one_attempt_without_a_wait(go: Run, waits: list[float]) -> None:
    attempts = Attempts(RetryPolicy())
    assert go(attempts, failing()) == "answer"
    assert (attempts.count, attempts.failures, waits) == (1, [], [])


def test_waits_double_up_to_the_longest(go: Run, waits: list[float]) -> None:
    attempts = Attempts(calm(attempts=6, first_wait=1, max_wait=5, budget=100))
    go(attempts, failing(*[BackendUnavailable("down")] * 5))
    assert waits == [1, 2, 4, 5, 5]
    assert attempts.failures == ["BackendUnavailable: down"] * 5


def test_attempts_are_bounded_and_the_last_error_is_raised(go: Run, waits: list[float]) -> None:
    attempts = Attempts(calm(attempts=3))
    last = BackendTimeout("third")
    with pytest.raises(BackendTimeout) as caught:
        go(attempts, failing(BackendUnavailable("first"), RateLimited("second"), last))
    assert caught.value is last
    assert attempts.count == 3
    assert attempts.failures == ["BackendUnavailable: first", "RateLimited: second"]


def test_a_lasting_error_is_raised_at_once(go: Run, waits: list[float]) -> None:
    attempts = Attempts(RetryPolicy())
    with pytest.raises(AuthenticationError):
        go(attempts, failing(AuthenticationError("no")))
    assert (attempts.count, waits) == (1, [])


def test_our_own_mistakes_are_not_tried_again(go: Run, waits: list[float]) -> None:
    attempts = Attempts(RetryPolicy())

    def send(left: float) -> str:
        raise KeyError("bug")

    with pytest.raises(KeyError):
        go(attempts, send)
    assert attempts.count == 1


def test_the_providers_wish_counts_when_it_is_longer(go: Run, waits: list[float]) -> None:
    attempts = Attempts(calm(attempts=4, first_wait=1, max_wait=2))
    go(attempts, failing(*[RateLimited("slow down", retry_after=after) for after in (7.5, 0.25, None)]))
    assert waits == [7.5, 2, 2]


def test_a_wish_longer_than_the_budget_ends_it_at_once(go: Run, waits: list[float]) -> None:
    attempts = Attempts(calm(budget=30))
    with pytest.raises(RateLimited):
        go(attempts, failing(RateLimited("slow down", retry_after=31)))
    assert (attempts.count, waits) == (1, [])


def test_no_wait_goes_beyond_the_budget(go: Run, waits: list[float]) -> None:
    attempts = Attempts(calm(attempts=99, first_wait=4, max_wait=4, budget=10))
    with pytest.raises(BackendUnavailable):
        go(attempts, failing(*[BackendUnavailable("down")] * 99))
    assert waits == [4, 4]
    assert attempts.count == 3


def test_each_attempt_is_told_how_much_of_the_budget_is_left(go: Run, waits: list[float]) -> None:
    told = []

    def send(left: float) -> str:
        told.append(left)
        raise BackendUnavailable("down")

    with pytest.raises(BackendUnavailable):
        go(Attempts(calm(attempts=3, first_wait=2, budget=10)), send)
    assert told == [10, 8, 4]


def test_jitter_only_adds_and_is_bounded(go: Run, waits: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_attempts.random, "random", lambda: 0.5)
    go(Attempts(RetryPolicy(first_wait=1, jitter=0.5)), failing(BackendUnavailable("down")))
    assert waits == [1.25]


def test_many_attempts_do_not_overflow(go: Run, waits: list[float]) -> None:
    go(Attempts(calm(attempts=2000, first_wait=0.001, max_wait=0.001)), failing(*[BackendUnavailable("down")] * 1500))
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
