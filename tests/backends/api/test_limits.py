"""Limits of requests, tokens and concurrency: kept for all with one key, in threads and on event loops at once."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from itertools import islice
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.api.limiter_clock import ManualClock
from support.api.providers import COHERE, KEY, QUERY, TEXTS, VOYAGE, Ask, Provider
from support.api.rerank_server import Answer, RerankServer
from support.api.wire_formats import Rows, tokens

from rag_rerank import ConfigError, RateLimited, RequestTooLarge, build, to_config
from rag_rerank.backends.api import limiter
from rag_rerank.backends.api.limiter import KeyLimiter, QueueTicket, limiter_of
from rag_rerank.backends.api.pricing import pair_tokens
from rag_rerank.backends.api.retry import RetryPolicy
from rag_rerank.backends.cohere import CohereReranker, Limits
from rag_rerank.execution import clock as execution_clock
from rag_rerank.execution.deadline import time_limit

PATIENT = RetryPolicy(budget=1000, jitter=0)
ESTIMATE = sum(pair_tokens(QUERY, TEXTS))


@pytest.fixture
def provider(sdk: Provider) -> Provider:
    """The services with an SDK: one bills units, one tokens; everything else is the same for all."""
    return sdk


def limited(provider: Provider, server: RerankServer, *, retry: RetryPolicy = PATIENT, **limits: Any) -> Any:
    options = {name: limits.pop(name) for name in ("api_key", "model", "base_url") if name in limits}
    return provider.reranker(server, limits=Limits(**limits), retry=retry, **options)


# what a user configures


@pytest.mark.parametrize("name", ["requests_per_minute", "tokens_per_minute", "concurrency"])
@pytest.mark.parametrize("value", [0, -1, 2.5, float("nan"), float("inf"), True, "10"])
def test_an_invalid_count_is_refused(name: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=f"^{name}: {name} must be a whole number of at least 1"):
        Limits(**{name: value})


@pytest.mark.parametrize("name", ["cost_per_call", "cost_per_process"])
@pytest.mark.parametrize("value", [0, -1.0, float("nan"), float("inf"), True, "10"])
def test_an_invalid_ceiling_is_refused(name: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=f"^{name}: {name} must be a finite number of dollars"):
        Limits(**{name: value})


def test_a_wrong_limit_is_named_with_its_path(provider: Provider) -> None:
    with pytest.raises(ConfigError) as caught:
        build({"type": provider.kind, "limits": {"requests_per_minute": 0}})
    assert caught.value.path == "limits.requests_per_minute"
    with pytest.raises(ConfigError, match="did you mean 'requests_per_minute'"):
        build({"type": provider.kind, "limits": {"request_per_minute": 1}})


def test_limits_round_trip_through_a_config(provider: Provider) -> None:
    node = {
        "type": provider.kind,
        "model": "m",
        "limits": {"requests_per_minute": 100, "concurrency": 4, "cost_per_call": 0.5},
        "breaker": {"failures": 3},
        "price": {"per_million_tokens": 0.05},
    }
    assert to_config(build(node)) == node


def test_limits_change_no_score_and_so_no_cache(provider: Provider, rerank_server: RerankServer) -> None:
    plain, with_limit = provider.reranker(rerank_server), limited(provider, rerank_server, concurrency=1)
    assert plain.identity == with_limit.identity


# requests


def test_a_request_over_the_limit_waits_until_the_first_is_a_minute_old(
    provider: Provider, ask: Ask, rerank_server: RerankServer, waits: list[float]
) -> None:
    reranker = limited(provider, rerank_server, requests_per_minute=2)
    rankings = [ask(reranker) for _ in range(5)]
    assert waits == [60, 60]
    assert [ranking.trace.notes for ranking in rankings] == [
        (),
        (),
        ("waited 60 s before sending, to keep limits.requests_per_minute=2",),
        (),
        ("waited 60 s before sending, to keep limits.requests_per_minute=2",),
    ]


def test_a_wait_beyond_the_budget_is_refused_at_once(
    provider: Provider, ask: Ask, rerank_server: RerankServer, waits: list[float]
) -> None:
    reranker = limited(provider, rerank_server, requests_per_minute=1, retry=RetryPolicy(budget=59))
    ask(reranker)
    with pytest.raises(RateLimited) as caught:
        ask(reranker)
    error = caught.value
    assert (error.retry_after, error.status, waits) == (60, None, [])
    assert (error.backend, error.model) == (provider.kind, reranker.model)
    assert str(error) == (
        f"{reranker.label} was not called: our own limit is reached (limits.requests_per_minute=1); it might go in "
        "60 s, which is longer than the time it has. Raise the limit, retry.budget or the timeout, or put another "
        "reranker behind it in a fallback"
    )
    assert error.trace is not None
    assert (error.trace.attempts, error.trace.usage.requests) == (0, 0)
    assert len(rerank_server.received) == 1


def test_a_wait_beyond_the_time_of_the_call_is_refused_at_once(
    provider: Provider, rerank_server: RerankServer, clock: ManualClock
) -> None:
    reranker = limited(provider, rerank_server, requests_per_minute=1)
    reranker.rerank(QUERY, TEXTS, timeout=10)
    for _ in range(2):
        with pytest.raises(RateLimited, match="the timeout"):
            reranker.rerank(QUERY, TEXTS, timeout=10)
    with pytest.raises(RateLimited):
        asyncio.run(reranker.arerank(QUERY, TEXTS, timeout=10))
    assert len(rerank_server.received) == 1


def test_a_refused_call_does_not_take_a_place(
    provider: Provider, ask: Ask, rerank_server: RerankServer, waits: list[float]
) -> None:
    hasty, patient = (
        limited(provider, rerank_server, requests_per_minute=1, retry=RetryPolicy(budget=b)) for b in (5, 100)
    )
    ask(hasty)
    for _ in range(3):
        with pytest.raises(RateLimited):
            ask(hasty)
    ask(patient)
    assert waits == [60]


def test_each_attempt_counts(provider: Provider, ask: Ask, rerank_server: RerankServer, waits: list[float]) -> None:
    rerank_server.then(Answer(503), Answer(503))
    ranking = ask(limited(provider, rerank_server, requests_per_minute=2))
    assert waits == [0.5, 1, 58.5]
    assert ranking.trace.attempts == 3
    assert ranking.trace.notes == ("waited 58.5 s before sending, to keep limits.requests_per_minute=2",)


def test_all_with_one_key_are_counted_together(
    provider: Provider, ask: Ask, rerank_server: RerankServer, waits: list[float]
) -> None:
    ask(limited(provider, rerank_server, requests_per_minute=1))
    ask(limited(provider, rerank_server, requests_per_minute=1, api_key="another"))
    ask(limited(provider, rerank_server, requests_per_minute=1, base_url=f"{provider.url(rerank_server)}/elsewhere"))
    assert waits == []
    ask(limited(provider, rerank_server, requests_per_minute=1, model="another"))
    assert waits == [60]


def test_a_smaller_limit_waits_for_requests_of_the_others_and_not_they_for_it(
    provider: Provider, ask: Ask, rerank_server: RerankServer, waits: list[float]
) -> None:
    small, large = (limited(provider, rerank_server, requests_per_minute=n) for n in (2, 3))
    ask(provider.reranker(rerank_server))  # one without limits is counted too
    ask(large)
    ask(large)
    assert waits == []
    ask(small)
    assert waits == [60]


def test_an_injected_client_has_limits_of_its_own(rerank_server: RerankServer, waits: list[float]) -> None:
    import cohere

    with cohere.ClientV2(api_key=KEY, base_url=rerank_server.url) as client:
        one, other = (CohereReranker(client=client, limits=Limits(requests_per_minute=1), retry=PATIENT) for _ in "ab")
        one.rerank(QUERY, TEXTS)
        other.rerank(QUERY, TEXTS)
        assert waits == []
        one.rerank(QUERY, TEXTS)
    assert waits == [60]


def test_no_key_is_stored_and_a_forked_process_counts_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    key_limiter = limiter_of("cohere", None, KEY)
    assert limiter_of("cohere", None, KEY) is key_limiter
    assert limiter_of("voyage", None, KEY) is not key_limiter
    assert KEY not in repr(vars(limiter)) + repr(vars(key_limiter))
    monkeypatch.setattr(os, "getpid", lambda: -1)
    assert limiter_of("cohere", None, KEY) is not key_limiter


# tokens


def test_tokens_are_estimated_and_corrected_by_the_bill(
    ask: Ask, rerank_server: RerankServer, waits: list[float]
) -> None:
    billed = tokens(QUERY, TEXTS)
    assert billed < ESTIMATE
    reranker = limited(VOYAGE, rerank_server, tokens_per_minute=billed + ESTIMATE)
    ask(reranker)
    ask(reranker)
    assert waits == []
    ask(reranker)
    assert waits == [60]


def test_tokens_of_those_without_a_limit_of_them_count_too(
    ask: Ask, rerank_server: RerankServer, waits: list[float]
) -> None:
    ask(COHERE.reranker(rerank_server))  # bills no tokens, so the estimate counts
    ask(limited(COHERE, rerank_server, tokens_per_minute=ESTIMATE))
    assert waits == [60]


def test_an_estimate_counts_where_no_bill_comes(ask: Ask, rerank_server: RerankServer, waits: list[float]) -> None:
    reranker = limited(COHERE, rerank_server, tokens_per_minute=2 * ESTIMATE - 1)
    ask(reranker)
    ask(reranker)
    assert waits == [60]


def test_a_request_with_more_tokens_than_a_minute_may_have_is_halved(
    provider: Provider, ask: Ask, rerank_server: RerankServer, waits: list[float]
) -> None:
    ranking = ask(limited(provider, rerank_server, tokens_per_minute=ESTIMATE - 1))
    assert [len(request.body["documents"]) for request in rerank_server.received] == [1, 1]
    assert len(ranking) == ranking.usage.requests == 2
    assert "2 texts were too large for one request, which was halved" in ranking.trace.notes


def test_a_text_with_more_tokens_than_a_minute_may_have_is_an_error(
    provider: Provider, ask: Ask, rerank_server: RerankServer
) -> None:
    with pytest.raises(RequestTooLarge, match=r"limits\.tokens_per_minute=10 allows no more in a whole minute"):
        ask(limited(provider, rerank_server, tokens_per_minute=10))
    assert rerank_server.received == []


# what a provider asks for


@pytest.mark.parametrize(("retry_after", "seconds"), [("7", 7), ("3600", 60)])
def test_all_who_have_a_limit_wait_as_long_as_the_provider_asks(
    retry_after: str, seconds: float, provider: Provider, ask: Ask, rerank_server: RerankServer, waits: list[float]
) -> None:
    rerank_server.then(Answer(429, {"retry-after": retry_after}, {provider.message_field: "slow down"}))
    with pytest.raises(RateLimited):
        ask(provider.reranker(rerank_server, retry=RetryPolicy(attempts=1)))
    with pytest.raises(RateLimited, match="the provider asked all requests with this key to wait") as caught:
        ask(limited(provider, rerank_server, concurrency=9, retry=RetryPolicy(budget=5)))
    assert caught.value.retry_after == seconds
    ask(provider.reranker(rerank_server))
    assert waits == []
    ranking = ask(limited(provider, rerank_server, concurrency=9))
    assert waits == [seconds]
    assert ranking.trace.notes == (f"waited {seconds} s before sending, as the provider had asked",)


# several at a time


class Holding:
    """Lets a server hold its answers back, and counts those that it holds."""

    def __init__(self, server: RerankServer) -> None:
        self._changed = threading.Condition()
        self.held = self.most = 0
        self._free = 0
        server.rule = lambda request: Answer(rows=self._hold)

    def _hold(self, rows: Rows) -> Rows:
        with self._changed:
            self.held += 1
            self.most = max(self.most, self.held)
            self._changed.notify_all()
            assert self._changed.wait_for(lambda: self._free > 0, 30)
            self._free -= 1
            self.held -= 1
            self._changed.notify_all()
        return rows

    def until(self, count: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self.held == count, 30)

    def release(self, count: int = 1) -> None:
        with self._changed:
            self._free += count
            self._changed.notify_all()


@contextmanager
def threads_and_loop() -> Iterator[tuple[Callable[[Any], Future[Any]], Callable[[Any], Future[Any]]]]:
    """Two ways to start a call: on a thread, and on an event loop of another thread."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    with ThreadPoolExecutor(8) as pool:
        yield (
            lambda reranker: pool.submit(reranker.rerank, QUERY, TEXTS),
            lambda reranker: asyncio.run_coroutine_threadsafe(reranker.arerank(QUERY, TEXTS), loop),
        )
    asyncio.run_coroutine_threadsafe(_finish(), loop).result(30)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


