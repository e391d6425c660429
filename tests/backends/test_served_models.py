"""Which model answers, and where it is asked.

The answers are those of Infinity 0.0.78 and vLLM 0.32.0; llama.cpp's are from its source.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.api.limiter_clock import ManualClock
from support.api.providers import QUERY, TEXTS, Ask
from support.api.rerank_server import Answer, Received, RerankServer
from support.api.wire_formats import MODELS

from rag_rerank import (
    Cached,
    SubstitutionWarning,
)
from rag_rerank.backends.http import HttpReranker

Make = Callable[..., HttpReranker]


def texts(count: int) -> tuple[str, ...]:
    return tuple(f"text {i} of a {'warm ' * (i % 5)}dragon" for i in range(count))


def rows(*values: float) -> Answer:
    return Answer(body={"results": [{"index": i, "relevance_score": v} for i, v in enumerate(values)]})


# which model answers


@pytest.mark.parametrize("service", ["infinity", "vllm", "jina", "mixedbread"])
def test_another_model_in_the_answer_is_reported(
    service: str, make: Make, ask: Ask, rerank_server: RerankServer
) -> None:
    def other_model(request: Received) -> Answer:
        body = request.shape.reply(request.body, list)
        return Answer(body={**body, "model": "org/other-reranker"})

    rerank_server.rule = other_model
    reranker = make(service, model="BAAI/bge-reranker-base")
    with pytest.warns(SubstitutionWarning, match="'BAAI/bge-reranker-base'.*'org/other-reranker'"):
        ranking = ask(reranker)
    assert "'org/other-reranker'" in ranking.degraded[0]
    assert ranking.degraded[0] in ranking.trace.notes
    assert len(ranking) == 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # one warning a reranker
        assert ask(reranker).degraded == ranking.degraded


def test_infinity_with_one_engine_answers_to_any_name(make: Make, ask: Ask, rerank_server: RerankServer) -> None:
    rerank_server.rule = lambda request: Answer(body={**request.shape.reply(request.body, list), "model": "m"})
    with pytest.warns(SubstitutionWarning):
        ranking = ask(make("infinity", model="BAAI/bge-reranker-v2-m3"))
    assert ranking.trace.model == "m"
    assert len(ranking.degraded) == 1


def test_a_server_that_repeats_the_name_is_asked_what_it_serves(
    make: Make, ask: Ask, rerank_server: RerankServer
) -> None:
    reranker = make("llamacpp", model="bge-reranker-v2-m3")
    rerank_server.models["llamacpp"]["data"][0]["id"] = "/models/bge-reranker-v2-m3-Q8_0.gguf"
    assert ask(reranker).degraded == ()
    assert [request.path for request in rerank_server.info_requests] == ["/llamacpp/v1/models"]
    rerank_server.models["llamacpp"]["data"][0]["id"] = "/models/qwen3-reranker-0.6b.gguf"
    with pytest.warns(SubstitutionWarning, match=r"qwen3-reranker-0\.6b"):
        assert ask(make("llamacpp", model="bge-reranker-v2-m3")).degraded


@pytest.mark.parametrize(
    "answer",
    [
        "BAAI/BGE-reranker-base",
        "bge-reranker-base",
        "/models/bge-reranker-base/",
        "hosted_vllm/BAAI/bge-reranker-base",
        "/srv/hub/models--BAAI--bge-reranker-base/snapshots/2cfc18c9",
        None,
        "",
        7,
    ],
)
def test_another_spelling_is_no_other_model(answer: Any, make: Make, ask: Ask, rerank_server: RerankServer) -> None:
    rerank_server.rule = lambda request: Answer(body={**request.shape.reply(request.body, list), "model": answer})
    assert ask(make("vllm", model="BAAI/bge-reranker-base")).degraded == ()


@pytest.mark.parametrize("dialect", ["infinity", "llamacpp", "vllm"])
def test_it_is_asked_once_and_says_nothing_where_there_is_no_list(
    dialect: str, make: Make, ask: Ask, rerank_server: RerankServer
) -> None:
    for answer in (Answer(404), Answer(body="<html></html>"), {"data": 7}, {"data": [{"id": 7}, 3]}, [], Answer(401)):
        rerank_server.models[dialect] = answer if isinstance(answer, (dict, Answer)) else Answer(body=answer)
        rerank_server.info_requests.clear()
        reranker = make(dialect)
        for _ in range(2):
            ranking = ask(reranker)
            assert (ranking.trace.notes, ranking.degraded, ranking.trace.model) == ((), (), "m")
        assert len(rerank_server.info_requests) == 1


@pytest.mark.parametrize(
    ("dialect", "change"),
    [
        ("vllm", {"root": "/models/other"}),
        ("vllm", {"id": "other"}),
        ("vllm", {"max_model_len": 1024}),
        ("infinity", {"id": "other"}),
        ("llamacpp", {"id": "other.gguf"}),
        ("llamacpp", {"meta": {"n_params": 567_754_752}}),
    ],
)
@pytest.mark.filterwarnings("ignore::rag_rerank.SubstitutionWarning")
def test_a_cache_serves_no_scores_of_another_model(
    dialect: str, change: dict[str, Any], make: Make, ask: Ask, rerank_server: RerankServer, tmp_path: Path
) -> None:
    def cached() -> Cached:
        return Cached(reranker=make(dialect), path=tmp_path / "scores")

    def hits() -> int:
        with cached() as reranker:
            return ask(reranker).usage.cached

    assert (hits(), hits()) == (0, 2)
    before = make(dialect).identity
    rerank_server.models[dialect]["data"][0].update(change)
    assert make(dialect).identity != before
    assert hits() == 0
    rerank_server.models[dialect] = {"data": [{**MODELS[dialect]["data"][0], "created": 99, "permission": []}]}
    assert make(dialect).identity == before
    assert hits() == 2


def test_a_cache_notices_a_swap_while_it_runs(make: Make, rerank_server: RerankServer, clock: ManualClock) -> None:
    reranker = Cached(reranker=make("vllm"))
    assert [reranker.rerank(QUERY, TEXTS).usage.cached for _ in range(2)] == [0, 2]
    rerank_server.models["vllm"]["data"][0]["root"] = "/models/other"
    clock.advance(11)
    assert [reranker.rerank(QUERY, TEXTS).usage.cached for _ in range(2)] == [0, 2]


@pytest.mark.filterwarnings("ignore::rag_rerank.SubstitutionWarning")
def test_a_substitute_is_not_cached(make: Make, ask: Ask, rerank_server: RerankServer) -> None:
    rerank_server.rule = lambda request: Answer(body={**request.shape.reply(request.body, list), "model": "other"})
    reranker = Cached(reranker=make("vllm"))
    assert [ask(reranker).usage.cached for _ in range(2)] == [0, 0]


# paths


@pytest.mark.parametrize("base", ["", "/v1", "/v1/"])
def test_vllm_is_asked_at_the_path_that_its_key_guards(
    base: str, make: Make, ask: Ask, rerank_server: RerankServer
) -> None:
    ask(make("vllm", base_url=rerank_server.base("vllm") + base))
    assert rerank_server.received[0].path == "/vllm/v1/rerank"
    assert rerank_server.info_requests[0].path == "/vllm/v1/models"


def test_a_path_of_ones_own_follows_the_base_url_as_it_is(make: Make, ask: Ask, rerank_server: RerankServer) -> None:
    ask(make("vllm", base_url=rerank_server.base("vllm") + "/v1", path="/v1/rerank"))
    assert rerank_server.received[0].path == "/vllm/v1/v1/rerank"


def test_no_key_and_no_text_is_shown_as_the_name_of_a_model(make: Make, ask: Ask, rerank_server: RerankServer) -> None:
    def leak(request: Received) -> Answer:
        name = f"{request.headers['authorization']} / other"
        return Answer(body={**request.shape.reply(request.body, list), "model": name})

    rerank_server.rule = leak
    with pytest.warns(SubstitutionWarning) as caught:
        ranking = ask(make("vllm", api_key="kEy-7f3aQz0Lw9"))
    assert "kEy-7f3aQz0Lw9" not in f"{ranking.degraded}{ranking.trace}{caught[0].message}"
    assert "***" in ranking.degraded[0]
