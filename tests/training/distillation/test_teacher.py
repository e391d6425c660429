"""Asking a teacher: its cost is estimated first, every answer is stored, nothing is paid twice."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.api.rerank_server import Answer, RerankServer

from rag_rerank import AuthenticationError, CostExceeded, Fallback, build
from rag_rerank.backends.cohere import CohereReranker, Price
from rag_rerank.backends.http import RetryPolicy
from rag_rerank.base import Reranker
from rag_rerank.errors import BackendUnavailable, BillingError, ConfigError, InputError
from rag_rerank.evaluation import JudgedQuery
from rag_rerank.testing import ScriptedReranker
from rag_rerank.training.data.examples import Source
from rag_rerank.training.distillation.candidates import propose, spread
from rag_rerank.training.distillation.corpus import Corpus, CorpusDocument
from rag_rerank.training.distillation.pseudo_queries import Query
from rag_rerank.training.distillation.teacher import Teacher

ANIMALS = ("snake", "gecko", "newt", "crane", "dragon", "turtle", "frog", "toad", "ibis", "heron", "stork", "egret")
DOCUMENTS = tuple(
    CorpusDocument(id=f"{animal}{i}", title="", body=f"The {animal} number {i} eats and sleeps {'well ' * i}")
    for animal in ANIMALS
    for i in range(4)
)
CORPUS = Corpus(name="animals", licence=None, path="animals.txt", sha256="0" * 64, documents=DOCUMENTS, problems=())
QUERIES = tuple(Query(text=f"what does the {animal} eat", rule="question", document=f"{animal}3") for animal in ANIMALS)
SOURCE = Source(name="animals", licence=None, path="animals.txt", sha256="0" * 64, queries=12, pairs=96)
UNITS = Price(per_thousand_search_units=2.0)


@pytest.fixture
def questions() -> list[JudgedQuery]:
    return propose(CORPUS, QUERIES, depth=8)


@pytest.fixture(autouse=True)
def no_keys(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("CO_API_KEY", "COHERE_API_KEY", "CO_API_URL"):
        monkeypatch.delenv(name, raising=False)
    yield


def api(server: RerankServer, **options: Any) -> Reranker:
    defaults = {"api_key": "kEy-7f3aQz0Lw9", "base_url": server.url, "retry": RetryPolicy(attempts=1), "price": UNITS}
    return CohereReranker(model="rerank-v3.5", **{**defaults, **options})


def teacher_of(reranker: Reranker, questions: list[JudgedQuery], folder: Path, **options: Any) -> Teacher:
    return Teacher(reranker=reranker, questions=questions, records=folder, **options)


def billed(units: int) -> Answer:
    """Return a correct answer that bills this many search units."""

    def add_bill(body: bytes) -> bytes:
        answer = json.loads(body)
        answer["meta"] = {**answer.get("meta", {}), "billed_units": {"search_units": units}}
        return json.dumps(answer).encode()

    return Answer(content=add_bill)


def test_candidates_are_dense_at_the_top_and_some_are_random(questions: list[JudgedQuery]) -> None:
    assert spread(100, 14) == [0, 1, 2, 3, 4, 5, 7, 11, 16, 23, 34, 48, 69, 99]
    assert spread(3, 14) == [0, 1, 2]
    for question, query in zip(questions, QUERIES, strict=True):
        origins = [candidate.metadata["origin"] for candidate in question.candidates]
        assert len(question.candidates) == 8 == len({candidate.id for candidate in question.candidates})
        assert origins.count("random") == 1 and origins[-1] == "random"
        assert [c.id for c in question.candidates if c.metadata["origin"] == "positive"] == [query.document]
    assert questions == propose(CORPUS, QUERIES, depth=8)
    assert questions != propose(CORPUS, QUERIES, depth=8, seed=1)


def test_a_query_that_shares_no_word_with_the_corpus_gets_its_own_passage_and_random_ones() -> None:
    (question,) = propose(CORPUS, [Query(text="zzz", rule="title", document="newt1")], depth=6)
    assert [candidate.metadata["origin"] for candidate in question.candidates] == ["positive", *["random"] * 5]


def test_a_corpus_of_one_passage_is_refused() -> None:
    with pytest.raises(InputError, match="two passages"):
        propose(replace(CORPUS, documents=DOCUMENTS[:1]), QUERIES, depth=8)


def test_raw_scores_and_their_teacher_are_returned(questions: list[JudgedQuery], tmp_path: Path) -> None:
    teacher = ScriptedReranker(by_text={d.text: float(i) for i, d in enumerate(DOCUMENTS)}, answers_on="sigmoid")
    scores = teacher_of(teacher, questions, tmp_path).ask(SOURCE)
    by_text = {p.text: p.teacher for example in scores.examples.examples for p in example.passages}
    assert by_text == {text: teacher.by_text[text] for text in by_text}
    assert [example.query for example in scores.examples.examples] == [query.text for query in QUERIES]
    assert scores.teacher["label"] == "scripted" and scores.teacher["scale"] == "sigmoid"
    assert len(scores.teacher["identity"]) == 64
    assert scores.examples.problems == ()


def test_an_estimate_counts_texts_units_and_money_and_sends_nothing(
    questions: list[JudgedQuery], tmp_path: Path, rerank_server: RerankServer
) -> None:
    estimate = teacher_of(api(rerank_server), questions, tmp_path).estimate()
    assert (estimate.queries, estimate.pairs, estimate.stored) == (12, 96, 0)
    assert (estimate.ahead.texts, estimate.ahead.search_units) == (96, 12)
    assert estimate.cost == pytest.approx(0.024)
    assert "12 search units" in str(estimate) and "$0.024" in str(estimate)
    assert rerank_server.received == []


def test_a_local_teacher_costs_no_money_and_says_so(questions: list[JudgedQuery], tmp_path: Path) -> None:
    estimate = teacher_of(build("lexical"), questions, tmp_path).estimate()
    assert estimate.cost == 0 and "costs no money" in str(estimate)


def test_a_missing_key_is_an_error_before_anything_is_sent(
    questions: list[JudgedQuery], tmp_path: Path, rerank_server: RerankServer
) -> None:
    with pytest.raises(AuthenticationError, match="needs an API key"):
        teacher_of(api(rerank_server, api_key=None), questions, tmp_path).estimate()
    assert rerank_server.received == []


def test_an_estimate_above_the_ceiling_is_refused(
    questions: list[JudgedQuery], tmp_path: Path, rerank_server: RerankServer
) -> None:
    with pytest.raises(CostExceeded, match=r"nothing was asked.*\$0\.024.*ceiling is \$0\.02"):
        teacher_of(api(rerank_server), questions, tmp_path, ceiling=0.02).estimate()
    assert rerank_server.received == []


def test_a_ceiling_without_a_price_is_refused(
    questions: list[JudgedQuery], tmp_path: Path, rerank_server: RerankServer
) -> None:
    teacher = Fallback(members=(api(rerank_server, price=None), build("lexical")))
    with pytest.raises(ConfigError, match=r"ceiling: .*none is known for cohere:rerank-v3.5"):
        teacher_of(teacher, questions, tmp_path, ceiling=1.0).estimate()
    assert "is not known here" in str(teacher_of(teacher, questions, tmp_path).estimate())


def test_a_teacher_without_a_config_is_refused(questions: list[JudgedQuery], tmp_path: Path) -> None:
    class Listwise(ScriptedReranker):
        why_not_cacheable = "it reads all texts together"  # type: ignore[assignment]

    with pytest.raises(ConfigError, match="paid twice"):
        teacher_of(Listwise(), questions, tmp_path).estimate()


def test_a_teacher_that_fails_midway_says_what_is_stored_and_is_asked_for_the_rest_only(
    questions: list[JudgedQuery], tmp_path: Path, rerank_server: RerankServer
) -> None:
    teacher = teacher_of(api(rerank_server), questions, tmp_path)
    rerank_server.then(*[Answer()] * 5, Answer(402))
    with pytest.raises(BillingError, match="5 of 12 queries are answered and stored"):
        teacher.ask(SOURCE)
    assert len(rerank_server.received) == 6
    again = teacher.estimate()
    assert (again.stored, again.ahead.requests, again.stored_cost) == (5, 7, pytest.approx(0.01))
    scores = teacher.ask(SOURCE)
    assert len(rerank_server.received) == 6 + 7
    assert len(scores.examples.examples) == 12
    assert scores.usage.cost == pytest.approx(0.024)
    teacher.ask(SOURCE)
    assert len(rerank_server.received) == 6 + 7


def test_a_teacher_that_is_down_is_not_asked_after_ten_queries(
    questions: list[JudgedQuery], tmp_path: Path, rerank_server: RerankServer
) -> None:
    rerank_server.rule = lambda request: Answer(503)
    with pytest.raises(BackendUnavailable, match="0 of 12 queries are answered"):
        teacher_of(api(rerank_server), questions, tmp_path).ask(SOURCE)
    assert len(rerank_server.received) == 10


def test_a_single_failure_is_counted_and_asked_again_by_the_next_run(
    questions: list[JudgedQuery], tmp_path: Path, rerank_server: RerankServer
) -> None:
    teacher = teacher_of(api(rerank_server), questions, tmp_path)
    rerank_server.then(Answer(503))
    scores = teacher.ask(SOURCE)
    assert [(problem.kind, problem.count) for problem in scores.examples.problems] == [
        ("queries on which the teacher failed, left out", 1)
    ]
    assert len(scores.examples.examples) == 11
    assert len(teacher.ask(SOURCE).examples.examples) == 12
    assert len(rerank_server.received) == 13


def test_answers_dearer_than_their_estimate_stop_before_the_ceiling(
    questions: list[JudgedQuery], tmp_path: Path, rerank_server: RerankServer
) -> None:
    rerank_server.rule = lambda request: billed(3)
    teacher = teacher_of(api(rerank_server), questions, tmp_path, ceiling=0.025)
    teacher.estimate()
    with pytest.raises(CostExceeded, match=r"3 times their estimate.*4 of 12 queries are answered and stored"):
        teacher.ask(SOURCE)
    assert len(rerank_server.received) == 4  # of $0.006 each; a fifth would pass $0.025
    scores = replace(teacher, ceiling=0.08).ask(SOURCE)
    assert len(rerank_server.received) == 12
    assert scores.usage.cost == pytest.approx(0.072)


def test_several_workers_do_not_pass_the_ceiling_together(
    questions: list[JudgedQuery], tmp_path: Path, rerank_server: RerankServer
) -> None:
    rerank_server.rule = lambda request: billed(2)
    teacher = teacher_of(api(rerank_server), questions, tmp_path, ceiling=0.03, workers=4)
    with pytest.raises(CostExceeded):
        teacher.ask(SOURCE)
    assert teacher.records == tmp_path
    estimate = replace(teacher, ceiling=None).estimate()
    assert estimate.stored == len(rerank_server.received)
    assert estimate.stored_cost <= 0.03 + 4 * 0.002  # what was on its way when the first answers turned out dearer


def test_answers_of_a_substitute_are_left_out_and_asked_for_again(
    questions: list[JudgedQuery], tmp_path: Path, rerank_server: RerankServer
) -> None:
    teacher = teacher_of(Fallback(members=(api(rerank_server), build("lexical"))), questions, tmp_path)
    rerank_server.then(Answer(503), Answer(503))
    scores = teacher.ask(SOURCE)
    assert [(problem.kind, problem.count) for problem in scores.examples.problems] == [
        ("queries that another reranker answered for the teacher, left out", 2)
    ]
    requests = [request.body["query"] for request in rerank_server.received]
    assert [example.query for example in scores.examples.examples] == requests[2:]
    assert teacher.estimate().stored == 10
    assert len(teacher.ask(SOURCE).examples.examples) == 12
    assert len(rerank_server.received) == 14


def test_from_a_teacher_with_one_score_for_all_nothing_can_be_learned(
    questions: list[JudgedQuery], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="all have one score"):
        teacher_of(ScriptedReranker(), questions, tmp_path).ask(SOURCE)