async def _finish() -> None:
    loop = asyncio.get_running_loop()
    await loop.shutdown_asyncgens()
    await loop.shutdown_default_executor()


def test_threads_and_event_loops_share_one_limit_of_requests(
    provider: Provider, rerank_server: RerankServer, clock: ManualClock
) -> None:
    reranker = limited(provider, rerank_server, requests_per_minute=3)
    with threads_and_loop() as starts:
        answers = as_completed([start(reranker) for start in starts for _ in range(4)], timeout=30)
        for count, waiting in ((3, 5), (3, 2), (2, 0)):  # those of a minute are answered before the next begins
            assert all(len(call.result()) == 2 for call in islice(answers, count))
            clock.until_waiting(waiting)
            assert len(rerank_server.received) == 8 - waiting
            clock.advance(60)
    assert next(answers, None) is None


def test_threads_and_event_loops_share_the_places_in_flight(
    provider: Provider, rerank_server: RerankServer, clock: ManualClock
) -> None:
    holding = Holding(rerank_server)
    reranker = limited(provider, rerank_server, concurrency=2)
    with threads_and_loop() as starts:
        calls = [start(reranker) for _ in range(3) for start in starts]
        for waiting in (4, 3, 2, 1, 0):
            clock.until_waiting(waiting)
            holding.until(2)
            holding.release()
        holding.until(1)
        holding.release()
        assert all(len(call.result(30)) == 2 for call in calls)
    assert (holding.most, len(rerank_server.received)) == (2, 6)


