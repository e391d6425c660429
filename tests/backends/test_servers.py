"""Servers that users run: how they count and hang up, what they serve, what they cut, and what their numbers mean.

The answers are those of Infinity 0.0.78 and vLLM 0.32.0; llama.cpp's are from its source.
"""

from __future__ import annotations

import math
import socket
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.api.limiter_clock import ManualClock
from support.api.providers import QUERY, TEXTS, Ask
from support.api.rerank_server import Answer, Hang, Received, RerankServer
from support.api.wire_formats import MODELS, characters, logit, tokens

import rag_rerank
from rag_rerank import (
    BackendTimeout,
    BackendUnavailable,
    BadResponse,
    Cached,
    Fallback,
    Limits,
    Price,
    RequestRejected,
    RequestTooLarge,
    RetryPolicy,
    ScaleWarning,
    SubstitutionWarning,
    Windows,
)
from rag_rerank.backends.api import http_transport
from rag_rerank.backends.api.pricing import pair_tokens
from rag_rerank.backends.cohere import CohereReranker
from rag_rerank.backends.http import HttpReranker
from rag_rerank.testing import ScriptedReranker

Make = Callable[..., HttpReranker]
LONG = "warm dragon " * 400  # 1,200 tokens by estimate


@pytest.fixture
def make(rerank_server: RerankServer, closing: Callable[[HttpReranker], HttpReranker]) -> Make:
    def make_reranker(dialect: Any, **options: Any) -> HttpReranker:
        defaults = {"model": "m", "base_url": rerank_server.base(dialect), "retry": RetryPolicy(jitter=0)}
        return closing(HttpReranker(dialect=dialect, **{**defaults, **options}))

    return make_reranker


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


@pytest.mark.parametrize("make_gateway", [
    lambda url: HttpReranker(dialect="cohere", model="m", base_url=url, price=Price(per_thousand_search_units=2.0)),
    lambda url: CohereReranker(model="m", base_url=url, api_key="k", price=Price(per_thousand_search_units=2.0)),
])  # fmt: skip
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


# which model answers


@pytest.mark.parametrize("service", ["infinity", "vllm", "jina", "mixedbread"])
def test_another_model_in_the_answer_is_reported(service: str, make: Make, ask: Ask, rerank_server: RerankServer) -> None:
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
    "answer", ["BAAI/BGE-reranker-base", "bge-reranker-base", "/models/bge-reranker-base/", "hosted_vllm/BAAI/bge-reranker-base",
               "/root/.cache/huggingface/hub/models--BAAI--bge-reranker-base/snapshots/2cfc18c9", None, "", 7]
)  # fmt: skip
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


# what is cut


