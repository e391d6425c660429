"""LlmReranker over a real socket, through OpenAI's SDK: the contract, what it sends, and how it reads answers."""

from __future__ import annotations

import asyncio
import gc
import json
import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.api.chat_wire import Question, answer_of, completion
from support.api.providers import KEY, QUERY, TEXTS, Ask
from support.api.rerank_server import RerankServer
from support.api.scripted_replies import Answer, Drop, Hang, Received
from support.api.wire_formats import relevance

from rag_rerank import (
    AuthenticationError,
    BackendTimeout,
    BackendUnavailable,
    BadResponse,
    Cached,
    Calibrated,
    Candidate,
    ConfigError,
    CostExceeded,
    Deadline,
    Ensemble,
    InputTooLong,
    Ranking,
    RateLimited,
    RelevantSpans,
    RequestRejected,
    Reranker,
    Windows,
    build,
    pack,
    to_config,
)
from rag_rerank.backends.lexical import LexicalReranker
from rag_rerank.backends.llm import Limits, LlmReranker, Price, RetryPolicy
from rag_rerank.errors import TruncationWarning, UnusableKey
from rag_rerank.execution.instruction import call_instruction
from rag_rerank.testing import RerankerContract, ScriptedReranker

WORDS = ("warm", "dragon", "kept", "bearded", "should", "be", "how")
MANY = [f"number {i}: {' '.join(WORDS[: i % 8])} and {i * 7919 % 1000} more" for i in range(60)]
"""Texts of different relevance to the query."""


def best(texts: Any = MANY, query: str = QUERY) -> list[str]:
    """The ids of the texts in the order of the judge."""
    return [str(i) for i in sorted(range(len(texts)), key=lambda i: -relevance(query, texts[i]))]


@pytest.fixture
def make_llm(rerank_server: RerankServer, closing: Callable[[Any], Any]) -> Callable[..., LlmReranker]:
    """Makes a reranker for the server."""

    def make(**options: Any) -> LlmReranker:
        defaults = {"model": "m", "base_url": rerank_server.base("chat"), "retry": RetryPolicy(jitter=0)}
        reranker: LlmReranker = closing(LlmReranker(**{**defaults, **options}))
        return reranker

    return make


def ids(ranking: Ranking) -> list[str]:
    return [hit.id for hit in ranking]


def notes(ranking: Ranking) -> str:
    return "; ".join(note for node in ranking.trace.walk() for note in node.notes)


class TestListwise(RerankerContract):
    @pytest.fixture
    def reranker(self, rerank_server: RerankServer) -> Iterator[Reranker]:
        with LlmReranker(model="m", base_url=rerank_server.base("chat"), window=4, stride=2, passes=2) as reranker:
            yield reranker


class TestShuffled(RerankerContract):
    @pytest.fixture
    def reranker(self, rerank_server: RerankServer) -> Iterator[Reranker]:
        with LlmReranker(model="m", base_url=rerank_server.base("chat"), shuffles=2, parallel=3) as reranker:
            yield reranker

    def test_equal_texts_keep_their_order(self, reranker: Reranker) -> None:
        """Shuffled orders part equal texts by chance; with the incoming order alone they keep it (`TestListwise`)."""
        assert sorted(ids(self.ask(reranker, [self.texts[1]] * 5))) == ["0", "1", "2", "3", "4"]


class TestPointwise(RerankerContract):
    @pytest.fixture
    def reranker(self, rerank_server: RerankServer) -> Iterator[Reranker]:
        with LlmReranker(model="m", base_url=rerank_server.base("chat"), mode="pointwise") as reranker:
            yield reranker


class TestPairwise(RerankerContract):
    @pytest.fixture
    def reranker(self, rerank_server: RerankServer) -> Iterator[Reranker]:
        with LlmReranker(model="m", base_url=rerank_server.base("chat"), mode="pairwise") as reranker:
            yield reranker


