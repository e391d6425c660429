"""VoyageReranker: the contract, what it sends, and how it reads answers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from support.api.providers import KEY, QUERY, TEXTS, VOYAGE, Ask
from support.api.rerank_server import Answer, RerankServer
from support.api.wire_formats import tokens

from rag_rerank import AuthenticationError, Reranker, build, to_config
from rag_rerank.backends.voyage import VoyageReranker
from rag_rerank.execution.instruction import call_instruction
from rag_rerank.testing import RerankerContract


class TestContract(RerankerContract):
    @pytest.fixture
    def reranker(self, rerank_server: RerankServer) -> Iterator[Reranker]:
        with VoyageReranker(base_url=rerank_server.voyage_url, api_key=KEY) as reranker:
            yield reranker


def test_the_request_is_what_the_api_documents(ask: Ask, rerank_server: RerankServer) -> None:
    ask(VOYAGE.reranker(rerank_server))
    (request,) = rerank_server.received
    assert (request.method, request.path) == ("POST", "/v1/rerank")
    assert request.body == {
        "query": QUERY,
        "documents": list(TEXTS),
        "model": "rerank-2.5",
        "top_k": None,
        "truncation": True,
    }
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert request.headers["content-type"] == "application/json"


def test_options_are_sent(ask: Ask, rerank_server: RerankServer) -> None:
    ask(VOYAGE.reranker(rerank_server, model="rerank-2.5-lite", truncation=False))
    (request,) = rerank_server.received
    assert (request.body["model"], request.body["truncation"]) == ("rerank-2.5-lite", False)


def test_an_instruction_stands_before_the_query_and_is_billed_with_it(ask: Ask, rerank_server: RerankServer) -> None:
    reranker = VOYAGE.reranker(rerank_server, instruction="Prefer lizards.")
    ask(reranker)
    with call_instruction("Prefer {birds}."):
        ask(reranker)
    ask(VOYAGE.reranker(rerank_server))
    assert [request.body["query"] for request in rerank_server.received] == [
        f"Prefer lizards.\nQuery: {QUERY}",
        f"Prefer {{birds}}.\nQuery: {QUERY}",
        QUERY,
    ]
    assert all("instruction" not in request.body for request in rerank_server.received)
    plain = VOYAGE.reranker(rerank_server).estimate(QUERY, TEXTS).tokens
    assert plain is not None
    assert reranker.estimate(QUERY, TEXTS).tokens == plain + 2 * 5  # a quarter of the bytes, for each text


def test_a_slash_behind_the_base_url_does_no_harm(ask: Ask, rerank_server: RerankServer) -> None:
    ask(VOYAGE.reranker(rerank_server, base_url=f"{rerank_server.url}/proxy/v1/"))
    assert rerank_server.received[0].path == "/proxy/v1/rerank"


def test_usage_is_what_was_billed(ask: Ask, rerank_server: RerankServer) -> None:
    usage = ask(VOYAGE.reranker(rerank_server)).usage
    assert (usage.tokens, usage.estimated) == (tokens(QUERY, TEXTS), ())
    assert (usage.texts, usage.requests, usage.search_units) == (2, 1, None)


@pytest.mark.parametrize("bill", [{}, {"usage": None}, {"usage": {"total_tokens": "many"}}, {"usage": [1]}])
def test_usage_without_a_bill_is_marked_as_estimated(bill: Any, ask: Ask, rerank_server: RerankServer) -> None:
    rows = [{"index": 0, "relevance_score": 0.5}, {"index": 1, "relevance_score": 0.4}]
    rerank_server.then(Answer(body={"data": rows, **bill}))
    usage = ask(VOYAGE.reranker(rerank_server)).usage
    assert usage.estimated == ("tokens",)
    assert usage.tokens == 2 * 11 + 15 + 17  # a quarter of the bytes, rounded up; the query counts for each text


def test_texts_longer_than_the_window_are_noted(ask: Ask, rerank_server: RerankServer) -> None:
    texts = ("dragon " * 3000, "dragon")
    reranker = VOYAGE.reranker(rerank_server, model="rerank-lite-1")
    assert ask(reranker, texts).trace.notes == (
        "by estimate 1 texts with the query are longer than 4000 tokens, and Voyage cuts them",
    )
    assert ask(VOYAGE.reranker(rerank_server), texts).trace.notes == ()
    assert ask(VOYAGE.reranker(rerank_server, model="rerank-lite-1", truncation=False), texts).trace.notes == ()


def test_one_session_serves_an_event_loop_and_closes_with_it(rerank_server: RerankServer) -> None:
    reranker = VoyageReranker(base_url=rerank_server.voyage_url, api_key=KEY)

    async def ask_often() -> Any:
        await asyncio.gather(*(reranker.arerank(QUERY, TEXTS) for _ in range(8)))
        session = await reranker._session.get()
        await reranker.arerank(QUERY, TEXTS)
        assert session is await reranker._session.get()
        assert not session.closed
        return session

    assert asyncio.run(ask_often()).closed
    assert asyncio.run(ask_often()).closed


def test_a_session_of_the_users_is_used_and_left_open(rerank_server: RerankServer) -> None:
    import aiohttp
    import voyageai

    async def ask_with_own_session() -> None:
        async with aiohttp.ClientSession(headers={"x-mine": "yes"}) as session:
            before = voyageai.aiosession.set(session)
            await VoyageReranker(base_url=rerank_server.voyage_url, api_key=KEY).arerank(QUERY, TEXTS)
            assert voyageai.aiosession.get() is session
            assert not session.closed
            voyageai.aiosession.reset(before)

    asyncio.run(ask_with_own_session())
    assert rerank_server.received[0].headers["x-mine"] == "yes"


def test_the_file_that_the_sdk_would_read_a_key_from_does_not_win(
    ask: Ask, rerank_server: RerankServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    (tmp_path / "key").write_text("from-file")
    monkeypatch.setenv("VOYAGE_API_KEY_PATH", str(tmp_path / "key"))
    ask(VOYAGE.reranker(rerank_server))
    assert rerank_server.received[0].headers["authorization"] == f"Bearer {KEY}"
    with pytest.raises(AuthenticationError):
        ask(VOYAGE.reranker(rerank_server, api_key=None))


def test_its_config_round_trips() -> None:
    node = {
        "type": "voyage",
        "model": "rerank-2",
        "api_key": "${MY_KEY}",
        "truncation": False,
        "retry": {"first_wait": 0.1},
    }
    assert to_config(build(node)) == node
    assert to_config(build("voyage")) == {"type": "voyage", "model": "rerank-2.5"}
