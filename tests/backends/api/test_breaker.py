"""The circuit breaker: nothing is sent to a provider that fails in a row, until one probe is answered."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from support.api.limiter_clock import ManualClock
from support.api.providers import COHERE, QUERY, TEXTS, VOYAGE, Ask, Provider
from support.api.rerank_server import Action, Answer, Drop, Hang, Received, RerankServer
from support.slow_rerankers import Flaky
from support.virtual_clock import VirtualClock

from rag_rerank import (
    BackendTimeout,
    BackendUnavailable,
    CircuitOpen,
    ConfigError,
    DeadlineExceeded,
    Fallback,
    RerankError,
    build,
)
from rag_rerank.backends.api.retry import RetryPolicy
from rag_rerank.backends.cohere import Breaker

ONCE = RetryPolicy(attempts=1)


@pytest.fixture
def provider(sdk: Provider) -> Provider:
    """The services with an SDK: one bills units, one tokens; everything else is the same for all."""
    return sdk


def with_breaker(provider: Provider, server: RerankServer, *, retry: RetryPolicy = ONCE, **options: Any) -> Any:
    breaker = Breaker(failures=options.pop("failures", 2), seconds=30)
    return provider.reranker(server, breaker=breaker, retry=retry, **options)


def down(request: Received) -> Action:
    return Answer(503)


def fail(ask: Ask, reranker: Any, times: int = 1) -> RerankError:
    for _ in range(times):
        with pytest.raises(RerankError) as caught:
            ask(reranker)
    return caught.value


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("failures", 0),
        ("failures", 1_001),
        ("failures", True),
        ("failures", 1.5),
        ("seconds", 0),
        ("seconds", float("nan")),
    ],
)
def test_an_invalid_breaker_is_refused(name: str, value: Any, provider: Provider) -> None:
    with pytest.raises(ConfigError) as caught:
        Breaker(**{name: value})
    assert caught.value.path == name
    with pytest.raises(ConfigError, match=rf"^breaker\.{name}: "):
        build({"type": provider.kind, "breaker": {name: value if isinstance(value, int) else -1}})


def test_failures_in_a_row_open_it_and_nothing_is_sent(
    provider: Provider, ask: Ask, rerank_server: RerankServer, clock: ManualClock
) -> None:
    rerank_server.rule = down
    reranker = with_breaker(provider, rerank_server)
    assert type(fail(ask, reranker, 2)) is BackendUnavailable
    clock.advance(12)
    error = fail(ask, reranker)
    assert isinstance(error, CircuitOpen)
    assert (error.retry_after, error.backend, error.model) == (18, provider.kind, reranker.model)
    assert "its circuit is open, after 2 failures in a row or more, and the next request may go in 18 s" in str(error)
    assert error.trace is not None
    assert (error.trace.attempts, error.trace.usage.requests) == (0, 0)
    assert len(rerank_server.received) == 2


def test_it_counts_for_all_with_one_key_and_refuses_those_with_a_breaker(
    ask: Ask, rerank_server: RerankServer, clock: ManualClock
) -> None:
    rerank_server.then(Answer(503), Answer(503))
    fail(ask, COHERE.reranker(rerank_server, retry=ONCE), 2)
    assert isinstance(fail(ask, with_breaker(COHERE, rerank_server, model="another")), CircuitOpen)
    assert len(ask(with_breaker(COHERE, rerank_server, failures=3))) == 2
    assert len(ask(with_breaker(COHERE, rerank_server))) == 2  # the answer closed it


@pytest.mark.parametrize("action", [Answer(500), Drop(), Hang(seconds=2)], ids=["500", "drop", "hang"])
def test_server_errors_and_timeouts_count(
    action: Action, provider: Provider, ask: Ask, rerank_server: RerankServer
) -> None:
    rerank_server.then(action)
    reranker = with_breaker(provider, rerank_server, failures=1, timeout=0.2)
    fail(ask, reranker)
    assert isinstance(fail(ask, reranker), CircuitOpen)


@pytest.mark.parametrize("status", [400, 401, 402, 429])
def test_a_refusal_does_not_count(status: int, provider: Provider, ask: Ask, rerank_server: RerankServer) -> None:
    rerank_server.rule = lambda request: Answer(status)
    assert not isinstance(fail(ask, with_breaker(provider, rerank_server, failures=1), 3), CircuitOpen)


def test_short_timeouts_open_it_for_short_timeouts_only() -> None:
    slow = Flaky(script=((0.4, None),), base_url="http://slow", breaker=Breaker(failures=3), retry=ONCE)
    with VirtualClock().running():
        for _ in range(3):
            with pytest.raises(DeadlineExceeded):
                slow.rerank(QUERY, TEXTS, timeout=0.25)
        for timeout in (0.1, 0.25, 0.5):
            with pytest.raises(CircuitOpen):
                slow.rerank(QUERY, TEXTS, timeout=timeout)
        assert len(slow.rerank(QUERY, TEXTS, timeout=0.6)) == len(TEXTS)
        with pytest.raises(DeadlineExceeded):  # the answer has closed it for all
            slow.rerank(QUERY, TEXTS, timeout=0.25)


def test_long_timeouts_open_it_for_short_ones_too() -> None:
    hanging = Flaky(script=((600.0, None),), base_url="http://hanging", breaker=Breaker(failures=2), retry=ONCE)
    with VirtualClock().running() as clock:
        for _ in range(2):
            with pytest.raises(BackendTimeout):
                hanging.rerank(QUERY, TEXTS)
        assert clock.now() == 2 * hanging.timeout
        for timeout in (0.1, None):
            with pytest.raises(CircuitOpen):
                hanging.rerank(QUERY, TEXTS, timeout=timeout)


def test_an_attempt_with_next_to_no_time_does_not_count_for_others() -> None:
    script = ((0.95, BackendUnavailable("down")), (0.3, None))
    retry = RetryPolicy(first_wait=0, jitter=0)
    slow = Flaky(script=script, base_url="http://slow-again", breaker=Breaker(failures=2), retry=retry)
    with VirtualClock().running():
        with pytest.raises(DeadlineExceeded):
            slow.rerank(QUERY, TEXTS, timeout=1)
        assert len(slow.sent) == 2
        assert len(slow.rerank(QUERY, TEXTS, timeout=1)) == len(TEXTS)


def test_an_answer_between_failures_starts_the_count_anew(
    provider: Provider, ask: Ask, rerank_server: RerankServer
) -> None:
    rerank_server.then(Answer(503), Answer(), Answer(503), Answer())
    reranker = with_breaker(provider, rerank_server)
    for _ in range(2):
        fail(ask, reranker)
        ask(reranker)
    assert len(rerank_server.received) == 4


def test_a_probe_that_is_answered_closes_it(
    provider: Provider, ask: Ask, rerank_server: RerankServer, clock: ManualClock
) -> None:
    rerank_server.then(Answer(503), Answer(503))
    reranker = with_breaker(provider, rerank_server)
    fail(ask, reranker, 2)
    clock.advance(30)
    assert ask(reranker).trace.notes == ("the circuit was open, and this request was the probe",)
    assert ask(reranker).trace.notes == ()


def test_a_probe_that_fails_keeps_it_open(
    provider: Provider, ask: Ask, rerank_server: RerankServer, clock: ManualClock
) -> None:
    rerank_server.rule = down
    reranker = with_breaker(provider, rerank_server)
    fail(ask, reranker, 2)
    clock.advance(30)
    error = fail(ask, reranker)
    assert isinstance(error, BackendUnavailable)
    assert error.trace is not None
    assert error.trace.notes == ("the circuit was open, and this request was the probe",)
    clock.advance(29)
    assert isinstance(fail(ask, reranker), CircuitOpen)
    assert len(rerank_server.received) == 3


def test_there_is_one_probe_and_after_a_cancelled_one_there_is_another(
    provider: Provider, rerank_server: RerankServer, clock: ManualClock
) -> None:
    rerank_server.then(Answer(503), Answer(503), Hang())
    reranker = with_breaker(provider, rerank_server)

    async def story() -> None:
        for _ in range(2):
            with pytest.raises(BackendUnavailable):
                await reranker.arerank(QUERY, TEXTS)
        clock.advance(30)
        rerank_server.request_arrived.clear()
        probe = asyncio.create_task(reranker.arerank(QUERY, TEXTS))
        await asyncio.to_thread(rerank_server.request_arrived.wait)
        with pytest.raises(CircuitOpen, match="one request is on its way as the probe") as caught:
            await reranker.arerank(QUERY, TEXTS)
        assert caught.value.retry_after is None
        with pytest.raises(CircuitOpen):
            await asyncio.to_thread(reranker.rerank, QUERY, TEXTS)
        probe.cancel()
        with pytest.raises(asyncio.CancelledError):
            await probe
        assert len(await reranker.arerank(QUERY, TEXTS)) == 2

    asyncio.run(story())
    assert len(rerank_server.received) == 4


def test_it_ends_the_attempts_of_the_call_that_opens_it(
    provider: Provider, ask: Ask, rerank_server: RerankServer, waits: list[float]
) -> None:
    rerank_server.rule = down
    reranker = with_breaker(provider, rerank_server, retry=RetryPolicy(attempts=5, jitter=0))
    assert isinstance(fail(ask, reranker), BackendUnavailable)
    assert (len(rerank_server.received), waits) == (2, [0.5])
    assert isinstance(fail(ask, reranker), CircuitOpen)
    assert (len(rerank_server.received), waits) == (2, [0.5])


def test_a_circuit_that_opens_while_a_call_waits_refuses_its_next_attempt(
    provider: Provider, rerank_server: RerankServer, clock: ManualClock
) -> None:
    rerank_server.rule = down

    async def story() -> None:
        slow = with_breaker(provider, rerank_server, retry=RetryPolicy(first_wait=8, jitter=0))
        waiting = asyncio.create_task(slow.arerank(QUERY, TEXTS))
        await asyncio.to_thread(clock.until_waiting, 1)
        with pytest.raises(BackendUnavailable):
            await with_breaker(provider, rerank_server).arerank(QUERY, TEXTS)
        clock.advance(8)
        with pytest.raises(CircuitOpen) as caught:
            await waiting
        assert caught.value.trace is not None
        assert [failure.partition(":")[0] for failure in caught.value.trace.failures] == ["BackendUnavailable"]

    asyncio.run(story())
    assert len(rerank_server.received) == 2


def test_a_fallback_moves_on_at_once(ask: Ask, rerank_server: RerankServer, waits: list[float]) -> None:
    rerank_server.rule = lambda request: Answer(503) if request.path == COHERE.path else Answer()
    first = with_breaker(COHERE, rerank_server, failures=1, retry=RetryPolicy(jitter=0))
    reranker = Fallback(members=(first, VOYAGE.reranker(rerank_server)))
    ask(reranker)
    ranking = ask(reranker)
    assert [request.path for request in rerank_server.received] == [COHERE.path, VOYAGE.path, VOYAGE.path]
    assert waits == []
    assert ranking.degraded == ("voyage:rerank-2.5 answered in place of cohere:rerank-v3.5 (CircuitOpen)",)
