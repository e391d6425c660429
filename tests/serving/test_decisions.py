"""The shape of System One: what a reranker can answer of it, and what it refuses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from support.served import served

from rag_rerank import build
from rag_rerank.serving import ServerSettings
from rag_rerank.testing import ScriptedReranker

QUERY = "how tall is K2?"
TEXTS = ["Lake Garda is 346 m deep.", "K2 is 8,611 m high.", "K2 was first climbed in 1954."]
SCORES = {TEXTS[0]: 0.1, TEXTS[1]: 0.9, TEXTS[2]: 0.6}
BY_KEY = {f"doc_{i}": text for i, text in enumerate(TEXTS)}


def noul(words: str) -> dict[str, Any]:
    return {"type": "noul", "instructions": words, "criteria": {"true": "it does", "false": "it does not"}}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    settings = ServerSettings(max_texts=3, model_names=("mine",))
    with served(ScriptedReranker(by_text=SCORES, answers_on="relevance"), settings) as address:
        yield address


def ask(url: str, state: Any, questions: Any, **more: Any) -> httpx.Response:
    return httpx.post(f"{url}/v1/systemone", json={"state": state, "questions": questions, **more}, timeout=30)


@pytest.mark.parametrize(
    ("state", "questions", "expected"),
    [
        ({"query": QUERY, "passage": TEXTS[1]}, {"r": noul("Does this passage answer the query?")}, {"r": 0.9}),
        ({"query": QUERY, "document": TEXTS[0]}, {"r": noul("Does `document` help answer `query`?")}, {"r": 0.1}),
        (
            {"query": QUERY, "documents": BY_KEY, "rubric": {"a": "b"}},
            {f"q{i}": noul(f"Does `documents.doc_{i}` help answer `query`?") for i in (2, 0)},
            {"q2": 0.6, "q0": 0.1},
        ),
        (
            {"query": QUERY, "passages": [{"id": i + 10, "text": text} for i, text in enumerate(TEXTS)]},
            {f"p{i}": noul(f"Is passage {i + 10} relevant to the query?") for i in range(3)},
            {"p0": 0.1, "p1": 0.9, "p2": 0.6},
        ),
        ({"query": QUERY, "passages": TEXTS}, {"x": noul("Is passage 1 relevant to the query?")}, {"x": 0.9}),
    ],
    ids=["passage", "document", "documents by key", "passages with ids", "passages"],
)
def test_questions_about_relevance_are_answered(url: str, state: Any, questions: Any, expected: Any) -> None:
    answer = ask(url, state, questions, model="mine")
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert {name: row["noul"] for name, row in body["answers"].items()} == expected
    assert {row["type"] for row in body["answers"].values()} == {"noul"}
    assert (body["model"], body["scale"], body["usage"]["output_tokens"]) == ("mine", "relevance", 0)
    assert "state.query" in body["warnings"][0] and "state.query" in answer.headers["x-rerank-warnings"]
    assert ("not applied: state.rubric" in body["warnings"]) == ("rubric" in state)


ONE = {"query": QUERY, "passage": "a"}
TWO = {"query": QUERY, "passages": ["a", "b"]}
GOOD = noul("Is passage 0 relevant to the query?")


@pytest.mark.parametrize(
    ("state", "questions", "words"),
    [
        ("a text", {"q": GOOD}, "query"),
        ({"passage": "a"}, {"q": GOOD}, "query"),
        ({"query": QUERY}, {"q": GOOD}, "no texts"),
        ({"query": QUERY, "passage": "a", "document": "b"}, {"q": GOOD}, "passage and document"),
        ({"query": QUERY, "passages": []}, {"q": GOOD}, "empty"),
        ({"query": QUERY, "passages": ["a"] * 4}, {"q": GOOD}, "at most 3"),
        ({"query": QUERY, "passages": ["a", 3]}, {"q": GOOD}, "state.passages[1]"),
        ({"query": QUERY, "passages": [{"id": 1, "text": "a"}] * 2}, {"q": GOOD}, "twice"),
        (ONE, {}, "questions"),
        (ONE, {"q": {"type": "score", "instructions": "x", "criteria": ["a", "b"]}}, "'score'"),
        (ONE, {"q": {"type": "choice", "criteria": {"a": None}}}, "'choice'"),
        (ONE, {"q": {"type": "noul", "criteria": {"true": "relevant to the query"}}}, "instructions"),
        (ONE, {"q": noul("Is this passage spam?")}, "relevan"),
        (ONE, {"q": noul("Is the query a question?")}, "relevan"),
        (ONE, {"a": noul("Does it answer the query?"), "b": noul("Is it relevant to the query?")}, "one number"),
        (TWO, {"q": noul("Is passage 7 relevant to the query?")}, "names 0 passages"),
        (TWO, {"q": noul("Does passage 0 help with the query more than passage 1?")}, "names 2 passages"),
        (TWO, {"a": GOOD, "b": GOOD}, "questions.a"),
    ],
)
def test_what_a_reranker_cannot_answer_is_refused(url: str, state: Any, questions: Any, words: str) -> None:
    answer = ask(url, state, questions)
    assert answer.status_code == 400
    assert words in answer.json()["detail"] == answer.json()["message"]


@pytest.mark.parametrize("texts", [["a", "b"], [" ", " "]])
def test_scores_that_are_no_numbers_from_0_to_1_are_refused(texts: list[str]) -> None:
    with served(ScriptedReranker(by_text={"a": 3.0, "b": -2.0})) as url:
        state = {"query": QUERY, "passages": texts}
        answer = ask(url, state, {f"q{i}": noul(f"Is passage {i} relevant to the query?") for i in range(2)})
        assert (answer.status_code, "0 to 1" in answer.json()["message"]) == (400, True)


@pytest.mark.parametrize("way", ["yesno", "pair"])
def test_our_own_decision_backend_gets_the_scores(url: str, way: str) -> None:
    with build("decisions:mine", base_url=url, ask=way, api_key="k") as reranker:
        ranking = reranker.rerank(QUERY, TEXTS)
    assert [(hit.text, hit.score) for hit in ranking] == sorted(SCORES.items(), key=lambda row: -row[1])


def test_models_are_listed_as_decision_models_list_them(url: str) -> None:
    assert [row["name"] for row in httpx.get(f"{url}/v1/models").json()["models"]] == ["mine"]
