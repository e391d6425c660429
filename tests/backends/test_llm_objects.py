"""Language models that the user passes in: of LangChain and of LlamaIndex, sync and async."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel, FakeListLLM, GenericFakeChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from llama_index.core.llms import ChatMessage, ChatResponse, CompletionResponse, CustomLLM, LLMMetadata, MockLLM
from support.api.chat_wire import Question, answer_of
from support.api.wire_formats import relevance

from rag_rerank import (
    AuthenticationError,
    BackendTimeout,
    BackendUnavailable,
    BadResponse,
    Cached,
    ConfigError,
    RateLimited,
    Reranker,
    to_config,
)
from rag_rerank.backends.llm import LlmReranker, RetryPolicy
from rag_rerank.testing import RerankerContract

QUERY = "how should a bearded dragon be kept warm?"
TEXTS = ["Cranes migrate.", "A bearded dragon is kept warm by a lamp.", "How should it be kept?"]
BEST = ["1", "2", "0"]
ONCE = RetryPolicy(attempts=1)


def judge(system: str, user: str) -> tuple[str, Any]:
    question = Question.read([{"content": system}, {"content": user}])
    return answer_of(question, [relevance(question.query, text) for text in question.passages])


class JudgingChatModel(BaseChatModel):
    """A chat model of LangChain; ``logprobs`` come in the shape of ChatOpenAI."""

    model_name: str = "judge-1"
    error: Any = None
    blocks: bool = False

    @property
    def _llm_type(self) -> str:
        return "judging"

    def _generate(
        self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        if self.error is not None:
            raise self.error
        text, logprobs = judge(str(messages[0].content), str(messages[1].content))
        message = AIMessage(
            content=[{"type": "text", "text": text}] if self.blocks else text,
            usage_metadata={"input_tokens": 100, "output_tokens": 7, "total_tokens": 107},
            response_metadata={
                "model_name": "judge-1-2026",
                "logprobs": {"content": logprobs} if kwargs.get("logprobs") else None,
            },
        )
        return ChatResult(generations=[ChatGeneration(message=message)])


class JudgingLlm(CustomLLM):
    """An LLM of LlamaIndex with the two methods that its documentation asks for."""

    error: Any = None

    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata(model_name="judge-2")

    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        raise NotImplementedError

    def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> Any:
        raise NotImplementedError

    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        if self.error is not None:
            raise self.error
        text, _ = judge(str(messages[0].content), str(messages[1].content))
        usage = {"prompt_tokens": 50, "completion_tokens": 5}
        return ChatResponse(message=ChatMessage(role="assistant", content=text), raw={"model": "j", "usage": usage})

    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        return self.chat(messages, **kwargs)


def both(reranker: Reranker, texts: Sequence[str] = TEXTS) -> list[Any]:
    return [reranker.rerank(QUERY, texts), asyncio.run(reranker.arerank(QUERY, texts))]


class TestLangChain(RerankerContract):
    in_registry = False

    @pytest.fixture
    def reranker(self) -> Iterator[Reranker]:
        with LlmReranker(llm=JudgingChatModel()) as reranker:
            yield reranker

    def test_config_round_trip(self, reranker: Reranker) -> None:
        with pytest.raises(ConfigError, match="llm is a live object"):
            to_config(reranker)


class TestLlamaIndex(TestLangChain):
    @pytest.fixture
    def reranker(self) -> Iterator[Reranker]:
        with LlmReranker(llm=JudgingLlm(), mode="pointwise") as reranker:
            yield reranker


@pytest.mark.parametrize("blocks", [False, True])
def test_a_chat_model_of_langchain_orders_the_texts(blocks: bool) -> None:
    for ranking in both(LlmReranker(llm=JudgingChatModel(blocks=blocks))):
        assert [hit.id for hit in ranking] == BEST
        assert (ranking.usage.tokens, ranking.usage.output_tokens, ranking.usage.requests) == (100, 7, 1)
        assert (ranking.trace.step, ranking.trace.model, ranking.degraded) == ("llm:judge-1", "judge-1", ())


def test_an_object_can_be_given_as_the_model() -> None:
    reranker = LlmReranker(model=JudgingChatModel())
    assert reranker == LlmReranker(llm=JudgingChatModel())
    assert (reranker.model, [hit.id for hit in reranker.rerank(QUERY, TEXTS)]) == ("judge-1", BEST)
    with pytest.raises(ConfigError, match="llm: expected a chat model of LangChain or an LLM of LlamaIndex, got int"):
        LlmReranker(model=3)


def test_log_probabilities_of_an_object_are_asked_for_on_request() -> None:
    for ranking in both(LlmReranker(llm=JudgingChatModel(), mode="pointwise", score_by="logprobs")):
        assert [hit.id for hit in ranking] == BEST
        assert ranking[0].score == pytest.approx(relevance(QUERY, TEXTS[1]), abs=1e-6)
    for ranking in both(LlmReranker(llm=JudgingChatModel(), mode="pointwise")):
        assert ranking[0].score in (0, pytest.approx(1 / 3), pytest.approx(2 / 3), 1)
        assert ranking.usage.requests == 3
    with pytest.raises(BadResponse, match="no token log-probabilities"):
        LlmReranker(llm=JudgingLlm(), mode="pointwise", score_by="logprobs").rerank(QUERY, TEXTS)


def test_an_llm_of_llamaindex_orders_the_texts() -> None:
    for ranking in both(LlmReranker(llm=JudgingLlm())):
        assert [hit.id for hit in ranking] == BEST
        assert (ranking.usage.tokens, ranking.usage.output_tokens) == (50, 5)
        assert ranking.trace.step == "llm:judge-2"


def test_the_fakes_of_both_frameworks_work_as_they_are() -> None:
    answers = ['{"ranking": [2, 3, 1]}', AIMessage('{"ranking": [3, 2, 1]}')]
    first, second = both(LlmReranker(llm=GenericFakeChatModel(messages=iter(answers))))
    assert [hit.id for hit in first] == ["1", "2", "0"] and [hit.id for hit in second] == ["2", "1", "0"]
    assert [hit.id for hit in LlmReranker(llm=FakeListLLM(responses=["[2] > [1] > [3]"])).rerank(QUERY, TEXTS)] == [
        *("1", "0", "2")
    ]
    with pytest.raises(BadResponse, match="it holds no ranking"):  # MockLLM repeats the prompt
        LlmReranker(llm=MockLLM()).rerank(QUERY, TEXTS)


def test_a_fake_that_has_nothing_more_to_say_is_an_error_of_ours() -> None:
    reranker = LlmReranker(llm=GenericFakeChatModel(messages=iter(())), retry=ONCE)
    with pytest.raises(Exception, match="llm:GenericFakeChatModel failed in its SDK"):
        reranker.rerank(QUERY, TEXTS)


class StatusError(Exception):
    def __init__(self, status: int) -> None:
        super().__init__(f"status {status} with key sk-abcdefghijklmnopqrstuvwx and {TEXTS[1]}")
        self.status_code = status


@pytest.mark.parametrize("kind", [JudgingChatModel, JudgingLlm])
@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (StatusError(401), AuthenticationError),
        (StatusError(429), RateLimited),
        (StatusError(529), RateLimited),
        (StatusError(503), BackendUnavailable),
        (TimeoutError("late"), BackendTimeout),
        (ConnectionResetError("gone"), BackendUnavailable),
        (KeyError("choices"), BadResponse),
    ],
    ids=repr,
)
def test_errors_of_an_object_become_errors_of_ours(kind: Any, error: Exception, expected: type[Exception]) -> None:
    reranker = LlmReranker(llm=kind(error=error), retry=ONCE)
    for call in (lambda: reranker.rerank(QUERY, TEXTS), lambda: asyncio.run(reranker.arerank(QUERY, TEXTS))):
        with pytest.raises(expected) as caught:
            call()
        assert type(caught.value) is expected
        assert "sk-abc" not in str(caught.value) and TEXTS[1] not in str(caught.value)


def test_an_object_that_does_not_answer_is_not_waited_for() -> None:
    released = threading.Event()

    class Slow(JudgingChatModel):
        def _generate(self, *args: Any, **kwargs: Any) -> ChatResult:
            released.wait(30)
            return super()._generate(*args, **kwargs)

    try:
        with pytest.raises(BackendTimeout):
            LlmReranker(llm=Slow(), timeout=0.1, retry=ONCE).rerank(QUERY, TEXTS)
    finally:
        released.set()


def test_what_belongs_to_the_object_cannot_be_set_here() -> None:
    llm = JudgingLlm()
    for options, message in (
        ({"api_key": "k"}, "has its own key and URL"),
        ({"base_url": "http://127.0.0.1:9"}, "has its own key and URL"),
        ({"client": object()}, "not both"),
        ({"response_format": "json_object"}, "set response_format and extra_body there"),
        ({"extra_body": {"x": 1}}, "set response_format and extra_body there"),
    ):
        with pytest.raises(ConfigError, match=message):
            LlmReranker(llm=llm, **options)
    with pytest.raises(ConfigError, match="which server an injected client calls"):
        Cached(reranker=LlmReranker(llm=llm, mode="pointwise", score_by="grade"))


def test_objects_of_two_classes_have_two_identities() -> None:
    one, other = LlmReranker(llm=JudgingLlm(), model="m"), LlmReranker(llm=JudgingChatModel(), model="m")
    assert one.identity != other.identity
    assert one.identity == LlmReranker(llm=JudgingLlm(), model="m").identity
    assert json.dumps(one.model) == '"m"'
