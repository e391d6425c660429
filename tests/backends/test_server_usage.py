"""What a server of one's own counts, and how much it gets at once.

The answers are those of Infinity 0.0.78 and vLLM 0.32.0; llama.cpp's are from its source.
"""

from __future__ import annotations

import math
import socket
from collections.abc import Callable
from typing import Any

import pytest
from support.api.providers import QUERY, TEXTS, Ask
from support.api.rerank_server import Answer, Hang, Received, RerankServer
from support.api.wire_formats import characters, tokens

from rag_rerank import (
    BackendTimeout,
    BackendUnavailable,
    Fallback,
    Limits,
    Price,
    RequestRejected,
    RequestTooLarge,
)
from rag_rerank.backends.api import http_transport
from rag_rerank.backends.api.pricing import pair_tokens
from rag_rerank.backends.cohere import CohereReranker
from rag_rerank.backends.http import HttpReranker
from rag_rerank.testing import ScriptedReranker

Make = Callable[..., HttpReranker]


def texts(count: int) -> tuple[str, ...]:
    return tuple(f"text {i} of a {'warm ' * (i % 5)}dragon" for i in range(count))


def rows(*values: float) -> Answer:
    return Answer(body={"results": [{"index": i, "relevance_score": v} for i, v in enumerate(values)]})


# how servers count


def test_characters_are_no_tokens(make: Make, ask: Ask, rerank_server: RerankServer) -> None:
    usage = ask(make("infinity", price=Price(per_million_tokens=2.0))).usage
    estimate = sum(pair_tokens(QUERY, TEXTS))
    assert (usage.tokens, usage.estimated) == (estimate, ("cost", "tokens"))
    assert usage.cost == pytest.approx(2.0 * estimate / 1_000_000)
    assert characters(QUERY, TEXTS) > 2 * estimate  # what the answer said


def test_infinity_is_believed_where_it_counts_tokens(make: Make, ask: Ask, rerank_server: RerankServer) -> None:
    count = tokens(QUERY, TEXTS)
    body = {"model": "m", "results": rows(1.5, 2.5).body["results"], "usage": {"total_tokens": count}}
    rerank_server.then(Answer(body=body))
    usage = ask(make("infinity")).usage
    assert (usage.tokens, usage.estimated) == (count, ())


@pytest.mark.parametrize("count", [5_000_000, 5_730, math.nan, -3, True, "61", [61]])
def test_a_number_that_can_be_none_of_tokens_is_not_used(
    count: Any, make: Make, ask: Ask, rerank_server: RerankServer
) -> None:
    body = {"results": rows(1.5, 2.5).body["results"], "usage": {"total_tokens": count, "prompt_tokens": count}}
    if count != count:
        body = {**body, "usage": {"total_tokens": -0.5}}
    rerank_server.then(Answer(body=body))
    usage = ask(make("infinity")).usage
    assert usage.tokens in (None, sum(pair_tokens(QUERY, TEXTS)))
    assert usage.tokens is None or usage.estimated == ("tokens",)


def test_tokens_a_minute_count_our_estimate_where_the_server_counts_characters(
    make: Make, ask: Ask, rerank_server: RerankServer, waits: list[float]
) -> None:
    estimate = sum(pair_tokens(QUERY, TEXTS))
    reranker = make("infinity", limits=Limits(tokens_per_minute=3 * estimate))
    for _ in range(3):
        ask(reranker)
    assert waits == []  # the characters of one answer are more than the limit


@pytest.mark.parametrize(
    "make_gateway",
    [
        lambda url: HttpReranker(dialect="cohere", model="m", base_url=url, price=Price(per_thousand_search_units=2.0)),
        lambda url: CohereReranker(model="m", base_url=url, api_key="k", price=Price(per_thousand_search_units=2.0)),
    ],
)
def test_a_gateway_that_passes_other_numbers_on_is_not_believed(
    make_gateway: Any, ask: Ask, rerank_server: RerankServer, closing: Any
) -> None:
    count = characters(QUERY, TEXTS)
    meta = {"billed_units": {"search_units": 4711}, "tokens": {"input_tokens": count}}
    rerank_server.then(Answer(body={**rows(0.5, 0.25).body, "meta": meta}))
    usage = ask(closing(make_gateway(rerank_server.base("cohere")))).usage
    assert (usage.tokens, usage.search_units) == (sum(pair_tokens(QUERY, TEXTS)), 1.0)
    assert usage.estimated == ("cost", "search_units", "tokens")
    assert usage.cost == pytest.approx(0.002)


# work that nobody waits for


def test_infinity_gets_small_requests_and_the_user_may_raise_them(
    make: Make, ask: Ask, rerank_server: RerankServer
) -> None:
    ask(make("infinity"), texts(100))
    assert [len(request.texts) for request in rerank_server.received] == [32, 32, 32, 4]
    rerank_server.reset()
    ask(make("infinity", max_texts=100), texts(100))
    assert [len(request.texts) for request in rerank_server.received] == [100]


def test_what_a_server_still_computes_is_not_sent_again(make: Make, ask: Ask, rerank_server: RerankServer) -> None:
    rerank_server.rule = lambda request: Hang()
    with pytest.raises(BackendTimeout) as caught:
        ask(make("infinity", timeout=0.1, max_texts=64))
    assert len(rerank_server.received) == 1
    assert caught.value.still_busy
    for words in ("timeout (now 0.1 s", "max_texts, now 64", "limits.concurrency"):
        assert words in str(caught.value)
    rerank_server.reset()
    rerank_server.rule = lambda request: Hang()
    other = Fallback(members=(make("infinity", timeout=0.1), ScriptedReranker()))
    assert "BackendTimeout" in ask(other).degraded[0]