def estimated(text: str, most: int) -> tuple[int, int, bool]:
    total, query = (-(-len(part.encode()) // 4) for part in (text, QUERY))
    return total, min(total, most - query), True


@pytest.mark.parametrize(
    ("dialect", "options", "most", "title"),
    [
        ("infinity", {"window": 512}, 512, "Infinity"),
        ("infinity", {"window": 300}, 300, "Infinity"),
        ("vllm", {"extra_body": {"truncate_prompt_tokens": -1}}, 512, "vLLM"),
        ("vllm", {"extra_body": {"truncate_prompt_tokens": 100}}, 100, "vLLM"),
        ("vllm", {"extra_body": {"truncate_prompt_tokens": -1}, "window": 256}, 256, "vLLM"),
        ("tei", {}, 512, "TEI"),
        ("nim", {"extra_body": {"truncate": "END"}, "window": 400}, 400, "NIM"),
        ("mixedbread", {"window": 512}, 512, "Mixedbread"),
    ],
)
def test_texts_that_a_server_cuts_have_a_note_and_an_estimated_coverage(
    dialect: str, options: Any, most: int, title: str, make: Make, ask: Ask, rerank_server: RerankServer
) -> None:
    ranking = ask(make(dialect, **options), (LONG, "dragon"))
    note = f"by estimate 1 texts with the query are longer than {most} tokens, and {title} cuts them"
    assert ranking.trace.notes == (note,)
    for hit in ranking:
        coverage = hit.coverage
        assert coverage is not None
        assert (coverage.total, coverage.seen, coverage.estimated) == estimated(hit.text, most)
        assert coverage.to_dict()["estimated"] is True
        assert type(coverage).from_dict(coverage.to_dict()) == coverage
        assert coverage.truncated == (hit.text == LONG)


@pytest.mark.parametrize(
    ("dialect", "options"),
    [
        ("vllm", {}),
        ("vllm", {"window": 100}),
        ("vllm", {"extra_body": {"truncate_prompt_tokens": None}}),
        ("nim", {"window": 100}),
        ("tei", {"extra_body": {"truncate": False}}),
        ("llamacpp", {"window": 100}),
        ("jina", {"window": 100, "extra_body": {"truncation": False}}),
        ("jina", {}),
    ],
)
def test_a_server_that_refuses_long_texts_has_neither(
    dialect: str, options: Any, make: Make, ask: Ask, rerank_server: RerankServer
) -> None:
    ranking = ask(make(dialect, **options), (LONG, "dragon"))
    assert (ranking.trace.notes, [hit.coverage for hit in ranking]) == ((), [None, None])


def test_infinity_without_a_window_has_a_note_that_asks_for_it(make: Make, ask: Ask, rerank_server: RerankServer) -> None:
    (note,) = ask(make("infinity"), (LONG, "dragon")).trace.notes
    assert "1 texts with the query are longer than 512 tokens" in note and "give window" in note
    assert ask(make("infinity"), ("dragon",)).trace.notes == ()


def test_a_cache_keeps_that_a_coverage_is_an_estimate(
    make: Make, ask: Ask, rerank_server: RerankServer, tmp_path: Path
) -> None:
    for count in (0, 1):
        with Cached(reranker=make("infinity", window=64), path=tmp_path / "scores") as reranker:
            ranking = ask(reranker, (LONG,))
        assert ranking.usage.cached == count
        assert ranking[0].coverage is not None
        assert (ranking[0].coverage.estimated, ranking[0].coverage.truncated) == (True, True)


def test_windows_of_a_text_keep_that_a_coverage_is_an_estimate(make: Make, rerank_server: RerankServer) -> None:
    tokenizer = str(Path(rag_rerank.__file__).parent / "models" / "late-minilm-v1" / "tokenizer.json")
    reranker = Windows(reranker=make("infinity", window=2000), tokens=60, overlap=5, tokenizer=tokenizer)
    (hit,) = reranker.rerank(QUERY, [LONG])
    assert hit.coverage is not None and hit.coverage.estimated and not hit.coverage.truncated


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
    ask(make("vllm"), ("warm dragon " * 100_000,) * 30)  # 1.2 MB each
    assert [len(request.texts) for request in rerank_server.received] == [13, 13, 4]


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


# what the numbers mean


def test_a_failure_in_place_of_a_logit_leaves_the_text_unscored(
    make: Make, ask: Ask, rerank_server: RerankServer
) -> None:
    def fail_on_some(found: Any) -> Any:
        return [{**row, "relevance_score": -1e6} if row["index"] in (1, 3) else row for row in found]

    rerank_server.rule = lambda request: Answer(rows=fail_on_some)
    ranking = ask(make("llamacpp"), texts(5))
    assert [hit.id for hit in ranking][3:] == ["1", "3"]
    for hit in ranking:
        assert (hit.score is None) == (hit.id in "13")
        assert (hit.unscored or "").startswith("llama.cpp failed on it" if hit.id in "13" else "")
        assert hit.id in "13" or hit.raw_score == logit(QUERY, hit.text)
    ranking = ask(make("llamacpp", max_texts=2), texts(5))
    assert [hit.id for hit in ranking if hit.unscored] == ["1", "3"]


def test_failures_alone_are_no_answer(make: Make, ask: Ask, rerank_server: RerankServer) -> None:
    rerank_server.then(rows(-1e6, -1e6))
    with pytest.raises(BadResponse, match=r"llama\.cpp failed on every text"):
        ask(make("llamacpp"))


@pytest.mark.parametrize("rows_of", [None, [7], [{"index": "x", "relevance_score": -1e6}, {"index": 0}], {"a": 1}])
def test_damaged_rows_are_refused_there_too(rows_of: Any, make: Make, ask: Ask, rerank_server: RerankServer) -> None:
    rerank_server.then(Answer(body={"results": rows_of}))
    with pytest.raises(BadResponse):
        ask(make("llamacpp"))


@pytest.mark.parametrize(("dialect", "options"), [("infinity", {}), ("llamacpp", {}), ("vllm", {"answers_on": "sigmoid"})])
def test_probabilities_taken_for_logits_are_noticed(
    dialect: str, options: Any, make: Make, ask: Ask, rerank_server: RerankServer
) -> None:
    rerank_server.rule = lambda request: rows(0.98, 0.11, 0.002, 0.51)
    reranker = make(dialect, **options)
    with pytest.warns(ScaleWarning, match='answers_on="relevance"'):
        ranking = ask(reranker, texts(4))
    assert any("all in 0..1, as probabilities are" in note for note in ranking.trace.notes)
    assert [hit.id for hit in ranking] == ["0", "3", "1", "2"]
    assert len(ask(reranker, texts(4))) == 4  # one warning a reranker
    assert ask(make(dialect, answers_on="relevance"), texts(4)).trace.notes == ()


@pytest.mark.parametrize("values", [(0.9, 0.2, 0.1), (0.5,) * 4, (0.98, 0.11, 0.002, -0.5), (0.98, 0.11, 0.002, 1.5)])
def test_logits_that_happen_to_be_small_are_left_alone(
    values: tuple[float, ...], make: Make, ask: Ask, rerank_server: RerankServer
) -> None:
    rerank_server.then(rows(*values))
    assert ask(make("infinity"), texts(len(values))).trace.notes == ()


@pytest.mark.parametrize("values", [(3.2, 0.4), (-0.1, 0.4)])
def test_logits_taken_for_probabilities_are_an_error_that_names_the_setting(
    values: tuple[float, float], make: Make, ask: Ask, rerank_server: RerankServer
) -> None:
    rerank_server.then(rows(*values))
    with pytest.raises(BadResponse, match=r'outside 0\.\.1; if they are logits, give answers_on="sigmoid"'):
        ask(make("vllm"))
