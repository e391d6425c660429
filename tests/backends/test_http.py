"""HttpReranker: the contract for each shape of answer, what it says on the wire, and what it refuses."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from support.api.injected_faults import FAULTS
from support.api.providers import DIALECTS, KEY, PROJECT, QUERY, TEXTS, Ask, Provider
from support.api.rerank_server import Answer, RerankServer
from support.api.wire_formats import tokens

import rag_rerank
from rag_rerank import BackendError, BadResponse, RateLimited, RequestRejected, Reranker
from rag_rerank.backends.api import http_transport
from rag_rerank.backends.api.pricing import pair_tokens
from rag_rerank.backends.api.retry import RetryPolicy
from rag_rerank.backends.http import HttpReranker, Limits, Price
from rag_rerank.testing import RerankerContract


@pytest.mark.parametrize("dialect", ["tei", "vllm", "nim", "mixedbread"])
class TestContract(RerankerContract):
    @pytest.fixture
    def reranker(self, dialect: str, rerank_server: RerankServer) -> Iterator[Reranker]:
        with HttpReranker(dialect=dialect, model="m", base_url=rerank_server.base(dialect), api_key=KEY) as reranker:
            yield reranker


_USUAL = {"model": "m", "query": QUERY, "documents": list(TEXTS)}
_WRAPPED = [{"text": text} for text in TEXTS]
BODIES: dict[str, dict[str, Any]] = {
    "cloudflare": {"query": QUERY, "contexts": _WRAPPED},
    **dict.fromkeys(("contextual", "novita", "openrouter", "scaleway", "vercel", "zeroentropy"), _USUAL),
    **{
        name: {**_USUAL, "return_documents": False}
        for name in ("dashscope", "fireworks", "opper", "prime", "sglang", "siliconflow", "together")
    },
    "deepinfra": {"queries": [QUERY] * 2, "documents": list(TEXTS)},
    "google": {
        "model": "m",
        "query": QUERY,
        "records": [{"id": str(i), "content": text} for i, text in enumerate(TEXTS)],
        "ignoreRecordDetailsInResponse": True,
    },
    "pinecone": {**_USUAL, "documents": _WRAPPED, "rank_fields": ["text"], "return_documents": False},
    "watsonx": {"model_id": "m", "project_id": PROJECT, "query": QUERY, "inputs": _WRAPPED},
    "cohere": {"model": "m", "query": QUERY, "documents": list(TEXTS)},
    "infinity": {
        "model": "m",
        "query": QUERY,
        "documents": list(TEXTS),
        "return_documents": False,
        "raw_scores": True,
    },
    "jina": {"model": "m", "query": QUERY, "documents": list(TEXTS), "return_documents": False},
    "llamacpp": {"model": "m", "query": QUERY, "documents": list(TEXTS)},
    "mixedbread": {"model": "m", "query": QUERY, "input": list(TEXTS), "return_input": False},
    "nim": {"model": "m", "query": {"text": QUERY}, "passages": [{"text": text} for text in TEXTS], "truncate": "NONE"},
    "tei": {"query": QUERY, "texts": list(TEXTS), "truncate": True, "return_text": False, "raw_scores": True},
    "vllm": {"model": "m", "query": QUERY, "documents": list(TEXTS)},
}


def test_the_request_is_what_the_service_documents(dialect: Provider, ask: Ask, rerank_server: RerankServer) -> None:
    ask(dialect.reranker(rerank_server))
    (request,) = rerank_server.received
    assert (request.method, request.path) == ("POST", dialect.path)
    assert request.body == BODIES[dialect.dialect]
    if dialect.dialect == "pinecone":
        assert request.headers["api-key"] == KEY
        assert request.headers["x-pinecone-api-version"] == "2026-07"
        assert "authorization" not in request.headers
    else:
        assert request.headers["authorization"] == f"Bearer {KEY}"
    assert request.headers.get("x-goog-user-project") == (PROJECT if dialect.dialect == "google" else None)
    assert request.headers["content-type"] == "application/json"


def test_logits_are_ranked_by_and_shown_as_their_sigmoid(
    dialect: Provider, ask: Ask, rerank_server: RerankServer
) -> None:
    ranking = ask(dialect.reranker(rerank_server))
    logits = dialect.dialect in ("infinity", "llamacpp", "nim", "tei", "watsonx")
    assert ranking.scale == ("sigmoid" if logits else "relevance")
    for hit in ranking:
        assert hit.raw_score == dialect.score(QUERY, hit.text)
        assert (hit.score == hit.raw_score) == (not logits)
    if logits:
        rows = [{"index": i, "relevance_score": 40 + i} for i in range(2)]
        rerank_server.then(Answer(rows=lambda _: rows))
        assert [hit.text for hit in ask(dialect.reranker(rerank_server))] == [TEXTS[1], TEXTS[0]]  # both sigmoids are 1


def test_usage_is_what_the_answer_tells(dialect: Provider, ask: Ask, rerank_server: RerankServer) -> None:
    usage = ask(dialect.reranker(rerank_server)).usage
    counted = sum(pair_tokens(QUERY, TEXTS)) if dialect.dialect == "infinity" else tokens(QUERY, TEXTS)  # characters
    assert usage.tokens == (counted if dialect.names_tokens else None)
    units = ("cohere", "google", "openrouter", "pinecone", "vercel")
    assert usage.search_units == (1 if dialect.dialect in units else None)
    assert usage.cost == {"deepinfra": 0.0004, "openrouter": 0.002}.get(dialect.dialect)
    estimated = {"infinity": ("tokens",), "google": ("search_units",)}.get(dialect.dialect, ())
    assert (usage.texts, usage.requests, usage.estimated) == (2, 1, estimated)


@pytest.mark.parametrize(
    "bill", [{}, {"usage": None}, {"usage": {"total_tokens": 0}}, {"usage": {"total_tokens": "x"}}]
)
def test_usage_that_nobody_tells_is_unknown(bill: Any, ask: Ask, rerank_server: RerankServer) -> None:
    rows = [{"index": 0, "relevance_score": 0.5}, {"index": 1, "relevance_score": 0.4}]
    rerank_server.then(Answer(body={"results": rows, **bill}))
    assert ask(DIALECTS["llamacpp"].reranker(rerank_server)).usage.tokens is None


def test_further_fields_go_along_and_may_replace_options(
    ask: Ask, rerank_server: RerankServer, closing: Callable[[HttpReranker], HttpReranker]
) -> None:
    more = {"return_documents": True, "user": "me"}
    base_url = rerank_server.base("jina")
    reranker = closing(HttpReranker(dialect="jina", model="m", base_url=base_url, extra_body=more, api_key=KEY))
    ask(reranker)
    assert rerank_server.received[0].body == {**BODIES["jina"], **more}
    more["user"] = "you"
    assert reranker.extra_body["user"] == "me"


def test_a_path_of_ones_own_takes_the_place_of_the_usual(ask: Ask, rerank_server: RerankServer) -> None:
    ask(DIALECTS["nim"].reranker(rerank_server, path="/some/model/reranking"))
    assert rerank_server.received[0].path == "/nim/some/model/reranking"


def test_the_model_may_be_left_to_the_server(
    make: Callable[..., HttpReranker], ask: Ask, rerank_server: RerankServer
) -> None:
    reranker = DIALECTS["vllm"].reranker(rerank_server, model="")
    ranking = ask(reranker)
    assert rerank_server.received[0].body == {"query": QUERY, "documents": list(TEXTS)}
    assert (ranking.trace.step, ranking.trace.model) == ("http:vllm", "m")
    del rerank_server.models["vllm"]
    assert ask(make("vllm", model="")).trace.model is None


def test_most_texts_can_be_set(ask: Ask, rerank_server: RerankServer) -> None:
    ask(DIALECTS["nim"].reranker(rerank_server, max_texts=2), TEXTS * 2 + ("one more",))
    assert [len(request.texts) for request in rerank_server.received] == [2, 2, 1]


def test_scores_may_be_said_to_mean_something_else(ask: Ask, rerank_server: RerankServer) -> None:
    rows = [{"index": 0, "relevance_score": -0.25}, {"index": 1, "relevance_score": 0.5}]
    rerank_server.then(Answer(rows=lambda _: rows), Answer(rows=lambda _: rows))
    ranking = ask(DIALECTS["vllm"].reranker(rerank_server, answers_on="similarity"))
    assert (ranking.scale, [hit.score for hit in ranking]) == ("similarity", [0.5, -0.25])
    with pytest.raises(BadResponse, match=r"outside 0\.\.1"):
        ask(DIALECTS["llamacpp"].reranker(rerank_server, answers_on="relevance"))


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", ["tei", "vllm"])
def test_each_fault_ends_in_its_error(fault: str, name: str, ask: Ask, rerank_server: RerankServer) -> None:
    action, expected = FAULTS[fault]
    rerank_server.then(action)
    with pytest.raises(BackendError) as caught:
        ask(
            DIALECTS[name].reranker(
                rerank_server, timeout=0.2 if expected == "BackendTimeout" else 10, retry=RetryPolicy(attempts=1)
            )
        )
    assert type(caught.value) is getattr(rag_rerank, expected), caught.value
    assert caught.value.__context__ is None
    assert len(rerank_server.received) == 1
    assert "<" not in str(caught.value)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_refused_and_nothing_arrives_elsewhere(
    status: int, dialect: Provider, ask: Ask, rerank_server: RerankServer
) -> None:
    with RerankServer() as other:
        elsewhere = f"{other.url}{dialect.path}?token=s3cret"
        rerank_server.then(Answer(status, {"location": elsewhere}, b""))
        with pytest.raises(RequestRejected) as caught:
            ask(dialect.reranker(rerank_server))
        assert other.received == other.info_requests == []
    assert "set base_url to where the server is now" in str(caught.value)
    assert "s3cret" not in str(caught.value)
    assert len(rerank_server.received) == 1


def test_an_answer_without_end_is_cut_off(
    ask: Ask, rerank_server: RerankServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_transport, "_MOST_BYTES", 2**20)
    packed = gzip.compress(b" " * 2**22)
    rerank_server.then(Answer(body=b" " * (2**20 + 1)), Answer(200, {"content-encoding": "gzip"}, packed))
    for _ in range(2):
        with pytest.raises(BadResponse, match="longer than 1 MiB"):
            ask(DIALECTS["vllm"].reranker(rerank_server))


def test_a_compressed_answer_is_read_and_a_broken_one_refused(ask: Ask, rerank_server: RerankServer) -> None:
    packed = {"content-encoding": "gzip"}
    rerank_server.then(Answer(200, packed, content=gzip.compress), Answer(200, packed))
    assert len(ask(DIALECTS["vllm"].reranker(rerank_server))) == 2
    with pytest.raises(BadResponse, match="DecodingError"):
        ask(DIALECTS["vllm"].reranker(rerank_server))


def test_limits_and_money_count_by_server_and_key(ask: Ask, rerank_server: RerankServer, waits: list[float]) -> None:
    options: dict[str, Any] = {"limits": Limits(requests_per_minute=1), "price": Price(per_million_tokens=2.0)}
    one, same = (DIALECTS["vllm"].reranker(rerank_server, **options) for _ in range(2))
    other_key = DIALECTS["vllm"].reranker(rerank_server, api_key="another", **options)
    other_server = replace(one, base_url=f"{one.base_url}/v1")
    cost = ask(one).usage.cost
    assert cost == pytest.approx(2.0 * tokens(QUERY, TEXTS) / 1_000_000)
    assert (same.total_cost, other_key.total_cost, other_server.total_cost) == (cost, 0.0, 0.0)
    ask(other_key)
    assert waits == []
    with pytest.raises(RateLimited, match="our own limit is reached"):
        ask(same)