def test_a_place_that_does_not_come_free_in_time_is_an_error(
    provider: Provider, rerank_server: RerankServer, clock: ManualClock
) -> None:
    holding = Holding(rerank_server)
    reranker = limited(provider, rerank_server, concurrency=1, retry=RetryPolicy(budget=20))
    with threads_and_loop() as starts:
        first = starts[0](reranker)
        holding.until(1)
        others = [start(reranker) for start in starts]
        clock.until_waiting(2)
        clock.advance(20)
        for call in others:
            with pytest.raises(RateLimited, match=r"limits\.concurrency=1 places were taken") as caught:
                call.result(30)
            assert caught.value.retry_after is None
        holding.release()
        assert len(first.result(30)) == 2
        holding.release()
        assert len(reranker.rerank(QUERY, TEXTS)) == 2


def test_a_cancelled_call_gives_its_place_to_the_next(
    provider: Provider, rerank_server: RerankServer, clock: ManualClock
) -> None:
    holding = Holding(rerank_server)
    reranker = limited(provider, rerank_server, concurrency=1)
    with threads_and_loop() as (start, astart):
        in_flight = astart(reranker)
        holding.until(1)
        waiting = astart(reranker)
        clock.until_waiting(1)
        last = start(reranker)
        clock.until_waiting(2)
        waiting.cancel()
        clock.until_waiting(1)
        in_flight.cancel()
        clock.until_waiting(0)
        holding.release(2)
        assert len(last.result(30)) == 2
    assert len(rerank_server.received) == 2


