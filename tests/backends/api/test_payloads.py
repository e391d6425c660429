"""Recorded and damaged answers, replayed over sockets: through the real SDKs, and in every dialect."""

from __future__ import annotations

import json
import re
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


FIGURES = ("tokens", "search_units", "cost")
FILES = {**{name: f"{name}.json" for name in DIALECTS}, "cohere": "cohere_gateways.json"}


@pytest.mark.filterwarnings("ignore::rag_rerank.SubstitutionWarning")  # given once; ``degraded`` is what counts
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
    model = {"model": answer["model"]} if "model" in answer else {}
    reranker = provider.reranker(rerank_server, retry=RetryPolicy(attempts=1), **model)
    expected = answer["expect"]
    if isinstance(expected, list):
        ranking = ask(reranker)
        assert {hit.text: hit.raw_score for hit in ranking} == dict(zip(TEXTS, expected, strict=True))
        assert [hit.rank for hit in ranking] == [1, 2]
        if "usage" in answer:
            figures = ranking.usage.to_dict()
            assert {name: figures[name] for name in FIGURES if figures[name] is not None} == answer["usage"]
        if "degraded" in answer:
            assert bool(ranking.degraded) == answer["degraded"]
    else:
        kind, _, words = expected.partition(": ")
        with pytest.raises(BackendError) as caught:
            ask(reranker)
        assert type(caught.value) is getattr(rag_rerank, kind), caught.value
        assert words in str(caught.value)
        assert str(caught.value).startswith(f"{provider.label}:{reranker.model} ")
    halved = not isinstance(expected, list) and expected.startswith("RequestTooLarge")
    assert [len(request.texts) for request in rerank_server.received] == ([2, 1] if halved else [2])


REQUESTS = {
    file.stem: json.loads(file.read_text(encoding="utf-8")).get("request")
    for file in sorted(PAYLOADS.glob("*.json"))
    if file.stem in DIALECTS
}


@pytest.mark.parametrize("name", [name for name, request in REQUESTS.items() if request])
def test_the_request_is_the_one_that_the_official_sdk_sends(name: str, ask: Ask, rerank_server: RerankServer) -> None:
    """Recorded from the SDK on 127.0.0.1, with the same query and texts."""
    recorded = REQUESTS[name]
    assert re.fullmatch(r"[\w-]+ \d[\w.]+", recorded["sdk"]), "the version of the SDK is noted"
    more = {"instruction": recorded["body"]["instruction"]} if "instruction" in recorded["body"] else {}
    ask(DIALECTS[name].reranker(rerank_server, model=recorded["body"]["model"], **more))
    (request,) = rerank_server.received
    assert (request.method, request.path, request.body) == (recorded["method"], recorded["path"], recorded["body"])
    for header in {*recorded["headers"]} - {"accept"}:
        assert request.headers[header] == recorded["headers"][header]


@pytest.mark.parametrize("file", sorted(PAYLOADS.glob("*.json")), ids=lambda file: file.stem)
def test_each_file_says_where_its_facts_come_from(file: Path) -> None:
    source = json.loads(file.read_text(encoding="utf-8")).get("source", "")
    if file.stem in NEW:
        assert re.match(r"\[[WDT]\] ", source)


NEW = {*DIALECTS} - {"cohere", "infinity", "jina", "llamacpp", "mixedbread", "nim", "tei", "vllm"} | {"bedrock"}
"""Dialects whose files mark their sources: [W] read in a package, [D] documentation, [T] a third party, [?] unknown."""
