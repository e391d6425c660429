"""Decision models of LangChain as rerankers: what they are asked, what becomes of their answers and of their errors."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.api.providers import QUERY, TEXTS, Ask
from support.api.wire_formats import relevance

import rag_rerank
from rag_rerank import BadResponse, Cached, ConfigError, Reranker, to_config
from rag_rerank.backends.api.retry import RetryPolicy
from rag_rerank.backends.decisions import DecisionsReranker
from rag_rerank.errors import SubstitutionWarning
from rag_rerank.testing import RerankerContract

decisions = pytest.importorskip("langchain_core.decisions", reason="needs langchain-core 1.8, and so Python 3.11")
exceptions = pytest.importorskip("langchain_core.exceptions")


class FakeDecisions(decisions.BaseDecisionModel):  # type: ignore[name-defined, misc]
    """A decision model that judges by shared words; ``change`` damages answers, and ``failures`` are raised first."""

    model: str = "fake-1"
    change: Any = None
    failures: Any = None
    requests: Any = None
    asynchronous: bool = False

    @property
    def _provider(self) -> str:
        return "fake"

    def _classify(self, state: Any, questions: Any) -> Any:
        if self.requests is not None:
            self.requests.append((state, questions, self.asynchronous))
        if self.failures:
            raise self.failures.pop(0)
        texts = [state["passage"]] if "passage" in state else [passage["text"] for passage in state["passages"]]
        answers = {}
        for (name, question), text in zip(questions.items(), texts, strict=True):
            value = relevance(state["query"], text)
            if isinstance(question, decisions.Noul):
                answers[name] = decisions.NoulAnswer(type="noul", noul=value)
            else:
                low = min(int(3 * value), 2)
                shares = dict.fromkeys(range(4), 0.0) | {low: 1 + low - 3 * value, low + 1: 3 * value - low}
                legend = dict(enumerate(question.criteria))
                answers[name] = decisions.ScoreAnswer(
                    type="score", score=3 * value, legend=legend, probabilities=shares, confidence=0.5
                )
        usage = {"input_tokens": 321, "output_tokens": 2}
        response = decisions.ClassifierResponse(model=self.model, answers=answers, usage=usage)
        return self.change(response) if self.change else response

    async def _aclassify(self, state: Any, questions: Any) -> Any:
        await asyncio.sleep(0)
        return self.model_copy(update={"asynchronous": True})._classify(state, questions)


@pytest.mark.parametrize("way", ["rubric", "yesno", "pair"])
class TestContract(RerankerContract):
    @pytest.fixture
    def reranker(self, way: Any) -> Iterator[Reranker]:
        yield DecisionsReranker(model=FakeDecisions(), ask=way)

    def test_config_round_trip(self, reranker: Reranker) -> None:
        with pytest.raises(ConfigError, match="no config can express"):
            to_config(reranker)


@pytest.mark.parametrize("way", ["rubric", "yesno", "pair"])
def test_it_is_asked_our_questions_in_its_own_types(way: Any, ask: Ask, request: pytest.FixtureRequest) -> None:
    requests: list[Any] = []
    ranking = ask(DecisionsReranker(model=FakeDecisions(requests=requests), ask=way))
    assert {hit.text: hit.score for hit in ranking} == pytest.approx({text: relevance(QUERY, text) for text in TEXTS})
    assert (ranking.scale, ranking.trace.model, ranking.trace.step) == ("relevance", "fake-1", "decisions:fake-1")
    assert ranking.usage.tokens == 321 * len(requests) and ranking.usage.cost is None
    assert len(requests) == (2 if way == "pair" else 1)
    kind = decisions.Score if way == "rubric" else decisions.Noul
    for _, questions, is_async in requests:
        assert all(isinstance(question, kind) for question in questions.values())
        assert is_async == ("async" in request.node.name.rpartition("[")[2])


@pytest.mark.parametrize(
    ("error", "expected", "attempts"),
    [
        ("ModelRateLimitError", "RateLimited", 2),
        ("ModelAPIError", "BackendUnavailable", 2),
        ("ModelConnectionError", "BackendUnavailable", 2),
        ("ModelTimeoutError", "BackendTimeout", 2),
        ("ModelAuthenticationError", "AuthenticationError", 1),
        ("ModelPermissionDeniedError", "AuthenticationError", 1),
        ("ModelInvalidRequestError", "RequestRejected", 1),
        ("ModelNotFoundError", "RequestRejected", 1),
        ("TimeoutError", "BackendTimeout", 2),
        ("ConnectionError", "BackendUnavailable", 2),
        ("RuntimeError", "BackendError", 1),
    ],
)
def test_its_errors_become_ours_and_those_that_may_pass_are_tried_again(
    error: str, expected: str, attempts: int, ask: Ask
) -> None:
    kind = getattr(exceptions, error, None) or getattr(__import__("builtins"), error)
    words = f"no: {TEXTS[0]} Bearer sk-abcdefghijklmnopqrstuvwx"
    failures, requests = [kind(words), kind(words)], list[Any]()
    model = FakeDecisions(failures=failures, requests=requests)
    with pytest.raises(rag_rerank.BackendError) as caught:
        ask(DecisionsReranker(model=model, retry=RetryPolicy(attempts=2, first_wait=0, jitter=0)))
    assert type(caught.value) is getattr(rag_rerank, expected)
    assert len(requests) == attempts
    assert TEXTS[0] not in str(caught.value) and "sk-abc" not in str(caught.value)
    assert caught.value.__cause__ is caught.value.__context__ is None


def test_a_context_that_is_too_small_halves_the_request(ask: Ask) -> None:
    requests: list[Any] = []
    model = FakeDecisions(failures=[exceptions.ContextOverflowError("too long")], requests=requests)
    ranking = ask(DecisionsReranker(model=model))
    assert [len(questions) for _, questions, _ in requests] == [2, 1, 1]
    assert all(hit.score is not None for hit in ranking)


def test_a_refusal_leaves_texts_without_a_score(ask: Ask) -> None:
    refusal = exceptions.ModelRefusalError("no")
    ranking = ask(DecisionsReranker(model=FakeDecisions(failures=[refusal]), ask="pair"))
    assert [(hit.text, hit.score, hit.unscored) for hit in ranking] == [
        (TEXTS[1], pytest.approx(relevance(QUERY, TEXTS[1])), None),
        (TEXTS[0], None, "the model refused to judge it"),
    ]
    assert ranking.degraded == ("decisions:fake-1 refused to judge 1 of 2 texts, which have no score",)


DAMAGES: dict[str, Callable[[Any], Any]] = {
    "no answers": lambda response: None,
    "one missing": lambda response: response.model_copy(update={"answers": dict(list(response.answers.items())[:1])}),
    "another name": lambda response: response.model_copy(
        update={"answers": {f"x{name}": answer for name, answer in response.answers.items()}}
    ),
    "NaN": lambda response: response.model_copy(
        update={
            "answers": {
                name: answer.model_copy(update={"noul": float("nan")}) for name, answer in response.answers.items()
            }
        }
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_an_answer_that_is_not_one_number_for_each_question_is_refused(damage: str, ask: Ask) -> None:
    with pytest.raises(BadResponse):
        ask(DecisionsReranker(model=FakeDecisions(change=DAMAGES[damage]), ask="yesno"))


def test_another_model_than_the_one_asked_is_a_substitution(ask: Ask) -> None:
    model = FakeDecisions(change=lambda response: response.model_copy(update={"model": "other-2"}))
    with pytest.warns(
        SubstitutionWarning, match="asked for the model 'fake-1', and the server answered with 'other-2'"
    ):
        assert ask(DecisionsReranker(model=model)).degraded


def test_it_has_its_own_address_and_no_config() -> None:
    reranker = DecisionsReranker(model=FakeDecisions(), ask="pair")
    with pytest.raises(ConfigError, match="injected client has its own key and URL"):
        DecisionsReranker(model=FakeDecisions(), api_key="a-key-of-mine")
    with pytest.raises(ConfigError, match="not both"):
        DecisionsReranker(model=FakeDecisions(), client=FakeDecisions())
    with pytest.raises(ConfigError):
        to_config(reranker)
    with pytest.raises(ConfigError, match="injected client"):
        Cached(reranker=reranker)
    assert "fake-1" in repr(reranker) and reranker.model == "fake-1"
    reranker.warm_up()
    reranker.close()


def test_a_runnable_of_another_kind_is_an_error_that_says_what_is_needed() -> None:
    from langchain_core.runnables import RunnableLambda

    with pytest.raises(ConfigError, match="a RunnableLambda is no model id and no BaseDecisionModel"):
        DecisionsReranker(model=RunnableLambda(lambda request: request))


def test_it_works_in_the_retriever_of_langchain() -> None:
    from langchain_core.documents import Document
    from langchain_core.runnables import RunnableLambda
    from langchain_rag_rerank import RagRerankRetriever

    first_stage = RunnableLambda(lambda query: [Document(text) for text in TEXTS])
    reranker = DecisionsReranker(model=FakeDecisions())
    retriever = RagRerankRetriever(base_retriever=first_stage, reranker=reranker, top_k=1)
    assert retriever.invoke(QUERY)[0].page_content == TEXTS[1]
    assert asyncio.run(retriever.ainvoke(QUERY))[0].page_content == TEXTS[1]