def test_a_cancelled_wait_lets_the_next_request_start_earlier(
    provider: Provider, rerank_server: RerankServer, clock: ManualClock
) -> None:
    reranker = limited(provider, rerank_server, requests_per_minute=1)
    with threads_and_loop() as (start, astart):
        start(reranker).result(30)
        waiting = astart(reranker)
        clock.until_waiting(1)
        next_one = start(reranker)
        clock.until_waiting(2)
        waiting.cancel()
        clock.until_waiting(1)
        clock.advance(60)
        assert len(next_one.result(30)) == 2
    assert len(rerank_server.received) == 2


def test_an_abandoned_call_sends_nothing_and_gives_its_place_back(
    provider: Provider, rerank_server: RerankServer, clock: ManualClock
) -> None:
    reranker = limited(provider, rerank_server, requests_per_minute=1)
    reranker.rerank(QUERY, TEXTS)

    def abandoned() -> None:
        with time_limit(float("inf")) as limit:
            limits.append(limit)
            reranker.score(QUERY, TEXTS)

    limits: list[Any] = []
    with threads_and_loop() as (start, _), ThreadPoolExecutor(1) as pool:
        abandoned_call = pool.submit(abandoned)
        clock.until_waiting(1)
        next_call = start(reranker)
        clock.until_waiting(2)
        limits[0].revoke()
        clock.advance(60)
        assert isinstance(abandoned_call.exception(30), Exception)
        assert len(next_call.result(30)) == 2
    assert len(rerank_server.received) == 2


