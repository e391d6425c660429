"""TEI: what it says about itself is asked once, obeyed, and in the trace."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from support.api.providers import KEY, QUERY, TEXTS, Ask
from support.api.rerank_server import Answer, Drop, Hang, RerankServer
from support.api.wire_formats import TEI_INFO, logit

from rag_rerank import BackendUnavailable, CircuitOpen, RateLimited, RequestRejected
from rag_rerank.backends import http
from rag_rerank.backends.api.retry import RetryPolicy
from rag_rerank.backends.http import Breaker, HttpReranker

Closing = Callable[[HttpReranker], HttpReranker]
MANY = tuple(f"warm dragon number {i}" for i in range(70))


@pytest.fixture
def reranker(rerank_server: RerankServer, closing: Closing) -> HttpReranker:
    """A reranker that has not asked its server yet."""
    base_url, retry = rerank_server.base("tei"), RetryPolicy(jitter=0)
    return closing(HttpReranker(dialect="tei", base_url=base_url, api_key=KEY, retry=retry))


def sizes(server: RerankServer) -> list[int]:
    return [len(request.texts) for request in server.received]


def test_it_is_asked_once_and_its_model_stands_in_the_trace(
    reranker: HttpReranker, ask: Ask, rerank_server: RerankServer
) -> None:
    rerank_server.info = {**TEI_INFO, "model_id": "BAAI/bge-reranker-v2-m3", "model_sha": "953dc6f"}
    for _ in range(2):
        ranking = ask(reranker)
        assert ranking.trace.model == "BAAI/bge-reranker-v2-m3@953dc6f"
        assert (ranking.trace.step, ranking.trace.notes, ranking.usage.requests) == ("http:tei", (), 1)
    (look,) = rerank_server.info_requests
    assert (look.method, look.path, look.body) == ("GET", "/tei/info", None)
    assert look.headers["authorization"] == f"Bearer {KEY}"


def test_warming_up_asks_and_closing_forgets(reranker: HttpReranker, rerank_server: RerankServer) -> None:
    reranker.warm_up()
    reranker.warm_up()
    assert (len(rerank_server.info_requests), reranker.model_id) == (1, "m")
    reranker.close()
    assert reranker.model_id is None
    reranker.rerank(QUERY, TEXTS)
    assert len(rerank_server.info_requests) == 2


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({}, [32, 32, 6]),
        ({"max_client_batch_size": 64}, [64, 6]),
        ({"max_client_batch_size": 1000}, [70]),
        ({"max_client_batch_size": 1000, "max_concurrent_requests": 50}, [50, 20]),
        ({"max_client_batch_size": 8, "max_concurrent_requests": 50}, [8] * 8 + [6]),
    ],
)
def test_requests_are_as_large_as_it_takes_them(
    limits: dict[str, int], expected: list[int], reranker: HttpReranker, ask: Ask, rerank_server: RerankServer
) -> None:
    rerank_server.info = {**TEI_INFO, **limits}
    ranking = ask(reranker, MANY)
    assert sizes(rerank_server) == expected
    assert {hit.text: hit.raw_score for hit in ranking} == {text: logit(QUERY, text) for text in MANY}


def test_a_smaller_limit_than_it_stated_is_reached_by_halving(
    reranker: HttpReranker, ask: Ask, rerank_server: RerankServer
) -> None:
    ask(reranker, MANY[:1])
    rerank_server.info = {**TEI_INFO, "max_client_batch_size": 16}  # it was started anew with another limit
    ranking = ask(reranker, MANY[:32])
    assert sizes(rerank_server) == [1, 32, 16, 16]
    assert "32 texts were too large for one request, which was halved" in ranking.trace.notes
    assert len(ranking) == 32


def test_bodies_stay_under_two_megabytes(reranker: HttpReranker, ask: Ask, rerank_server: RerankServer) -> None:
    quoted = 'a "warm" dragon \\ ' * 8_000  # 144,000 characters, and 168,000 bytes as JSON
    ask(reranker, (quoted,) * 32)
    assert sizes(rerank_server) == [11, 11, 10]
    assert all(int(request.headers["content-length"]) <= 2_000_000 for request in rerank_server.received)


def test_it_waits_for_permits_that_others_hold(
    reranker: HttpReranker, ask: Ask, rerank_server: RerankServer, waits: list[float]
) -> None:
    rerank_server.in_flight = 500  # of 512 permits
    try:
        with pytest.raises(RateLimited, match="Model is overloaded"):
            ask(reranker, MANY[:32])
        assert sizes(rerank_server) == [32] * 3
        assert len(ask(reranker, MANY[:12])) == 12
    finally:
        rerank_server.in_flight = 0


@pytest.mark.parametrize("kind", [{"embedding": {"pooling": "cls"}}, {"classifier": {"id2label": {}}}])
def test_a_server_without_a_reranker_is_refused(
    kind: Any, reranker: HttpReranker, ask: Ask, rerank_server: RerankServer
) -> None:
    rerank_server.info = {**TEI_INFO, "model_id": "BAAI/bge-m3", "model_type": kind}
    with pytest.raises(RequestRejected, match="http:tei serves BAAI/bge-m3, which is no reranker"):
        ask(reranker)
    assert rerank_server.received == []
    rerank_server.info = dict(TEI_INFO)
    assert len(ask(reranker)) == 2


def test_another_model_than_the_one_named_is_refused(ask: Ask, rerank_server: RerankServer, closing: Closing) -> None:
    rerank_server.info = {**TEI_INFO, "model_id": "/data/other"}
    reranker = closing(HttpReranker(dialect="tei", model="m", base_url=rerank_server.base("tei")))
    with pytest.raises(RequestRejected, match="http:tei:m serves /data/other; name that model, or leave model out"):
        ask(reranker)
    assert rerank_server.received == []


@pytest.mark.parametrize(
    ("info", "answer", "again"),
    [
        (Answer(404), "answered 404", False),
        (Answer(401), "answered 401", False),
        (Answer(307, {"location": "http://elsewhere.invalid"}, b""), "answered 307", False),
        (Answer(body="<html>hello</html>"), "answered 200", False),
        (Answer(body=b"[1]"), "answered 200", False),
        (Answer(200, {"content-encoding": "gzip"}, b"not packed"), "BadResponse", True),
        (Answer(503), "answered 503", True),
        (Drop(), "BackendUnavailable", True),
        (Drop(midway=False, reset=True), "BackendUnavailable", True),
        (Hang(), "BackendTimeout", True),
    ],
)
def test_a_server_that_says_nothing_gets_32_texts_at_most_and_the_trace_says_so(
    info: Any,
    answer: str,
    again: bool,
    reranker: HttpReranker,
    ask: Ask,
    rerank_server: RerankServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(http, "_INFO_SECONDS", 0.1)
    rerank_server.info = info
    ranking = ask(reranker, MANY)
    assert sizes(rerank_server) == [32, 32, 6]
    note = f"the server did not say what it serves (/info: {answer}); at most 32 texts go in a request"
    assert ranking.trace.notes[0] == note
    assert ranking.trace.model is None
    ranking = ask(reranker)
    assert ranking.trace.notes[0] == note
    assert len(rerank_server.info_requests) == (2 if again else 1)
    rerank_server.info = dict(TEI_INFO)
    assert bool(ask(reranker).trace.notes) is not again


@pytest.mark.parametrize("info", [{}, {"model_id": 7, "model_type": 7, "max_client_batch_size": -1}])
def test_the_defaults_hold_for_what_it_does_not_say(
    info: Any, reranker: HttpReranker, ask: Ask, rerank_server: RerankServer
) -> None:
    rerank_server.info = Answer(body=info)
    ranking = ask(reranker, MANY)
    assert sizes(rerank_server) == [32, 32, 6]
    assert (ranking.trace.model, len(ranking.trace.notes)) == (None, 1)


def test_texts_that_it_cuts_are_in_the_notes(ask: Ask, rerank_server: RerankServer, closing: Closing) -> None:
    texts = ("dragon " * 300, "dragon")
    base_url = rerank_server.base("tei")
    for more, expected in (
        ({}, ("by estimate 1 texts with the query are longer than 512 tokens, and TEI cuts them",)),
        ({"truncate": False}, ()),
    ):
        reranker = closing(HttpReranker(dialect="tei", base_url=base_url, extra_body=more))
        assert ask(reranker, texts).trace.notes == expected
    assert [request.body["truncate"] for request in rerank_server.received] == [True, False]


def test_many_first_callers_are_all_answered(reranker: HttpReranker, rerank_server: RerankServer) -> None:
    async def together() -> list[int]:
        return [len(r) for r in await asyncio.gather(*(reranker.arerank(QUERY, MANY) for _ in range(8)))]

    assert asyncio.run(together()) == [70] * 8
    assert set(sizes(rerank_server)) == {32, 6}


def test_nothing_at_all_is_sent_while_its_circuit_is_open(
    ask: Ask, rerank_server: RerankServer, closing: Closing
) -> None:
    rerank_server.info = Drop()
    rerank_server.then(Drop())
    guard = {"breaker": Breaker(failures=1), "retry": RetryPolicy(attempts=1)}
    reranker = closing(HttpReranker(dialect="tei", base_url=rerank_server.base("tei"), **guard))
    with pytest.raises(BackendUnavailable):
        ask(reranker)
    before = len(rerank_server.received), len(rerank_server.info_requests)
    with pytest.raises(CircuitOpen):
        ask(reranker)
    assert (len(rerank_server.received), len(rerank_server.info_requests)) == before