def test_the_request_is_a_chat_completion(ask: Ask, rerank_server: RerankServer, make_llm: Any) -> None:
    ask(make_llm(api_key=KEY))
    (request,) = rerank_server.received
    assert (request.method, request.path) == ("POST", "/chat/chat/completions")
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert set(request.body) == {"model", "messages", "temperature"}
    assert (request.body["model"], request.body["temperature"]) == ("m", 0.0)
    assert [message["role"] for message in request.body["messages"]] == ["system", "user"]
    question = Question.read(request.body["messages"])
    assert (question.ask, question.query, question.passages) == ("listwise", QUERY, TEXTS)


def test_a_server_of_ones_own_gets_no_key_that_was_meant_for_openai(
    ask: Ask, rerank_server: RerankServer, make_llm: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    ask(make_llm())
    assert "authorization" not in rerank_server.received[0].headers
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(UnusableKey, match="OPENAI_API_KEY"):
        LlmReranker(model="m").rerank(QUERY, TEXTS)


def test_options_are_sent_only_when_they_are_set(ask: Ask, rerank_server: RerankServer, make_llm: Any) -> None:
    ask(make_llm(temperature=None, seed=7, response_format="json_schema", extra_body={"reasoning_effort": "low"}))
    body = rerank_server.received[0].body
    assert "temperature" not in body
    assert (body["seed"], body["reasoning_effort"]) == (7, "low")
    assert body["response_format"]["type"] == "json_schema"
    schema = body["response_format"]["json_schema"]
    assert schema["strict"] is True
    assert schema["schema"]["properties"] == {"ranking": {"type": "array", "items": {"type": "integer"}}}
    ask(make_llm(response_format="json_object"))
    assert rerank_server.received[1].body["response_format"] == {"type": "json_object"}


def test_a_perfect_judge_gives_a_perfect_ranking_within_the_promise(ask: Ask, make_llm: Any) -> None:
    one = ask(make_llm(), MANY)
    assert ids(one)[:10] == best()[:10]
    assert ids(ask(make_llm(passes=2), MANY))[:20] == best()[:20]
    assert ids(ask(make_llm(window=60), MANY)) == best()
    assert (one.scale, one[0].score, one[1].score, one[-1].score) == ("rank", 1.0, 1 - 1 / 60, 1 - 59 / 60)
    assert one.usage.texts == 60 and one.usage.requests == 5 == len(one.trace.children)
    assert [child.step for child in one.trace.children][:2] == ["llm:m, places 41 to 60", "llm:m, places 31 to 50"]
    assert one.trace.template == "llm-listwise-1"


def test_shuffled_orders_are_fused(ask: Ask, rerank_server: RerankServer, make_llm: Any) -> None:
    ranking = ask(make_llm(window=60, shuffles=2, seed=1), MANY)
    assert ids(ranking) == best()
    assert "3 rankings, of different orders, were fused by reciprocal rank" in notes(ranking)
    passages = [request.texts for request in rerank_server.received]
    assert len(passages) == 3 and len({tuple(one) for one in passages}) == 3
    assert all(sorted(one) == sorted(MANY) for one in passages)


def test_pairs_are_asked_in_both_orders(ask: Ask, rerank_server: RerankServer, make_llm: Any) -> None:
    reranker = make_llm(mode="pairwise", top=3)
    ranking = ask(reranker, MANY[:12])
    assert ids(ranking)[:3] == best(MANY[:12])[:3]
    pairs = [tuple(request.texts) for request in rerank_server.received]
    assert len(set(pairs)) == len(pairs) and all((b, a) in pairs for a, b in pairs)
    assert len(pairs) <= reranker.estimate(QUERY, MANY[:12]).requests == 2 * (11 + 10 + 9)


def test_a_judge_of_the_first_place_leaves_pairs_in_their_order(
    ask: Ask, rerank_server: RerankServer, make_llm: Any
) -> None:
    rerank_server.rule = lambda request: Answer(body=completion(request.body, '{"better": "A"}'))
    ranking = ask(make_llm(mode="pairwise", top=1), MANY[:4])
    assert ids(ranking) == ["0", "1", "2", "3"]
    assert "for 3 pairs the two orders had different answers" in notes(ranking)
    assert not ranking.degraded


def test_yes_is_scored_by_its_probability(ask: Ask, rerank_server: RerankServer, make_llm: Any) -> None:
    ranking = ask(make_llm(mode="pointwise"), MANY[:12])
    assert (ranking.scale, ids(ranking)) == ("relevance", best(MANY[:12]))
    for hit in ranking:
        assert hit.score == pytest.approx(min(max(relevance(QUERY, hit.text), 1e-6), 1 - 1e-6), abs=1e-6)
    body = rerank_server.received[0].body
    assert (body["logprobs"], body["top_logprobs"], body["max_tokens"]) == (True, 5, 5)


@pytest.mark.parametrize("refuses", [False, True])
def test_without_log_probabilities_texts_are_graded_and_the_trace_says_so(
    refuses: bool, ask: Ask, rerank_server: RerankServer, make_llm: Any
) -> None:
    def rule(request: Received) -> Answer:
        if not request.body.get("logprobs"):
            return Answer()
        return Answer(400) if refuses else Answer(body=completion(request.body, "yes"))

    rerank_server.rule = rule
    ranking = ask(make_llm(mode="pointwise"), MANY[:8])
    grades = {hit.id: hit.score for hit in ranking}
    assert grades == {str(i): pytest.approx(round(3 * relevance(QUERY, MANY[i])) / 3) for i in range(8)}
    assert "so the texts were graded 0 to 3" in notes(ranking)
    assert ranking.usage.requests == 9
    with pytest.raises(RequestRejected if refuses else BadResponse):
        ask(make_llm(mode="pointwise", score_by="logprobs"), MANY[:8])


def test_grades_can_be_asked_for_at_once(ask: Ask, rerank_server: RerankServer, make_llm: Any) -> None:
    ask(make_llm(mode="pointwise", score_by="grade"), MANY[:3])
    assert not any("logprobs" in request.body for request in rerank_server.received)
    assert len(rerank_server.received) == 3


def test_a_text_without_a_usable_answer_has_no_score(ask: Ask, rerank_server: RerankServer, make_llm: Any) -> None:
    def rule(request: Received) -> Answer:
        refuses = request.texts[0] == MANY[2]
        return Answer(body=completion(request.body, "", refusal="I cannot help.")) if refuses else Answer()

    rerank_server.rule = rule
    ranking = ask(make_llm(mode="pointwise"), MANY[:4])
    assert (ranking[-1].id, ranking[-1].score, ranking[-1].unscored) == ("2", None, "the model gave no usable answer")
    assert ranking.degraded == (
        "1 of 4 texts have no score, since the model's answers could not be used: the model declined to answer",
    )
    assert ranking.usage.requests == 5  # asked again once


def test_answers_are_repaired_and_the_repairs_counted(ask: Ask, rerank_server: RerankServer, make_llm: Any) -> None:
    rerank_server.then(Answer(body={**completion({"model": "m", "messages": []}, '{"ranking": [3, 3, 99, 1]}')}))
    ranking = ask(make_llm(), MANY[:5])
    assert ids(ranking) == ["2", "0", "1", "3", "4"]
    assert "1 of 1 answers were repaired to a permutation (5 repairs)" in notes(ranking)
    assert not ranking.degraded


def test_an_answer_without_a_ranking_is_asked_for_again_once(
    ask: Ask, rerank_server: RerankServer, make_llm: Any
) -> None:
    prose = Answer(body=completion({"model": "m", "messages": []}, "Certainly! All of them are lovely."))
    rerank_server.then(prose)
    ranking = ask(make_llm(), MANY[:5])
    assert ids(ranking) == best(MANY[:5])
    again = rerank_server.received[1].body["messages"][1]["content"]
    assert "Your last answer could not be read" in again
    assert ranking.trace.children[0].error == (
        "BadResponse: llm:m gave an answer that cannot be used: it holds no ranking"
    )
    rerank_server.then(prose, prose)
    with pytest.raises(BadResponse, match="it holds no ranking; so it was with every request"):
        ask(make_llm(), MANY[:5])
    assert len(rerank_server.received) == 4
    rerank_server.then(prose)
    with pytest.raises(BadResponse):
        ask(make_llm(retry=RetryPolicy(attempts=1)), MANY[:5])
    assert len(rerank_server.received) == 5


def test_a_window_without_a_usable_answer_keeps_its_order(ask: Ask, rerank_server: RerankServer, make_llm: Any) -> None:
    prose = Answer(body=completion({"model": "m", "messages": []}, "No."))
    rerank_server.then(prose, prose)
    ranking = ask(make_llm(), MANY[:30])
    assert ranking.degraded == ("1 of 2 windows kept their order: it holds no ranking",)
    assert sorted(ids(ranking), key=int) == [str(i) for i in range(30)]


@pytest.mark.parametrize(
    ("action", "error"),
    [
        (Answer(401), AuthenticationError),
        (Answer(404), RequestRejected),
        (Answer(429), RateLimited),
        (Answer(500), BackendUnavailable),
        (Answer(307, {"location": "http://127.0.0.1:9/"}), RequestRejected),
        (Answer(200, {"content-type": "text/html"}, "<html>"), BadResponse),
        (Answer(content=lambda body: body[:-9]), BadResponse),
        (Answer(body={"error": {"message": "no"}}), BadResponse),
        (Answer(body={"choices": []}), BadResponse),
        (Drop(), BackendUnavailable),
        (Drop(midway=True), BackendUnavailable),
        (Hang(), BackendTimeout),
    ],
    ids=[
        "401",
        "404",
        "429",
        "500",
        "redirect",
        "html",
        "cut",
        "error object",
        "no choices",
        "drop",
        "drop midway",
        "hang",
    ],
)
def test_failures_become_errors_of_ours_and_only_ours_retries(
    action: Any, error: type[Exception], ask: Ask, rerank_server: RerankServer, make_llm: Any
) -> None:
    rerank_server.rule = lambda request: action
    with pytest.raises(error) as caught:
        ask(make_llm(timeout=0.3, retry=RetryPolicy(attempts=1)))
    assert type(caught.value) is error
    assert len(rerank_server.received) == 1
    assert caught.value.trace.attempts == 1  # type: ignore[attr-defined]


def test_our_policy_retries(ask: Ask, rerank_server: RerankServer, make_llm: Any, waits: list[float]) -> None:
    rerank_server.then(Answer(503), Answer(429, {"retry-after": "3"}))
    ranking = ask(make_llm())
    assert (len(ranking), ranking.trace.attempts, waits) == (2, 3, [0.5, 3.0])


def test_a_window_that_is_too_long_for_the_endpoint_is_halved(
    ask: Ask, rerank_server: RerankServer, make_llm: Any
) -> None:
    def rule(request: Received) -> Answer:
        words = "This model's maximum context length is 8192 tokens. Please reduce the length of the messages."
        return Answer(400, body={"error": {"message": words}}) if len(request.texts) > 12 else Answer()

    rerank_server.rule = rule
    ranking = ask(make_llm(window=40, stride=20), MANY)
    assert ids(ranking)[:5] == best()[:5]
    assert [len(request.texts) for request in rerank_server.received][:3] == [40, 20, 10]
    assert "a window of 20 texts was too large, so they hold 10 now" in notes(ranking)
    rerank_server.rule = lambda request: Answer(400, body={"error": {"message": "context_length_exceeded"}})
    with pytest.raises(RequestRejected, match="longer than the model reads"):
        ask(make_llm(), MANY[:4])


def test_windows_shrink_to_the_context_and_texts_are_cut(ask: Ask, rerank_server: RerankServer, make_llm: Any) -> None:
    long = [f"{text} " + "lorem ipsum " * 40 for text in MANY[:20]]
    ranking = ask(make_llm(context=2000), long)
    assert max(len(request.texts) for request in rerank_server.received) < 20
    assert "by context=2000, a prompt holds" in notes(ranking)
    longer = [*MANY[:5], "warm " * 5000]
    with pytest.warns(TruncationWarning, match="sent only the beginning of texts"):
        ranking = ask(make_llm(context=2000), longer)
    coverage = {hit.id: hit.coverage for hit in ranking}
    assert coverage["5"] is not None and coverage["5"].truncated and coverage["5"].estimated
    assert coverage["0"] is not None and not coverage["0"].truncated
    assert "1 texts were cut to" in notes(ranking)
    sent = max((text for request in rerank_server.received for text in request.texts), key=len)
    assert longer[5].startswith(sent) and len(sent) > 1000
    with pytest.raises(InputTooLong, match="candidate '5': it has 6250 tokens by estimate"):
        ask(make_llm(context=2000, on_overflow="error"), longer)
    with pytest.raises(InputTooLong, match="the query leaves"):
        ask(make_llm(context=400), MANY[:3])
    with pytest.warns(TruncationWarning):
        assert ask(make_llm(max_text_tokens=3), MANY[:3])[0].coverage.truncated  # type: ignore[union-attr]


def test_an_endpoint_that_cuts_prompts_without_a_word_is_told(
    ask: Ask, rerank_server: RerankServer, make_llm: Any
) -> None:
    def rule(request: Received) -> Answer:
        body = completion(request.body, '{"ranking": [2, 1, ', finish="length")
        return Answer(body={**body, "usage": {**body["usage"], "prompt_tokens": 50}})

    assert "may have cut" not in notes(ask(make_llm(), MANY[:3]))
    rerank_server.rule = rule
    ranking = ask(make_llm(), MANY[:3])
    assert "the endpoint read 50 tokens where about" in notes(ranking)
    assert "an answer ends at a limit of length" in notes(ranking)
    assert ids(ranking) == ["1", "0", "2"]


def test_the_instruction_says_what_relevance_means(ask: Ask, rerank_server: RerankServer, make_llm: Any) -> None:
    ask(make_llm(instruction="prefer recent laws"))
    assert "What relevance means here: prefer recent laws" in rerank_server.received[0].body["messages"][0]["content"]
    with call_instruction("prefer old laws"):
        ask(make_llm(instruction="prefer recent laws"))
    assert "What relevance means here: prefer old laws" in rerank_server.received[1].body["messages"][0]["content"]
    assert make_llm().takes_instruction


def test_cost_is_that_of_the_tokens_that_the_answer_names(ask: Ask, rerank_server: RerankServer, make_llm: Any) -> None:
    price = Price(per_million_tokens=2.0, per_million_output_tokens=10.0)
    reranker = make_llm(price=price)
    ranking = ask(reranker, MANY)
    usages = [sum(len(m["content"].split()) for m in request.body["messages"]) for request in rerank_server.received]
    written = ranking.usage.output_tokens
    assert ranking.usage.tokens == sum(usages) and written is not None and written > 0
    assert ranking.usage.cost == pytest.approx((sum(usages) * 2 + written * 10) / 1e6)
    assert ranking.usage.estimated == ()
    estimate = reranker.estimate(QUERY, MANY)
    assert (estimate.requests, estimate.texts) == (5, 60)
    assert (
        estimate.cost is not None
        and estimate.cost > 0
        and set(estimate.estimated)
        == {
            "cost",
            "output_tokens",
            "tokens",
        }
    )
    assert Ranking.from_dict(json.loads(json.dumps(ranking.to_dict()))) == ranking


def test_a_cost_that_the_answer_names_is_taken(ask: Ask, rerank_server: RerankServer, make_llm: Any) -> None:
    def rule(request: Received) -> Answer:
        body = completion(request.body, '{"ranking": [2, 1]}')
        return Answer(body={**body, "usage": {**body["usage"], "cost": 0.125}})  # as OpenRouter does

    rerank_server.rule = rule
    for options in ({}, {"price": Price(per_million_tokens=2.0)}):
        usage = ask(make_llm(**options)).usage
        assert (usage.cost, usage.estimated) == (0.125, ())


def test_a_ceiling_of_cost_counts_the_windows_to_come(ask: Ask, rerank_server: RerankServer, make_llm: Any) -> None:
    price = Price(per_million_tokens=2.0, per_million_output_tokens=10.0)
    cost = make_llm(price=price).estimate(QUERY, MANY).cost
    with pytest.raises(CostExceeded, match=r"limits\.cost_per_call"):
        ask(make_llm(price=price, limits=Limits(cost_per_call=cost / 2)), MANY)
    assert not rerank_server.received
    assert len(ask(make_llm(price=price, limits=Limits(cost_per_call=cost * 2)), MANY)) == 60


@pytest.mark.parametrize("mode", ["listwise", "pointwise", "pairwise"])
def test_the_estimate_tells_the_requests(mode: str, ask: Ask, rerank_server: RerankServer, make_llm: Any) -> None:
    reranker = make_llm(mode=mode, top=2)
    for texts in ([], [" "], MANY[:1], MANY[:7], MANY[:21]):
        rerank_server.reset()
        if texts:
            ask(reranker, texts)
        expected = reranker.estimate(QUERY, texts).requests
        sent = len(rerank_server.received)
        assert sent <= expected if mode == "pairwise" else sent == expected


def test_another_model_that_answers_is_told(ask: Ask, rerank_server: RerankServer, make_llm: Any) -> None:
    rerank_server.rule = lambda request: Answer(
        body={**completion(request.body, '{"ranking": [2, 1]}'), "model": "small"}
    )
    with pytest.warns(UserWarning, match="the server answered with 'small'"):
        assert ask(make_llm(model="large")).degraded
    rerank_server.rule = lambda request: Answer(
        body={**completion(request.body, '{"ranking": [2, 1]}'), "model": "gpt-4o-mini-2024-07-18"}
    )
    assert not ask(make_llm(model="gpt-4o-mini")).degraded


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_a_failure_ends_the_requests_beside_it(ask: Ask, rerank_server: RerankServer, make_llm: Any) -> None:
    def rule(request: Received) -> Answer:
        return Answer(401) if request.texts[0] == MANY[1] else Answer()

    rerank_server.rule = rule
    with pytest.raises(AuthenticationError) as caught:
        ask(make_llm(mode="pointwise", parallel=2), MANY)
    assert len(rerank_server.received) < 10
    sent = caught.value.trace.attempts  # type: ignore[union-attr]
    assert 0 <= sent - len(rerank_server.received) <= 1  # the one beside it may have been cancelled on its way
    gc.collect()  # anyio leaves a connection that is cancelled while it is made to the collector, which warns of it


def test_clients_of_the_sdk_can_be_passed_in(rerank_server: RerankServer) -> None:
    import openai

    url = rerank_server.base("chat")
    rerank_server.then(Answer(500))
    with openai.OpenAI(api_key="k", base_url=url, max_retries=5) as client:
        reranker = LlmReranker(model="m", client=client, retry=RetryPolicy(attempts=1))
        with pytest.raises(BackendUnavailable):
            reranker.rerank(QUERY, TEXTS)
        assert len(rerank_server.received) == 1
        assert ids(reranker.rerank(QUERY, TEXTS)) == ["1", "0"]
        assert rerank_server.received[-1].headers["authorization"] == "Bearer k"
        reranker.close()
        assert not client.is_closed()

    async def ask() -> Ranking:
        async with openai.AsyncOpenAI(api_key="k", base_url=url) as client:
            reranker = LlmReranker(model="m", async_client=client)
            with pytest.raises(ConfigError, match="async_client only"):
                await asyncio.to_thread(reranker.rerank, QUERY, TEXTS)
            return await reranker.arerank(QUERY, TEXTS)

    assert ids(asyncio.run(ask())) == ["1", "0"]


def test_the_url_of_the_environment_is_used(rerank_server: RerankServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", rerank_server.base("chat"))
    with LlmReranker(model="m") as reranker:
        assert len(reranker.rerank(QUERY, TEXTS)) == 2
    assert len(rerank_server.received) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": ""}, "model: name the model"),
        ({"mode": "list"}, "mode: unknown mode 'list'"),
        ({"window": 1}, "window: must be a whole number of at least 2"),
        ({"window": 10, "stride": 10}, "stride: windows of 10 texts that move by 10 share none"),
        ({"passes": 0}, "passes"),
        ({"shuffles": -1}, "shuffles"),
        ({"parallel": 0}, "parallel"),
        ({"temperature": 3}, "temperature"),
        ({"context": 0}, "context"),
        ({"score_by": "guess"}, "score_by"),
        ({"response_format": "xml"}, "response_format"),
        ({"instruction": " "}, "instruction is blank"),
        ({"llm": object()}, "llm: expected a chat model of LangChain or an LLM of LlamaIndex, got object"),
        ({"price": Price(per_thousand_search_units=1.0), "model": ""}, "model"),
    ],
)
def test_what_cannot_work_is_refused_at_once(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        LlmReranker(**{"model": "m", **options})


def test_what_needs_scores_refuses_places() -> None:
    llm = LlmReranker(model="m", api_key="k")
    ranking = ScriptedReranker(by_text={"a": 1.0}, answers_on="rank").rerank("q", ["a", "b"])
    page = "explanation/scores/"
    for make in (
        lambda: pack(ranking, min_score=0.5, min_score_scale="rank"),
        lambda: Calibrated(reranker=llm, map="map.json"),
        lambda: Windows(reranker=llm, tokens=100, tokenizer="x", pool="mean"),
        lambda: RelevantSpans(reranker=LexicalReranker(), by=llm),
    ):
        with pytest.raises(ConfigError) as caught:
            make()
        assert caught.value.url is not None and caught.value.url.endswith(page)
    for mode in ("listwise", "pairwise"):
        with pytest.raises(ConfigError, match="depends on the other texts"):
            Cached(reranker=LlmReranker(model="m", mode=mode))
    for options, reason in (({}, "score_by"), ({"score_by": "grade", "temperature": 1}, "temperature 0")):
        with pytest.raises(ConfigError, match=reason):
            Cached(reranker=LlmReranker(model="m", mode="pointwise", **options))
    Cached(reranker=LlmReranker(model="m", mode="pointwise", score_by="grade"))
    assert pack(ranking, min_score=0.5, min_score_scale="sigmoid").notes == (
        "min_score=0.5 was not applied: it was written for sigmoid scores, and these are rank",
    )


def test_places_can_be_fused_and_waited_for(ask: Ask, make_llm: Any) -> None:
    ensemble = Ensemble(members=(make_llm(window=60), LexicalReranker()))
    ranking = ask(ensemble, MANY)
    assert (ranking.scale, len(ranking)) == ("unbounded", 60)
    late = ask(Deadline(reranker=make_llm(window=60), seconds=30, on_late="partial"), MANY)
    assert (late.scale, ids(late)) == ("rank", best())


def test_the_config_round_trip_and_the_short_name() -> None:
    reranker = build("llm:qwen3:8b", base_url="http://127.0.0.1:11434/v1", mode="pointwise")
    assert isinstance(reranker, LlmReranker)
    assert (reranker.model, reranker.label) == ("qwen3:8b", "llm:qwen3:8b")
    assert build(to_config(reranker)) == reranker


def test_a_judge_with_noise_is_heard_as_it_speaks(ask: Ask, rerank_server: RerankServer, make_llm: Any) -> None:
    """What the model says decides, not what the judge of the other tests would say."""

    def rule(request: Received) -> Answer:
        question = Question.read(request.body["messages"])
        scores = [-relevance(QUERY, text) for text in question.passages]
        return Answer(body=completion(request.body, answer_of(question, scores)[0]))

    rerank_server.rule = rule
    assert ids(ask(make_llm(window=60), MANY)) == [
        str(i) for i in sorted(range(60), key=lambda i: relevance(QUERY, MANY[i]))
    ]


def test_candidates_keep_their_metadata(make_llm: Any) -> None:
    candidates = [Candidate(f"d{i}", text, metadata={"n": i}) for i, text in enumerate(MANY[:5])]
    for hit in make_llm().rerank(QUERY, candidates):
        assert hit.candidate is candidates[hit.candidate.metadata["n"]]
        assert hit.score is not None and math.isfinite(hit.score)
