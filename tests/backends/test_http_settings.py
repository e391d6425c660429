"""HttpReranker: its clients, and its settings."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from support.api.providers import KEY, QUERY, TEXTS
from support.api.rerank_server import Answer, RerankServer

from rag_rerank import Cached, ConfigError, RequestRejected, build, to_config
from rag_rerank.backends.http import HttpReranker


def test_injected_clients_bring_connections_but_no_keys_or_rules(rerank_server: RerankServer) -> None:
    import httpx

    async def aask(reranker: HttpReranker) -> int:
        async with httpx.AsyncClient(follow_redirects=True) as client:
            return len(await build_with(async_client=client).arerank(QUERY, TEXTS))

    def build_with(**clients: Any) -> HttpReranker:
        return HttpReranker(dialect="vllm", base_url=rerank_server.base("vllm"), api_key=KEY, **clients)

    mine = {"headers": {"x-mine": "yes"}, "auth": ("user", "password"), "follow_redirects": True, "timeout": 0.001}
    with httpx.Client(**mine) as client:
        reranker = build_with(client=client)
        assert len(reranker.rerank(QUERY, TEXTS)) == 2
        rerank_server.then(Answer(307, {"location": "/vllm/rerank"}, b""))
        with pytest.raises(RequestRejected, match="redirects are not followed"):
            reranker.rerank(QUERY, TEXTS)
        reranker.close()
        assert not client.is_closed
        assert len(asyncio.run(reranker.arerank(QUERY, TEXTS))) == 2
    assert {request.headers["authorization"] for request in rerank_server.received} == {f"Bearer {KEY}"}
    assert {request.headers["x-mine"] for request in rerank_server.received} == {"yes"}
    assert asyncio.run(aask(reranker)) == 2
    with pytest.raises(ConfigError, match="async_client only"):
        build_with(async_client=object()).rerank(QUERY, TEXTS)


def test_async_calls_use_an_injected_client_alone_too(rerank_server: RerankServer) -> None:
    import httpx

    with httpx.Client(headers={"x-mine": "yes"}) as client:
        reranker = HttpReranker(dialect="tei", base_url=rerank_server.base("tei"), client=client)
        assert len(asyncio.run(reranker.arerank(QUERY, TEXTS))) == 2
    requests = [*rerank_server.info_requests, *rerank_server.received]
    assert [request.headers.get("x-mine") for request in requests] == ["yes"] * 2


def test_one_client_serves_an_event_loop_and_closes_with_it(rerank_server: RerankServer) -> None:
    reranker = HttpReranker(dialect="vllm", base_url=rerank_server.base("vllm"))

    async def ask_often() -> Any:
        await asyncio.gather(*(reranker.arerank(QUERY, TEXTS) for _ in range(8)))
        client = await reranker._async_client.get()
        assert not client.is_closed
        return client

    assert asyncio.run(ask_often()).is_closed
    assert asyncio.run(ask_often()).is_closed


def test_an_own_client_closes_with_its_reranker(rerank_server: RerankServer) -> None:
    reranker = HttpReranker(dialect="vllm", base_url=rerank_server.base("vllm"))
    reranker.rerank(QUERY, TEXTS)
    client = reranker._client
    assert not client.is_closed
    del reranker
    assert client.is_closed


def test_its_config_round_trips() -> None:
    node = {
        "type": "http",
        "dialect": "vllm",
        "model": "BAAI/bge-reranker-v2-m3",
        "api_key": "${MY_KEY}",
        "base_url": "http://gpu-box:8000",
        "path": "/v1/rerank",
        "answers_on": "sigmoid",
        "extra_body": {"use_activation": False},
        "max_texts": 100,
    }
    assert to_config(build(node)) == node
    small = {"type": "http", "dialect": "tei", "base_url": "http://gpu-box:8080"}
    assert to_config(build(small)) == small
    assert build(small).label == "http:tei"
    assert build({"type": "http:jina-reranker-v2-base-multilingual", "dialect": "jina"}).label == (
        "http:jina:jina-reranker-v2-base-multilingual"
    )


@pytest.mark.parametrize(
    ("wrong", "path", "words"),
    [
        ({"dialect": "tie"}, "dialect", "tei"),
        ({"base_url": None}, "base_url", "needs base_url: where your server is"),
        ({"dialect": "nim"}, "model", "needs a model"),
        ({"path": "rerank"}, "path", "must start with /"),
        ({"answers_on": "logit"}, "answers_on", "sigmoid"),
        ({"max_texts": 0}, "max_texts", "at least 1"),
        ({"extra_body": {"texts": []}}, "extra_body", "texts cannot be set"),
        ({"extra_body": {"top_n": 3}}, "extra_body", "top_n cannot be set"),
        ({"extra_body": {"raw_scores": False}}, "extra_body", "raw_scores cannot be set"),
        ({"extra_body": {"x": float("nan")}}, "extra_body", "JSON cannot hold it"),
        ({"extra_body": {"x": {1}}}, "extra_body", "JSON cannot hold it"),
        ({"base_url": "http://gpu-box:8080?key=s3cret"}, "base_url", "nothing may follow"),
        ({"base_url": "http://gpu-box:80800"}, "base_url", "no valid host or port"),
        ({"base_url": "http://[::1:8080"}, "base_url", "no valid host or port"),
        ({"client": object(), "timeout": 0.0}, "timeout", "more than 0"),
    ],
)
def test_a_wrong_setting_is_an_error_that_names_its_place(wrong: dict[str, Any], path: str, words: str) -> None:
    options = {"dialect": "tei", "base_url": "http://gpu-box:8080", **wrong}
    with pytest.raises(ConfigError, match=words) as caught:
        HttpReranker(**options)
    assert caught.value.path == path
    assert "s3cret" not in str(caught.value)
    if "client" not in wrong:
        with pytest.raises(ConfigError) as caught:
            build({"type": "http", **options})
        assert caught.value.path == path


def test_a_dialect_must_be_named() -> None:
    with pytest.raises(ConfigError, match="type 'http' needs 'dialect'"):
        build("http:BAAI/bge-reranker-v2-m3")


def test_a_model_that_reads_all_texts_together_gives_cosines_and_is_not_cached() -> None:
    reranker = HttpReranker(dialect="jina", model="jina-reranker-v3")
    assert reranker.scale == "similarity"
    with pytest.raises(ConfigError, match="reads the texts of a request together"):
        Cached(reranker=reranker)
    assert Cached(reranker=HttpReranker(dialect="jina", model="jina-reranker-v2-base-multilingual"))
    with pytest.raises(ConfigError, match="no model is named"):
        Cached(reranker=HttpReranker(dialect="tei", base_url="http://gpu-box:8080"))