# the sliding minute

STEP = st.tuples(
    st.sampled_from(["enqueue", "enqueue", "enqueue", "give up", "answer"]),
    st.integers(1, 5),
    st.integers(0, 40),
    st.integers(0),
)


class SetClock(execution_clock.Clock):
    """A clock that shows the time that a test sets."""

    time = 0.0

    def now(self) -> float:
        return self.time


@settings(max_examples=200, deadline=None)
@given(
    requests=st.none() | st.integers(1, 4),
    most_tokens=st.none() | st.integers(5, 12),
    places=st.none() | st.integers(1, 3),
    steps=st.lists(STEP, max_size=40),
)
def test_no_minute_has_more_than_the_limits_and_no_wait_is_longer_than_announced(
    requests: int | None, most_tokens: int | None, places: int | None, steps: list[tuple[str, int, int, int]]
) -> None:
    limits = Limits(requests_per_minute=requests, tokens_per_minute=most_tokens, concurrency=places)
    key_limiter, clock = KeyLimiter(), SetClock()
    waiting: dict[QueueTicket, float] = {}  # with the start that was announced last
    in_flight: list[QueueTicket] = []
    starts: list[tuple[float, int]] = []

    def look() -> None:
        for ticket, announced in list(waiting.items()):
            wait = key_limiter.wait(ticket)
            if wait == 0:
                del waiting[ticket]
                in_flight.append(ticket)
                starts.append((clock.time, ticket.tokens))
                assert clock.time <= announced or places is not None
            elif places is None:
                assert clock.time + wait <= announced + 1e-6
                waiting[ticket] = clock.time + wait
            assert len(in_flight) <= (places or len(in_flight))

    with execution_clock.use(clock):
        for action, weight, seconds, pick in steps:
            if action == "enqueue":
                ticket = QueueTicket(limits, weight)
                key_limiter.enqueue(ticket)
                waiting[ticket] = float("inf")
            elif action == "give up" and waiting:
                ticket = list(waiting)[pick % len(waiting)]
                key_limiter.release(ticket, was_sent=False)
                del waiting[ticket]
            elif action == "answer" and in_flight:
                key_limiter.release(in_flight.pop(pick % len(in_flight)), was_sent=True)
            look()
            end = clock.time + seconds
            while due := [announced for announced in waiting.values() if clock.time < announced <= end]:
                clock.time = min(due)
                look()
            clock.time = end
            look()
        while waiting:  # each gets its turn
            for ticket in in_flight:
                key_limiter.release(ticket, was_sent=True)
            in_flight.clear()
            look()
            clock.time += 60 if places is not None else min(waiting.values()) - clock.time
            look()
    for end, _ in starts:
        window = [weight for time, weight in starts if end - 60 < time <= end]
        assert len(window) <= (requests or len(window))
        assert sum(window) <= (most_tokens or sum(window))


def test_requests_start_in_the_order_in_which_they_came() -> None:
    key_limiter, clock = KeyLimiter(), SetClock()
    limits = Limits(tokens_per_minute=10)
    with execution_clock.use(clock):
        tickets = [QueueTicket(limits, weight) for weight in (8, 9, 1, 9)]
        for ticket in tickets:
            key_limiter.enqueue(ticket)
        assert [key_limiter.wait(ticket) for ticket in tickets] == [0, 60, 60, 120]  # the light one does not overtake


def test_a_bill_above_the_estimate_makes_the_next_wait() -> None:
    key_limiter, clock = KeyLimiter(), SetClock()
    limits = Limits(tokens_per_minute=10)
    with execution_clock.use(clock):
        first, second = QueueTicket(limits, 2), QueueTicket(limits, 5)
        key_limiter.enqueue(first)
        assert key_limiter.wait(first) == 0
        key_limiter.correct(first, 6)
        key_limiter.enqueue(second)
        assert key_limiter.wait(second) == 60
        key_limiter.correct(first, 5)
        assert key_limiter.wait(second) == 0
