"""Each failure of a provider, through the real SDKs over sockets: the error, and how often it was asked."""

from __future__ import annotations

import asyncio
import json
import logging
import pickle
import traceback
from typing import Any

import pytest
from support.api.injected_faults import DAMAGES
from support.api.providers import COHERE, KEY, QUERY, TEXTS, VOYAGE, Ask, Provider
from support.api.rerank_server import Answer, Drop, Hang, Received, RerankServer
from support.api.wire_formats import TEI_INFO

import rag_rerank
from rag_rerank import (
    AllFailed,
    AuthenticationError,
    BackendError,
    BackendTimeout,
    BackendUnavailable,
    BadResponse,
    Fallback,
    RateLimited,
    RequestRejected,
    TransientError,
)
from rag_rerank.backends.api.retry import RetryPolicy

STATUSES = {
    **dict.fromkeys((400, 404, 405, 418, 422, 499, 501), "RequestRejected"),
    **dict.fromkeys((401, 403, 498), "AuthenticationError"),
    402: "BillingError",
    413: "RequestTooLarge",
    429: "RateLimited",
    **dict.fromkeys((408, 409, 425, 500, 502, 503, 504, 507, 520, 524, 529), "BackendUnavailable"),
}
HIDDEN_BY_VOYAGE = (501, 507, 520, 524, 529)  # with a JSON body, its SDK takes them for successes


def fail(ask: Ask, reranker: rag_rerank.Reranker, texts: tuple[str, ...] = TEXTS) -> BackendError:
    with pytest.raises(BackendError) as caught:
        ask(reranker, texts)
    return caught.value


@pytest.mark.parametrize(
    ("status", "json_body"),
    [(status, True) for status in STATUSES] + [(status, False) for status in (400, 403, 429, 500, 501, 503, 520)],
)
def test_each_status_has_its_error_and_is_tried_again_only_if_it_may_pass(
    status: int, json_body: bool, provider: Provider, ask: Ask, rerank_server: RerankServer, waits: list[float]
) -> None:
    body = {provider.message_field: "a few words"} if json_body else "<html><body>oops</body></html>"
    headers = {"content-type": "application/json" if json_body else "text/html"}
    rerank_server.rule = lambda request: Answer(status, headers, body)
    error = fail(ask, provider.reranker(rerank_server), TEXTS[:1])
    hidden = provider is VOYAGE and json_body and status in HIDDEN_BY_VOYAGE
    expected = "BackendUnavailable" if hidden else STATUSES[status]
    assert type(error) is getattr(rag_rerank, expected)
    assert (error.backend, error.model) == (provider.kind, error.trace.model if error.trace else None)
    goes_on = provider.dialect == "infinity" and status in (504, 524)  # a gateway gave up, and the server did not
    attempts = 3 if isinstance(error, TransientError) and not goes_on else 1
    assert len(rerank_server.received) == attempts
    assert error.trace is not None
    assert error.trace.attempts == error.trace.usage.requests == attempts
    assert len(error.trace.failures) == len(waits) == attempts - 1
    assert error.trace.usage.texts == 0
    if not (provider is VOYAGE and status == 500 and json_body) and not (hidden and not json_body):
        assert error.status == (None if hidden else status)
    assert ("a few words" in str(error)) == json_body or provider is VOYAGE


def test_what_may_pass_is_tried_again_and_is_in_the_trace(
    provider: Provider, ask: Ask, rerank_server: RerankServer, waits: list[float]
) -> None:
    rerank_server.then(Answer(503, body={provider.message_field: "busy"}), Drop())
    ranking = ask(provider.reranker(rerank_server))
    assert [hit.raw_score for hit in ranking] == [provider.score(QUERY, TEXTS[1]), provider.score(QUERY, TEXTS[0])]
    trace = ranking.trace
    assert (trace.attempts, trace.usage.requests, trace.usage.texts) == (3, 3, 2)
    assert [failure.partition(":")[0] for failure in trace.failures] == ["BackendUnavailable"] * 2
    assert waits == [0.5, 1.0]
    assert "3 attempts" in trace.render()


