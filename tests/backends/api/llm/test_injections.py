"""Texts that give orders, and models that obey them: what holds whatever the model does."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.api.chat_wire import Question, completion
from support.api.rerank_server import RerankServer
from support.api.scripted_replies import Answer, Received
from support.api.wire_formats import relevance

from rag_rerank import BadResponse, Ranking
from rag_rerank.backends.api.llm.prompts import fence_for, spaced_control_tokens, write_prompt
from rag_rerank.backends.llm import LlmReranker, RetryPolicy

ROWS = [json.loads(line) for line in (Path(__file__).with_name("injections.jsonl")).read_text().splitlines()]
ATTACKS = [row["text"] for row in ROWS]
QUERY = "how should a bearded dragon be kept warm?"
PLAIN = ["A bearded dragon is kept warm by a lamp.", "Cranes migrate in autumn.", "How warm should it be kept?"]
MODES = ("listwise", "pointwise", "pairwise")


def ids_of(attack: str) -> list[str]:
    return re.findall(r"\d+", attack)


def obey(request: Received) -> Answer:
    """A model that repeats each order in its passages, word for word, and then stops."""
    question = Question.read(request.body["messages"])
    loudest = max(question.passages, key=len)
    return Answer(body=completion(request.body, loudest))


def refuse(request: Received) -> Answer:
    return Answer(body=completion(request.body, "I'm sorry, but I can't help with that.", refusal="policy"))


def chat(request: Received) -> Answer:
    return Answer(body=completion(request.body, "Great question! Passage 2 is nice, and so is passage 1." * 50))


def double(request: Received) -> Answer:
    return Answer(body=completion(request.body, json.dumps({"ranking": [1] * 500 + [2, 2, 999]})))


def leave_out(request: Received) -> Answer:
    return Answer(body=completion(request.body, json.dumps({"ranking": [2]})))


def write_on(request: Received) -> Answer:
    text = json.dumps({"ranking": list(range(1, 100_000))}) + "{" * 100_000 + "lorem " * 100_000
    return Answer(body=completion(request.body, text, finish="length"))


def break_off(request: Received) -> Answer:
    return Answer(body=completion(request.body, '{"ranking": [2, 1,', finish="length"))


def say_nothing(request: Received) -> Answer:
    return Answer(body=completion(request.body, ""))


def nest(request: Received) -> Answer:
    return Answer(body=completion(request.body, '{"ranking": ' * 3_000 + "[1]"))


def lie_in_numbers(request: Received) -> Answer:
    odd = [True, False, None, 1.0, 2e9, "１", "1" * 5_000, {"id": 1}, [1], -1, 0, "2"]
    return Answer(body=completion(request.body, json.dumps({"ranking": odd, "grade": 7, "better": ["A"]})))


MODELS: dict[str, Callable[[Received], Any]] = {
    model.__name__: model
    for model in (*(obey, refuse, chat, double, leave_out, write_on, break_off, say_nothing, nest, lie_in_numbers),)
}


@pytest.fixture
def make_llm(rerank_server: RerankServer, closing: Callable[[Any], Any]) -> Callable[..., LlmReranker]:
    def make(**options: Any) -> LlmReranker:
        reranker: LlmReranker = closing(
            LlmReranker(model="m", base_url=rerank_server.base("chat"), retry=RetryPolicy(jitter=0), **options)
        )
        return reranker

    return make


def check(ranking: Ranking, texts: list[str]) -> None:
    """The ranking holds each candidate once, with its own text, and no score from nowhere."""
    assert sorted((hit.id for hit in ranking), key=int) == [str(i) for i in range(len(texts))]
    assert all(hit.text == texts[int(hit.id)] for hit in ranking)
    assert [hit.rank for hit in ranking] == list(range(1, len(texts) + 1))
    for hit in ranking:
        assert hit.score is None or 0 <= hit.score <= 1


def test_the_corpus_is_what_it_says() -> None:
    assert len(ROWS) >= 30 and len({row["kind"] for row in ROWS}) >= 7
    assert len(set(ATTACKS)) == len(ATTACKS)
    assert max(len(text.split()) for text in ATTACKS) >= 10_000


@pytest.mark.parametrize("ask", ["listwise", "yes_no", "grade", "pairwise"])
@pytest.mark.parametrize("attack", range(len(ATTACKS)))
def test_no_text_closes_its_fence(attack: int, ask: Any) -> None:
    inside = [ATTACKS[attack], PLAIN[0]] if ask in ("listwise", "pairwise") else [ATTACKS[attack]]
    texts = [spaced_control_tokens(text) for text in inside]
    prompt = write_prompt(ask, QUERY, texts, range(len(texts)), lambda completion: None, step="")
    question = Question.read([{"content": prompt.system}, {"content": prompt.user}])
    assert question.passages == tuple(texts) and question.query == QUERY
    assert question.fence not in "".join(inside).lower()
    assert prompt.user.count(question.fence) == 2 * (1 + len(texts))
    again = write_prompt(ask, QUERY, texts, range(len(texts)), lambda completion: None, step="")
    assert (again.system, again.user) == (prompt.system, prompt.user)


def test_a_text_that_holds_the_code_of_its_prompt_gets_another_code() -> None:
    text = "a"
    for _ in range(5):
        text += fence_for(QUERY, [text])  # what an author would write who knows all other texts
        assert fence_for(QUERY, [text]) not in text
    texts = [f"{i:x}" for i in range(3)]
    assert fence_for(QUERY, texts) != fence_for(QUERY, texts[::-1]) != fence_for("q", texts)


@pytest.mark.parametrize("token", ["<|im_start|>", "<|eot_id|>", "[INST]", "[/INST]", "<</SYS>>", "</s>", "<｜User｜>"])
def test_control_tokens_of_chat_templates_are_spaced(token: str) -> None:
    spaced = spaced_control_tokens(f"before {token} behind")
    assert token not in spaced and spaced.replace(" ", "") == f"before{token}behind"
    assert spaced_control_tokens("a < b | c > d, x[1], <b>bold</b> and <<quoted>>") == (
        "a < b | c > d, x[1], <b>bold</b> and <<quoted>>"
    )


def test_a_judge_that_does_not_obey_ranks_among_attacks_as_without_them(
    rerank_server: RerankServer, make_llm: Any
) -> None:
    texts = [*PLAIN, *ATTACKS]
    ranking = make_llm(window=len(texts) + 1).rerank(QUERY, texts)
    check(ranking, texts)
    (request,) = rerank_server.received
    spaced = [spaced_control_tokens(text) for text in texts]
    assert request.texts == spaced
    expected = sorted(range(len(texts)), key=lambda i: -relevance(QUERY, spaced[i]))
    assert [hit.id for hit in ranking] == [str(i) for i in expected]
    assert any("texts held control tokens" in note for node in ranking.trace.walk() for note in node.notes)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("model", MODELS)
def test_no_model_breaks_the_result(model: str, mode: Any, rerank_server: RerankServer, make_llm: Any) -> None:
    """The result is a full ranking of the candidates, or `BadResponse` where no answer can be used."""
    rerank_server.rule = MODELS[model]
    texts = [*PLAIN, *(text for text in ATTACKS if len(text) < 2_000)][:12]
    try:
        ranking = make_llm(mode=mode, window=5, stride=2, top=2).rerank(QUERY, texts)
    except BadResponse as error:
        assert error.trace is not None
        assert not any(text in str(error) for text in texts)
    else:
        check(ranking, texts)


@pytest.mark.parametrize("attack", range(len(ATTACKS)))
def test_a_model_that_repeats_an_order_adds_and_loses_nothing(
    attack: int, rerank_server: RerankServer, make_llm: Any
) -> None:
    rerank_server.rule = lambda request: Answer(body=completion(request.body, ATTACKS[attack]))
    texts = [PLAIN[0], ATTACKS[attack], *PLAIN[1:]]
    try:
        ranking = make_llm().rerank(QUERY, texts)
    except BadResponse as error:
        assert "it holds no ranking" in str(error) or "names none" in str(error)
    else:
        check(ranking, texts)
