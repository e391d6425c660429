"""CohereReranker: the contract, what it sends, and how it reads answers."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Iterator
from typing import Any

import cohere
import pytest
from support.api.providers import COHERE, KEY, QUERY, TEXTS, Ask
from support.api.rerank_server import Answer, RerankServer

from rag_rerank import BadResponse, Cached, ConfigError, RelevantSpan, Reranker, build, pack, to_config
from rag_rerank.backends.cohere import CohereReranker, RetryPolicy, SpanLimits
from rag_rerank.testing import RerankerContract

needs_spans = pytest.mark.skipif(
    "relevant_spans" not in inspect.signature(cohere.ClientV2.rerank).parameters,
    reason="the SDK knows relevant spans from 7.3 on",
)


class TestContract(RerankerContract):
    @pytest.fixture
    def reranker(self, rerank_server: RerankServer) -> Iterator[Reranker]:
        with CohereReranker(base_url=rerank_server.url, api_key=KEY) as reranker:
            yield reranker


def test_the_request_is_what_the_api_documents(ask: Ask, rerank_server: RerankServer) -> None:
    ask(COHERE.reranker(rerank_server))
    (request,) = rerank_server.received
    assert (request.method, request.path) == ("POST", "/v2/rerank")
    assert request.body == {"model": "rerank-v3.5", "query": QUERY, "documents": list(TEXTS)}
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert request.headers["content-type"] == "application/json"


def test_options_are_sent_only_when_they_are_set(ask: Ask, rerank_server: RerankServer) -> None:
    ask(COHERE.reranker(rerank_server, model="rerank-v4.0-pro", max_tokens_per_doc=8000, priority=3))
    (request,) = rerank_server.received
    assert request.body == {
        "model": "rerank-v4.0-pro",
        "query": QUERY,
        "documents": list(TEXTS),
        "max_tokens_per_doc": 8000,
        "priority": 3,
    }


def test_a_base_url_keeps_its_path_and_loses_its_slash(ask: Ask, rerank_server: RerankServer) -> None:
    reranker = COHERE.reranker(rerank_server, base_url=f"{rerank_server.url}/providers/cohere/")
    assert reranker.base_url == f"{rerank_server.url}/providers/cohere"
    assert len(ask(reranker)) == 2
    assert rerank_server.received[0].path == "/providers/cohere/v2/rerank"


def test_the_usual_variable_for_the_url_is_read_when_it_is_needed(
    rerank_server: RerankServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CO_API_URL", rerank_server.url)
    with CohereReranker(api_key=KEY) as reranker:
        assert len(reranker.rerank(QUERY, TEXTS)) == 2


@pytest.mark.parametrize(
    ("meta", "search_units", "tokens"),
    [
        ({"billed_units": {"search_units": 2}}, 2.0, None),
        ({"billed_units": {"input_tokens": 61}, "tokens": {"input_tokens": 70}}, None, 61),
        ({"tokens": {"input_tokens": 61}}, None, 61),
        ({"billed_units": {"search_units": "two"}}, None, None),
        ({}, None, None),
        (None, None, None),
    ],
)
def test_usage_is_what_was_billed_and_nothing_else(
    meta: Any, search_units: float | None, tokens: int | None, ask: Ask, rerank_server: RerankServer
) -> None:
    rows = [{"index": 0, "relevance_score": 0.5}, {"index": 1, "relevance_score": 0.4}]
    rerank_server.then(Answer(body={"results": rows} if meta is None else {"results": rows, "meta": meta}))
    usage = ask(COHERE.reranker(rerank_server)).usage
    assert (usage.search_units, usage.tokens) == (search_units, tokens)
    assert (usage.texts, usage.requests, usage.estimated) == (2, 1, ())


def test_the_providers_warnings_are_in_the_trace(ask: Ask, rerank_server: RerankServer) -> None:
    rows = [{"index": 0, "relevance_score": 0.5}, {"index": 1, "relevance_score": 0.4}]
    warnings = ["model is deprecated", f"odd text: {TEXTS[0]}"]
    rerank_server.then(Answer(body={"results": rows, "meta": {"warnings": warnings}}))
    assert ask(COHERE.reranker(rerank_server)).trace.notes == (
        "model is deprecated",
        "its message repeats the request and is left out",
    )


def test_texts_longer_than_the_limit_are_noted(ask: Ask, rerank_server: RerankServer) -> None:
    texts = ("dragon " * 3000, "dragon")
    assert ask(COHERE.reranker(rerank_server), texts).trace.notes == (
        "by estimate 1 texts are longer than 4096 tokens, and Cohere reads no more of each",
    )
    assert ask(COHERE.reranker(rerank_server, max_tokens_per_doc=8000), texts).trace.notes == ()


@needs_spans
def test_relevant_spans_are_asked_for_only_by_choice(ask: Ask, rerank_server: RerankServer) -> None:
    for option, sent in (
        (True, {"mode": "enabled"}),
        (SpanLimits(threshold=0.3, max_spans=2), {"mode": "enabled", "threshold": 0.3, "max_spans": 2}),
    ):
        ask(COHERE.reranker(rerank_server, relevant_spans=option))
        assert rerank_server.received[-1].body["relevant_spans"] == sent
    ask(COHERE.reranker(rerank_server))
    assert "relevant_spans" not in rerank_server.received[-1].body


def answer_with_spans(*spans: Any) -> Answer:
    """An answer whose first text has these relevant spans; ``None`` for a result without the field."""
    row: dict[str, Any] = {"index": 0, "relevance_score": 0.9}
    if spans != (None,):
        row["relevant_spans"] = [
            dict(zip(("start", "end", "score"), span, strict=True)) if isinstance(span, tuple) else span
            for span in spans
        ]
    return Answer(body={"results": [row, {"index": 1, "relevance_score": 0.1}]})


@needs_spans
def test_relevant_spans_are_places_in_code_points_and_those_of_other_texts_are_none(
    ask: Ask, rerank_server: RerankServer
) -> None:
    text = "\U0001f98e Warm it. e\u0301 Cold.\r\nForty degrees."
    rerank_server.then(answer_with_spans((21, 35, 0.8), (2, 10, 0.7)))  # the most relevant first
    first, second = ask(COHERE.reranker(rerank_server, relevant_spans=True), (text, "Cranes."))
    assert first.spans == (
        RelevantSpan(2, 10, 0.7, 0.7, is_relevant=True),
        RelevantSpan(21, 35, 0.8, 0.8, is_relevant=True),
    )
    assert [text[span.start : span.end] for span in first.spans] == ["Warm it.", "Forty degrees."]
    assert second.spans == ()  # asked for, and nothing was found


@needs_spans
def test_the_places_are_those_of_the_text_as_the_caller_gave_it(ask: Ask, rerank_server: RerankServer) -> None:
    text = "\ud83e\udd8e Warm it."  # a surrogate pair goes out as one character
    rerank_server.then(answer_with_spans((2, 10, 0.7)))
    (span,) = ask(COHERE.reranker(rerank_server, relevant_spans=True), (text, "Cranes."))[0].spans or ()
    assert text[span.start : span.end] == "Warm it."


@needs_spans
def test_an_answer_without_any_spans_says_nothing_of_any_text(ask: Ask, rerank_server: RerankServer) -> None:
    rerank_server.then(answer_with_spans(None))
    ranking = ask(COHERE.reranker(rerank_server, relevant_spans=True))
    assert [hit.spans for hit in ranking] == [None, None]
    assert "gave no relevant span" in ranking.degraded[0]
    assert len(pack(ranking, trim="relevant").pieces) == 2  # kept whole
    rerank_server.then(answer_with_spans(None))
    assert ask(COHERE.reranker(rerank_server)).degraded == ()
    rerank_server.then(answer_with_spans((0, 4, 0.5)))
    assert [hit.spans for hit in ask(COHERE.reranker(rerank_server))] == [None, None]  # not asked for, not read


@needs_spans
def test_spans_that_overlap_become_one(ask: Ask, rerank_server: RerankServer) -> None:
    rerank_server.then(answer_with_spans((6, 12, 0.9), (0, 8, 0.5), (12, 14, 0.3)))
    assert ask(COHERE.reranker(rerank_server, relevant_spans=True))[0].spans == (
        RelevantSpan(0, 12, 0.9, 0.9, is_relevant=True),
        RelevantSpan(12, 14, 0.3, 0.3, is_relevant=True),
    )


@needs_spans
@pytest.mark.parametrize(
    "span",
    [
        (0, len(TEXTS[0]) + 1, 0.5),
        (-1, 4, 0.5),
        (4, 4, 0.5),
        (5, 4, 0.5),
        (0, None, 0.5),
        (0, 4, 1.5),
        (0, 4, None),
        "0-4",
    ],
)
def test_a_span_that_cannot_be_is_a_bad_response(span: Any, ask: Ask, rerank_server: RerankServer) -> None:
    for _ in range(3):
        rerank_server.then(answer_with_spans(span))
    with pytest.raises(BadResponse, match="relevant span of text 0"):
        ask(COHERE.reranker(rerank_server, relevant_spans=True))


@needs_spans
def test_the_spans_of_several_requests_are_put_together(rerank_server: RerankServer) -> None:
    class TwoATime(CohereReranker):
        most_texts = 2

    rerank_server.then(answer_with_spans((0, 3, 0.9)), answer_with_spans(None))
    ranking = TwoATime(base_url=rerank_server.url, api_key=KEY, relevant_spans=True).rerank(QUERY, ["abcd"] * 4)
    assert {hit.id: hit.spans for hit in ranking} == {
        "0": (RelevantSpan(0, 3, 0.9, 0.9, is_relevant=True),),
        "1": (),
        "2": None,
        "3": None,
    }
    assert "2 of 4 texts" in ranking.degraded[0]


@needs_spans
def test_a_cache_keeps_the_spans(ask: Ask, rerank_server: RerankServer) -> None:
    rerank_server.then(answer_with_spans((0, 3, 0.9)))
    cached = Cached(reranker=COHERE.reranker(rerank_server, relevant_spans=True))
    first, second = ask(cached), ask(cached)
    assert [hit.spans for hit in second] == [hit.spans for hit in first]
    assert len(rerank_server.received) == 1


def test_an_sdk_that_does_not_know_spans_is_named(ask: Ask) -> None:
    class Old:  # version 5.21
        def rerank(
            self, *, model: str, query: str, documents: Any, top_n: Any = None, request_options: Any = None
        ) -> Any:
            raise AssertionError("nothing is sent")

    with pytest.raises(ConfigError, match=r"relevant_spans: .*version 7\.3 or later"):
        ask(CohereReranker(client=Old(), relevant_spans=True))


def test_one_client_serves_an_event_loop_and_closes_with_it(rerank_server: RerankServer) -> None:
    import cohere

    clients: list[Any] = []

    class Reranker(CohereReranker):
        def _new_async_client(self) -> Any:
            clients.append(super()._new_async_client())
            return clients[-1]

    reranker = Reranker(base_url=rerank_server.url, api_key=KEY)

    async def ask_often() -> bool:
        await asyncio.gather(*(reranker.arerank(QUERY, TEXTS) for _ in range(8)))
        return bool(clients[-1]._client_wrapper.httpx_client.httpx_client.is_closed)

    for loops in (1, 2):
        assert asyncio.run(ask_often()) is False
        assert len(clients) == loops
        assert isinstance(clients[-1], cohere.AsyncClientV2)
        assert clients[-1]._client_wrapper.httpx_client.httpx_client.is_closed


def test_an_own_client_closes_with_its_reranker(rerank_server: RerankServer) -> None:
    reranker = CohereReranker(base_url=rerank_server.url, api_key=KEY)
    reranker.rerank(QUERY, TEXTS)
    client = reranker._client._client_wrapper.httpx_client.httpx_client
    assert not client.is_closed
    del reranker
    assert client.is_closed


def test_its_config_round_trips() -> None:
    node = {
        "type": "cohere",
        "model": "rerank-v4.0-fast",
        "api_key": "${MY_KEY}",
        "base_url": "https://example.org/cohere",
        "timeout": 3.0,
        "max_tokens_per_doc": 512,
        "relevant_spans": {"threshold": 0.25, "max_spans": 3},
        "retry": {"attempts": 5, "budget": 12.0},
    }
    reranker = build(node)
    assert isinstance(reranker, CohereReranker)
    assert reranker.retry == RetryPolicy(attempts=5, budget=12.0)
    assert to_config(reranker) == node
    assert build("cohere:rerank-v4.0-fast").label == "cohere:rerank-v4.0-fast"


@pytest.mark.parametrize(
    ("wrong", "path"),
    [
        ({"max_tokens_per_doc": 0}, "max_tokens_per_doc"),
        ({"retry": {"attempts": 0}}, "retry.attempts"),
        ({"retry": {"tries": 3}}, "retry"),
        ({"relevant_spans": {"threshold": 1.5}}, "relevant_spans.threshold"),
        ({"relevant_spans": {"max_spans": 0}}, "relevant_spans.max_spans"),
        ({"relevant_spans": "enabled"}, "relevant_spans"),
        ({"timeout": 0.0}, "timeout"),
        ({"timeout": float("inf")}, "timeout"),
        ({"model": ""}, "model"),
        ({"base_url": "api.cohere.com"}, "base_url"),
        ({"base_url": "ftp://example.org"}, "base_url"),
        ({"base_url": "https://user:password@example.org"}, "base_url"),
        ({"client": object()}, ""),
    ],
)
def test_a_wrong_setting_is_an_error_that_names_its_place(wrong: dict[str, Any], path: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build({"type": "cohere", **wrong})
    assert caught.value.path == path
    assert "password" not in str(caught.value) or "must not hold" in str(caught.value)