@pytest.mark.parametrize(
    ("status", "headers", "waited"),
    [
        (429, {"retry-after": "7"}, 7),
        (429, {"retry-after": "0"}, 0.5),
        (429, {"retry-after": "2.5"}, 2.5),
        (429, {"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        (429, {"retry-after": "Wed, 21 Oct 2015 07:28:12 GMT", "date": "Wed, 21 Oct 2015 07:28:00 GMT"}, 12),
        (429, {"retry-after": "soon"}, 0.5),
        (429, {}, 0.5),
        (503, {"retry-after": "7"}, 7),
    ],
)
def test_the_wait_that_the_provider_asks_for_is_kept(
    status: int,
    headers: dict[str, str],
    waited: float,
    provider: Provider,
    ask: Ask,
    rerank_server: RerankServer,
    waits: list[float],
) -> None:
    rerank_server.then(Answer(status, headers, {provider.message_field: "slow down"}))
    assert len(ask(provider.reranker(rerank_server))) == 2
    assert waits == [waited]


def test_a_wait_beyond_the_budget_does_not_start(
    provider: Provider, ask: Ask, rerank_server: RerankServer, waits: list[float]
) -> None:
    rerank_server.then(Answer(429, {"retry-after": "3600"}, {provider.message_field: "tomorrow"}))
    error = fail(ask, provider.reranker(rerank_server))
    assert isinstance(error, RateLimited)
    assert error.retry_after == 3600
    assert (len(rerank_server.received), waits) == (1, [])


def test_a_server_that_hangs_is_a_timeout_and_tried_again_unless_it_goes_on(
    provider: Provider, ask: Ask, rerank_server: RerankServer, waits: list[float]
) -> None:
    rerank_server.then(Hang(), Hang())
    error = fail(ask, provider.reranker(rerank_server, timeout=0.1, retry=RetryPolicy(attempts=2, jitter=0)))
    assert type(error) is BackendTimeout
    assert len(rerank_server.received) == (1 if provider.dialect == "infinity" else 2)


def test_the_budget_cuts_the_timeout_of_an_attempt(provider: Provider, ask: Ask, rerank_server: RerankServer) -> None:
    rerank_server.then(Hang(seconds=2))  # then it hangs up, which would be another error
    patient = provider.reranker(rerank_server, timeout=60, retry=RetryPolicy(attempts=1, budget=0.1))
    assert type(fail(ask, patient)) is BackendTimeout


def test_calls_share_a_connection(provider: Provider, ask: Ask, rerank_server: RerankServer) -> None:
    reranker = provider.reranker(rerank_server)
    ask(reranker)
    before = rerank_server.connections
    for _ in range(3):
        ask(reranker)
    assert rerank_server.connections == before


@pytest.mark.parametrize("midway", [False, True], ids=["before", "midway"])
@pytest.mark.filterwarnings("ignore:The 'warn' method is deprecated")  # Voyage's SDK, when an answer breaks off
def test_a_dropped_connection_is_unavailable_and_tried_again(
    midway: bool, provider: Provider, ask: Ask, rerank_server: RerankServer, waits: list[float]
) -> None:
    rerank_server.rule = lambda request: Drop(midway)
    error = fail(ask, provider.reranker(rerank_server))
    assert type(error) is BackendUnavailable
    assert len(rerank_server.received) == 3


def test_a_server_that_is_not_there_is_unavailable(provider: Provider, ask: Ask, waits: list[float]) -> None:
    with RerankServer() as closed_server:
        pass
    error = fail(ask, provider.reranker(closed_server))
    assert type(error) is BackendUnavailable
    assert error.trace is not None
    assert error.trace.attempts == 3


@pytest.mark.parametrize("change", DAMAGES.values(), ids=DAMAGES)
def test_an_answer_that_cannot_be_trusted_is_refused_and_not_asked_for_again(
    change: Any, provider: Provider, ask: Ask, rerank_server: RerankServer
) -> None:
    rerank_server.then(Answer(rows=change))
    assert type(fail(ask, provider.reranker(rerank_server))) is BadResponse
    assert len(rerank_server.received) == 1


def test_the_order_of_rows_does_not_matter(provider: Provider, ask: Ask, rerank_server: RerankServer) -> None:
    rerank_server.then(Answer(rows=list), Answer(rows=lambda rows: sorted(rows, key=lambda row: row["index"])))
    reranker = provider.reranker(rerank_server)
    texts = tuple(f"warm dragon number {i}" for i in range(20))
    assert ask(reranker, texts).hits == ask(reranker, texts).hits


@pytest.mark.parametrize("status", [200, 400, 401, 403, 413, 422, 429, 500, 503, 520])
def test_neither_key_nor_texts_show_anywhere_when_the_provider_repeats_them(
    status: int, provider: Provider, ask: Ask, rerank_server: RerankServer, waits: list[float]
) -> None:
    def echo(request: Received) -> Answer:
        (key,) = (value for value in request.headers.values() if KEY in value)  # in the header of the provider
        everything = f"{key}: {json.dumps(request.body, ensure_ascii=False)}"
        return Answer(status, {}, {provider.message_field: everything, "echo": everything})

    rerank_server.rule = echo
    reranker = provider.reranker(rerank_server)
    error = fail(ask, reranker, TEXTS[:1])
    assert error.trace is not None
    outputs = [
        *traceback.format_exception(error),
        repr(error),
        repr(vars(error)),
        repr(reranker),
        json.dumps(error.trace.to_dict()),
        error.trace.render(),
        repr(pickle.loads(pickle.dumps(error))),
        json.dumps(rag_rerank.to_config(reranker)),
    ]
    assert not [text for text in outputs if KEY in text or TEXTS[0][:20] in text or QUERY[:20] in text]
    chained: BaseException | None = error
    while chained is not None:
        assert KEY not in str(chained) + repr(vars(chained))
        chained = chained.__cause__ or chained.__context__


def test_no_logger_shows_the_key(
    provider: Provider, ask: Ask, rerank_server: RerankServer, waits: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    rerank_server.then(Answer(429, body={provider.message_field: "slow down"}), Drop())
    ask(provider.reranker(rerank_server))
    assert caplog.records
    assert KEY not in caplog.text
    assert not [record for record in caplog.records if record.name.startswith("rag_rerank")]


def test_a_redirect_does_not_carry_the_key_to_another_host(
    sdk: Provider, ask: Ask, rerank_server: RerankServer
) -> None:
    with RerankServer() as other:
        elsewhere = other.url.replace("127.0.0.1", "localhost") + sdk.path
        rerank_server.then(Answer(307, {"location": elsewhere}, b""))
        ask(sdk.reranker(rerank_server))
        assert [KEY in repr(request) for request in rerank_server.received] == [True]
        assert [KEY in repr(request) for request in other.received] == [False]


def test_a_redirect_without_end_is_an_error(sdk: Provider, ask: Ask, rerank_server: RerankServer) -> None:
    rerank_server.rule = lambda request: Answer(307, {"location": sdk.path}, b"")
    error = fail(ask, sdk.reranker(rerank_server, retry=RetryPolicy(attempts=1)))
    assert type(error) in (BadResponse, BackendUnavailable)


def test_a_cancelled_call_stops_and_the_reranker_goes_on(provider: Provider, rerank_server: RerankServer) -> None:
    rerank_server.then(Hang())
    reranker = provider.reranker(rerank_server)

    async def cancelled() -> int:
        task = asyncio.create_task(reranker.arerank(QUERY, TEXTS))
        await asyncio.to_thread(rerank_server.request_arrived.wait)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return len(await reranker.arerank(QUERY, TEXTS))

    assert asyncio.run(cancelled()) == 2
    assert len(rerank_server.received) == 2


def test_a_fallback_moves_on_and_shows_the_attempts_that_failed(
    ask: Ask, rerank_server: RerankServer, waits: list[float]
) -> None:
    rerank_server.rule = lambda request: Answer(503) if request.path == COHERE.path else Answer()
    ranking = ask(Fallback(members=(COHERE.reranker(rerank_server), VOYAGE.reranker(rerank_server))))
    assert [request.path for request in rerank_server.received] == [COHERE.path] * 3 + [VOYAGE.path]
    assert [hit.text for hit in ranking] == [TEXTS[1], TEXTS[0]]
    assert ranking.degraded == ("voyage:rerank-2.5 answered in place of cohere:rerank-v3.5 (BackendUnavailable)",)
    failed, success = ranking.trace.children
    assert (failed.attempts, len(failed.failures), failed.usage.requests) == (3, 2, 3)
    assert failed.error == "BackendUnavailable: cohere:rerank-v3.5 answered 503"
    assert (success.attempts, success.error) == (1, None)
    assert ranking.usage.requests == 4
    assert ranking.usage.texts == 2


def test_a_fallback_does_not_hide_a_wrong_key(ask: Ask, rerank_server: RerankServer) -> None:
    rerank_server.rule = lambda request: Answer(401) if request.path == COHERE.path else Answer()
    reranker = Fallback(members=(COHERE.reranker(rerank_server), VOYAGE.reranker(rerank_server)))
    assert type(fail(ask, reranker)) is AuthenticationError
    assert len(rerank_server.received) == 1


def test_a_fallback_whose_members_all_fail_says_so(ask: Ask, rerank_server: RerankServer, waits: list[float]) -> None:
    rerank_server.rule = lambda request: Answer(429) if request.path == COHERE.path else Answer(500)
    error = fail(ask, Fallback(members=(COHERE.reranker(rerank_server), VOYAGE.reranker(rerank_server))))
    assert isinstance(error, AllFailed)
    assert [type(inner) for inner in error.errors] == [RateLimited, BackendUnavailable]
    assert len(rerank_server.received) == 6


def test_a_rejected_request_says_how_to_mend_it(provider: Provider, ask: Ask, rerank_server: RerankServer) -> None:
    rerank_server.info = {**TEI_INFO, "model_id": "nope"}
    rerank_server.then(Answer(404, body={provider.message_field: "no such model"}))
    error = fail(ask, provider.reranker(rerank_server, model="nope"))
    assert type(error) is RequestRejected
    assert str(error) == (
        f"{provider.label}:nope answered 404 (no such model); "
        "the same request will fail again; check model, options and base_url"
    )
