"""Recorded and damaged answers, replayed over sockets: through the real SDKs, and in every dialect."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.api.providers import COHERE, DIALECTS, TEXTS, VOYAGE, Ask, Provider
from support.api.rerank_server import Answer, RerankServer

import rag_rerank
from rag_rerank import BackendError
from rag_rerank.backends.api.retry import RetryPolicy

PAYLOADS = Path(__file__).parent / "payloads"


def cases(provider: Provider, file: str) -> list[Any]:
    answers = json.loads((PAYLOADS / file).read_text(encoding="utf-8"))["answers"]
    return [pytest.param(provider, answer, id=f"{provider.label}-{answer['name']}") for answer in answers]


FILES = {**{name: f"{name}.json" for name in DIALECTS}, "cohere": "cohere_gateways.json"}


@pytest.mark.parametrize(
    ("provider", "answer"),
    cases(COHERE, "cohere_v2.json")
    + cases(VOYAGE, "voyage_v1.json")
    + [case for name, provider in DIALECTS.items() for case in cases(provider, FILES[name])],
    indirect=False,
)
def test_each_answer_gives_its_scores_or_its_error(
    provider: Provider, answer: dict[str, Any], ask: Ask, rerank_server: RerankServer
) -> None:
    body = answer["body"] if isinstance(answer["body"], (str, bytes)) else json.dumps(answer["body"])
    rerank_server.rule = lambda request: Answer(answer["status"], answer["headers"], body)
    reranker = provider.reranker(rerank_server, retry=RetryPolicy(attempts=1))
    expected = answer["expect"]
    if isinstance(expected, list):
        ranking = ask(reranker)
        assert {hit.text: hit.raw_score for hit in ranking} == dict(zip(TEXTS, expected, strict=True))
        assert [hit.rank for hit in ranking] == [1, 2]
    else:
        kind, _, words = expected.partition(": ")
        with pytest.raises(BackendError) as caught:
            ask(reranker)
        assert type(caught.value) is getattr(rag_rerank, kind), caught.value
        assert words in str(caught.value)
        assert str(caught.value).startswith(f"{provider.label}:{reranker.model} ")
    halved = not isinstance(expected, list) and expected.startswith("RequestTooLarge")
    assert [len(request.texts) for request in rerank_server.received] == ([2, 1] if halved else [2])
