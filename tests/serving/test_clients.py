"""Clients that others wrote, and our own backends, get the order and the numbers of the reranker that is served."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator
from typing import Any

import pytest
from support.served import served

from rag_rerank import build
from rag_rerank.serving import ServerSettings
from rag_rerank.testing import ScriptedReranker

QUERY = "how tall is K2?"
TEXTS = ["Lake Garda is 346 m deep.", "K2 is 8,611 m high.", "K2 was first climbed in 1954.", "größer 温度"]
LOGITS = dict(zip(TEXTS, (-2.0, 2.0, 1.0, -1.0), strict=True))
SCORES = {text: 1 / (1 + math.exp(-logit)) for text, logit in LOGITS.items()}
ORDER = [1, 2, 3, 0]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    reranker = ScriptedReranker(by_text=LOGITS, answers_on="sigmoid")
    with served(reranker, ServerSettings(model_names=("any",))) as address:
        yield address


def check(rows: list[tuple[int, float]], top_k: int = len(TEXTS)) -> None:
    assert rows == [(i, pytest.approx(SCORES[TEXTS[i]], abs=1e-15)) for i in ORDER[:top_k]]


def test_coheres_sdk(url: str) -> None:
    import cohere

    with cohere.ClientV2(api_key="k", base_url=url) as client:
        answer = client.rerank(model="any", query=QUERY, documents=TEXTS, top_n=3)
    check([(row.index, row.relevance_score) for row in answer.results], 3)
    assert answer.meta is not None and answer.meta.api_version is not None


def test_coheres_sdk_of_version_1_with_objects(url: str) -> None:
    import cohere

    documents: list[Any] = [{"text": text} for text in TEXTS]
    with cohere.Client(api_key="k", base_url=url) as client:
        answer = client.rerank(query=QUERY, documents=documents, return_documents=True)
    check([(row.index, row.relevance_score) for row in answer.results])
    assert [row.document.text for row in answer.results if row.document] == [TEXTS[i] for i in ORDER]


def test_coheres_sdk_on_an_event_loop(url: str) -> None:
    import cohere

    async def ask() -> Any:
        async with cohere.AsyncClientV2(api_key="k", base_url=url) as client:
            return await client.rerank(model="any", query=QUERY, documents=TEXTS)

    check([(row.index, row.relevance_score) for row in asyncio.run(ask()).results])


def test_voyages_sdk(url: str) -> None:
    import voyageai

    client: Any = voyageai.Client(api_key="k", base_url=f"{url}/v1")
    answer = client.rerank(query=QUERY, documents=TEXTS, model="any", top_k=2)
    check([(row.index, row.relevance_score) for row in answer.results], 2)
    assert [row.document for row in answer.results] == [TEXTS[1], TEXTS[2]]


@pytest.mark.parametrize("name", ["tei", "vllm:any", "jina:any", "mixedbread:any", "infinity:any", "cohere:any"])
def test_our_own_backends(url: str, name: str) -> None:
    keyless = name.partition(":")[0] in ("tei", "vllm", "infinity")
    with build(name, base_url=url, **({} if keyless else {"api_key": "k"})) as reranker:
        ranking = reranker.rerank(QUERY, TEXTS)
    assert not ranking.degraded
    check([(int(hit.id), hit.score) for hit in ranking])


def test_open_webuis_request(url: str) -> None:
    import httpx

    body = {"model": "any", "query": QUERY, "documents": TEXTS, "top_n": len(TEXTS)}
    answer = httpx.post(f"{url}/v1/rerank", json=body, headers={"Authorization": "Bearer k"}).json()
    check([(row["index"], row["relevance_score"]) for row in answer["results"]])


def test_a_client_of_text_embeddings_inference(url: str) -> None:
    import httpx

    body = {"query": QUERY, "texts": TEXTS, "raw_scores": False, "return_text": True, "truncate": True}
    answer = httpx.post(f"{url}/rerank", json=body).json()
    check([(row["index"], row["score"]) for row in answer])
    assert [row["text"] for row in answer] == [TEXTS[i] for i in ORDER]
