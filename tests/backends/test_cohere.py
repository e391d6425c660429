"""CohereReranker: the contract, what it sends, and how it reads answers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from support.api.providers import COHERE, KEY, QUERY, TEXTS, Ask
from support.api.rerank_server import Answer, RerankServer

from rag_rerank import ConfigError, Reranker, build, to_config
from rag_rerank.backends.cohere import CohereReranker, RetryPolicy
from rag_rerank.testing import RerankerContract


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


def test_one_client_serves_an_event_loop_and_closes_with_it(rerank_server: RerankServer) -> None:
    import cohere

    clients: list[Any] = []

    class Reranker(CohereReranker):
        def _new_client(self, kind: str) -> Any:
            clients.append(super()._new_client(kind))
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
