"""The address that a reranker says it sends requests to is the one at which a request arrives."""

from __future__ import annotations

import pytest
from support.api.rerank_server import RerankServer

import rag_rerank
from rag_rerank.backends.api.base import ApiReranker

KEY = "key-0123456789"


@pytest.mark.parametrize("name", ["cohere", "voyage", "tei", "jina", "vllm"])
def test_requests_arrive_at_the_endpoint(rerank_server: RerankServer, name: str) -> None:
    urls = {"cohere": rerank_server.url, "voyage": rerank_server.voyage_url}
    url = urls.get(name) or rerank_server.base(name)
    models = {"jina": "jina-reranker-v3", "vllm": "BAAI/bge-reranker-v2-m3"}
    node = {"type": name, "base_url": url, "api_key": KEY}
    with rag_rerank.build(node | ({"model": models[name]} if name in models else {})) as reranker:
        assert isinstance(reranker, ApiReranker)
        reranker.rerank("query", ["a text"])
        assert [rerank_server.url + request.path for request in rerank_server.received] == [reranker.endpoint]


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("cohere", "https://api.cohere.com/v2/rerank"),
        ("llm:gpt-4o-mini", "https://api.openai.com/v1/chat/completions"),
        ({"type": "llm", "model": "m", "base_url": "http://gpu:8000/v1"}, "http://gpu:8000/v1/chat/completions"),
        ({"type": "voyage", "api_key": "pa-0123456789"}, "https://api.voyageai.com/v1/rerank"),
        ({"type": "voyage", "api_key": "al-0123456789"}, "https://ai.mongodb.com/v1/rerank"),
    ],
    ids=["cohere", "openai", "another server", "voyage", "voyage at mongodb"],
)
def test_the_providers_own_endpoints(spec: object, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CO_API_URL", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    reranker = rag_rerank.build(spec)  # type: ignore[arg-type]
    assert isinstance(reranker, ApiReranker) and reranker.endpoint == expected