@pytest.mark.parametrize("status", [504, 524])
def test_a_gateway_that_gave_up_on_it_is_not_asked_again(
    status: int, make: Make, ask: Ask, rerank_server: RerankServer, waits: list[float]
) -> None:
    rerank_server.rule = lambda request: Answer(status, {"content-type": "text/html"}, "<html>timeout</html>")
    with pytest.raises(BackendUnavailable, match="max_texts") as caught:
        ask(make("infinity"))
    assert (caught.value.status, len(rerank_server.received)) == (status, 1)


@pytest.mark.parametrize("status", [429, 500, 502, 503])
def test_refusals_are_tried_again(
    status: int, make: Make, ask: Ask, rerank_server: RerankServer, waits: list[float]
) -> None:
    rerank_server.then(Answer(status), Answer(status))
    assert ask(make("infinity")).trace.attempts == 3


def test_a_connection_that_is_refused_is_tried_again(make: Make, ask: Ask, waits: list[float]) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        base_url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        with pytest.raises(BackendUnavailable) as caught:
            ask(make("infinity", base_url=base_url))
    assert caught.value.trace is not None and caught.value.trace.attempts == 3


@pytest.mark.parametrize("dialect", ["vllm", "llamacpp", "tei"])
def test_a_server_that_drops_abandoned_work_is_asked_again(
    dialect: str, make: Make, ask: Ask, rerank_server: RerankServer, waits: list[float]
) -> None:
    rerank_server.then(Hang())
    assert ask(make(dialect, model="m", timeout=0.2)).trace.attempts == 2


# sizes


def test_an_answer_that_repeats_too_much_halves_the_request(
    make: Make, ask: Ask, rerank_server: RerankServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_transport, "_MOST_BYTES", 20_000)

    def echo(request: Received) -> Answer:
        body = request.shape.reply(request.body, list)
        for row in body["results"]:
            row["document"] = {"text": request.texts[row["index"]], "multi_modal": None}
        return Answer(body=body)

    rerank_server.rule = echo
    long_texts = tuple(f"{i} " + "warm dragon " * 500 for i in range(8))
    ranking = ask(make("vllm"), long_texts)
    assert len(ranking) == 8
    assert {hit.text for hit in ranking} == set(long_texts)
    assert max(len(request.texts) for request in rerank_server.received[2:]) == 4
    assert "8 texts were too large for one request, which was halved" in ranking.trace.notes
    with pytest.raises(RequestTooLarge, match="if it repeats the texts, send fewer or shorter ones"):
        ask(make("vllm"), ("warm dragon " * 5_000,))


def test_requests_are_sized_by_bytes_ahead(make: Make, ask: Ask, rerank_server: RerankServer) -> None:
    ask(make("vllm"), ("warm dragon " * 200_000,) * 8)  # 2.4 MB each
    assert [len(request.texts) for request in rerank_server.received] == [6, 2]


PYDANTIC_TOO_LONG = {
    "detail": [
        {
            "type": "string_too_long",
            "loc": ["body", "documents", 1],
            "msg": "String should have at most 122880 characters",
            "input": "a a a",
            "ctx": {"max_length": 122_880},
        }
    ]
}


def refusal(dialect: str, status: int, body: Any, make: Make, ask: Ask, rerank_server: RerankServer) -> Exception:
    rerank_server.rule = lambda request: Answer(status, body=body)
    with pytest.raises(RequestRejected) as caught:
        ask(make(dialect))
    return caught.value


def test_infinitys_limit_of_characters_is_explained(make: Make, ask: Ask, rerank_server: RerankServer) -> None:
    error = refusal("infinity", 422, PYDANTIC_TOO_LONG, make, ask, rerank_server)
    assert "Infinity takes 122,880 characters" in str(error) and "windows" in str(error)
    assert "check model, options and base_url" not in str(error)


@pytest.mark.parametrize("status", [400, 500])
@pytest.mark.parametrize(
    "words",
    [
        "input (9739 tokens) is larger than the max context size (8192 tokens). skipping",
        "request (9739 tokens) exceeds the available context size (8192 tokens), try increasing it",
    ],
)
def test_llamacpps_context_size_is_explained_and_not_tried_again(
    status: int, words: str, make: Make, ask: Ask, rerank_server: RerankServer
) -> None:
    body = {"error": {"code": status, "message": words, "type": "exceed_context_size_error", "n_ctx": 8192}}
    error = refusal("llamacpp", status, body, make, ask, rerank_server)
    assert isinstance(error, RequestTooLarge)
    assert "--ctx-size" in str(error) and "for text 0 alone" in str(error)
    assert [len(request.texts) for request in rerank_server.received] == [2, 1]


def test_teis_refusal_of_a_long_text_is_explained(make: Make, ask: Ask, rerank_server: RerankServer) -> None:
    words = "Input validation error: `inputs` must have less than 512 tokens. Given: 812"
    error = refusal("tei", 422, {"error": words, "error_type": "validation"}, make, ask, rerank_server)
    assert '"truncate": True' in str(error)
