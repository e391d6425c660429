"""Language models as rerankers: any OpenAI-compatible endpoint, and the models of LangChain and LlamaIndex."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from rag_rerank._checks import at_least, number, one_of, whole_number
from rag_rerank._lazy import forget, load_once
from rag_rerank.backends.api.base import find_key
from rag_rerank.backends.api.breaker import Breaker
from rag_rerank.backends.api.client_base import ClientApiReranker
from rag_rerank.backends.api.exchange import Exchange, Reply
from rag_rerank.backends.api.limiter import Limits
from rag_rerank.backends.api.llm import clients
from rag_rerank.backends.api.llm.judgment import Listwise, Pairwise, Pointwise, Strategy
from rag_rerank.backends.api.llm.llm_call import LlmCall, LlmExchange, prompt_of, reply_of
from rag_rerank.backends.api.llm.model_objects import aask_object, ask_object, framework_of, model_name_of
from rag_rerank.backends.api.llm.prompts import TEMPLATES, Prompt
from rag_rerank.backends.api.llm.text_budget import PromptTexts, fit_texts
from rag_rerank.backends.api.pricing import Price
from rag_rerank.backends.api.retry import RetryPolicy
from rag_rerank.errors import ConfigError, TruncationWarning
from rag_rerank.execution.calls import warn_once
from rag_rerank.execution.http_clients import make_client
from rag_rerank.execution.instruction import check_field, instruction_or
from rag_rerank.text.unicode import is_blank
from rag_rerank.trace import Usage
from rag_rerank.types import Scale, Scores

__all__ = ["Breaker", "Limits", "LlmReranker", "Price", "RetryPolicy"]

_OWN_SERVER = "https://api.openai.com/v1"
_LEAST = {"window": 2, "stride": 1, "passes": 1, "shuffles": 0, "top": 1, "parallel": 1}
"""The least value of each count."""


@dataclass(frozen=True, kw_only=True)
class LlmReranker(ClientApiReranker):
    """A language model that orders, grades or compares the texts: any OpenAI-compatible endpoint, or a model object.

    In the modes ``listwise`` and ``pairwise`` the model orders texts and gives no scores. The scale is then ``rank``: 1
    for the first text, and evenly less for each that follows. No threshold and no calibration is possible on it.

    Each answer is read strictly. A ranking is repaired to a full permutation: numbers that occur again or belong to no
    text are ignored, and texts that are not named follow in their order. A note in the trace counts the repairs. An
    answer without anything usable is asked for once more. After a second one, a window or a pair keeps its order, a
    text of the mode ``pointwise`` has no score, and ``ranking.degraded`` says so. If no answer of a call can be used,
    `BadResponse` is raised.

    Texts stand between markers with a code that occurs in none of them, and the prompt says that they are data. So no
    text can end its own marker, and no answer can add or lose a text. A model may still obey a text that gives orders.

    Args:
        model: The model's id at the endpoint: ``gpt-4o-mini``, ``qwen3:8b`` ... In Python it may also be a chat model
            of LangChain or an LLM of LlamaIndex, as ``llm``. Beside ``llm``, it is the name in traces.
        mode: How the model is asked.

            - ``"listwise"``: To order a window of texts, which slides over the list from its end (RankGPT, arXiv
              2304.09542). This is the default.
            - ``"pointwise"``: About each text by itself. Scores are on the scale ``relevance``.
            - ``"pairwise"``: Which of two texts is more relevant, in both orders; the best ``top`` rise to the top one
              after the other (PRP, arXiv 2306.17563). For few texts.
        api_key: The key, or ``${VAR}`` for the environment variable that holds it. By default ``OPENAI_API_KEY``, but
            only at OpenAI itself. Servers without keys need none.
        base_url: The address of the endpoint with its version, such as ``http://127.0.0.1:11434/v1`` (Ollama). By
            default ``OPENAI_BASE_URL``, then OpenAI's own.
        timeout: Seconds to wait for the answer to one request.
        retry: When and how often a request is sent again after a failure that may pass.
        window: How many texts a window holds (``listwise``). It holds fewer where they do not fit.
        stride: By how many places the window moves towards the beginning; less than ``window``.
        passes: How often the window slides over the list. If every window is ordered rightly, the first pass puts
            ``window - stride`` texts right.
        shuffles: How many shuffled orders are ranked beside the incoming one; the rankings are fused by reciprocal
            rank. It makes the place in a window matter less, and multiplies the cost.
        top: How many places the mode ``pairwise`` sorts; the other texts keep their order.
        score_by: Where the scores of the mode ``pointwise`` come from.

            - ``"auto"``: From log-probabilities where the endpoint gives them, else from grades. The trace says which.
              This is the default.
            - ``"logprobs"``: The probability of the token "yes" among "yes" and "no".
            - ``"grade"``: A grade of 0 to 3, divided by 3. Equal grades keep the incoming order.
        instruction: What relevance means here, in words. By default a passage is relevant if it helps to answer the
            query.
        context: How many tokens the model reads and writes at most. Tokens are estimated as a quarter of the UTF-8
            bytes. By default nothing is known, and a window that the endpoint refuses as too long is halved.
        max_text_tokens: How many tokens of each text a prompt holds at most. By default all.
        on_overflow: What to do with a text that is longer.

            - ``"truncate"``: Cut its end; ``hit.coverage`` and a note say so. This is the default.
            - ``"error"``: Raise `InputTooLong`.
        temperature: The sampling temperature that is sent. ``null`` sends none, for models that refuse it.
        seed: The seed that is sent and that shuffles the orders. By default none is sent.
        response_format: Whether the endpoint is told to answer in JSON. By default it is not, so that every endpoint
            works.

            - ``"json_schema"``: With the schema of the answer, for endpoints with structured output.
            - ``"json_object"``: Without it.
        extra_body: Further fields of each request, such as ``{"reasoning_effort": "low"}``.
        parallel: How many requests of one call are under way at the same time: texts (``pointwise``), the two orders of
            a pair, or shuffled orders.
        llm: A chat model of LangChain or an LLM of LlamaIndex to ask instead of an endpoint. Temperature, seed and
            format of the answer are then the object's.
        client: An ``openai.OpenAI`` or ``openai.AzureOpenAI``; its retries are switched off for each request.
        async_client: An ``openai.AsyncOpenAI``, for one event loop.

    Raises:
        ConfigError: A value is out of range, there is no model, or an option has no effect in this mode or with
            ``llm``.
    """

    kind: ClassVar[str] = "llm"
    key_variables: ClassVar[tuple[str, ...]] = ("OPENAI_API_KEY",)
    most_texts: ClassVar[int] = 10_000
    model_optional: ClassVar[bool] = True
    fields_without_effect: ClassVar[frozenset[str]] = ClientApiReranker.fields_without_effect | {"parallel"}

    if TYPE_CHECKING:
        model: Any = ""  # or a model object, which no config can hold
    else:
        model: str = ""
    timeout: float = 60.0
    retry: RetryPolicy = field(default_factory=lambda: RetryPolicy(budget=180.0))
    mode: Literal["listwise", "pointwise", "pairwise"] = "listwise"
    window: int = 20
    stride: int = 10
    passes: int = 1
    shuffles: int = 0
    top: int = 10
    score_by: Literal["auto", "logprobs", "grade"] = "auto"
    instruction: str | None = None
    context: int | None = None
    max_text_tokens: int | None = None
    on_overflow: Literal["truncate", "error"] = "truncate"
    temperature: float | None = 0.0
    seed: int | None = None
    response_format: Literal["json_schema", "json_object"] | None = None
    extra_body: Mapping[str, Any] = field(default_factory=dict, hash=False)
    parallel: int = 8
    llm: Any = field(default=None, repr=False, compare=False, metadata={"live": True})

    def __post_init__(self) -> None:
        if not isinstance(self.model, str) and self.llm is None:
            object.__setattr__(self, "llm", self.model)
            object.__setattr__(self, "model", "")
        super().__post_init__()
        if self.llm is not None:
            self._check_object()
        check_field(self.instruction)
        if not self.model:
            raise ConfigError("name the model, as the endpoint calls it", path="model")
        one_of(self.mode, ("listwise", "pointwise", "pairwise"), "mode")
        one_of(self.score_by, ("auto", "logprobs", "grade"), "score_by")
        one_of(self.on_overflow, ("truncate", "error"), "on_overflow")
        if self.response_format is not None:
            one_of(self.response_format, ("json_schema", "json_object"), "response_format")
        for name, least in _LEAST.items():
            whole_number(getattr(self, name), least, name)
        if self.stride >= self.window:
            raise ConfigError(
                f"windows of {self.window} texts that move by {self.stride} share none, so that no text could rise; "
                "stride must be less than window",
                path="stride",
            )
        for name in ("context", "max_text_tokens"):
            if getattr(self, name) is not None:
                at_least(getattr(self, name), 1, name)
        if self.temperature is not None:
            number(self.temperature, "temperature", 0, 2)

    def _check_object(self) -> None:
        if self.client is not None or self.async_client is not None:
            raise ConfigError("give an object (llm) or a client of the SDK, not both", path="llm")
        if framework_of(self.llm) is None:
            raise ConfigError(
                f"expected a chat model of LangChain or an LLM of LlamaIndex, got {type(self.llm).__name__}", path="llm"
            )
        if self.response_format is not None or self.extra_body:
            raise ConfigError(
                "requests to an object are the object's own; set response_format and extra_body there",
                path="response_format" if self.response_format is not None else "extra_body",
            )
        if not self.model:
            object.__setattr__(self, "model", model_name_of(self.llm))

    @property
    def scale(self) -> Scale:
        """The scale ``rank`` for orders, which have no scores; ``relevance`` where each text is asked about alone."""
        return "relevance" if self.mode == "pointwise" else "rank"

    @property
    def takes_instruction(self) -> bool:
        """True: the prompt says what relevance means."""
        return True

    @property
    def template_id(self) -> str:
        """The name of the prompt, with its version."""
        return TEMPLATES[self.mode]

    @property
    def why_not_cacheable(self) -> str | None:
        """Why no cache may keep the scores; those of texts that are asked about alone may be kept."""
        if self.mode != "pointwise":
            return f"in the mode {self.mode!r} the place of a text depends on the other texts of the call"
        if self.score_by == "auto":
            return "whether log-probabilities or grades answer is not known before; name one in score_by"
        if self.temperature != 0:
            return "its answers are drawn by chance; give temperature 0"
        return super().why_not_cacheable

    def key(self) -> str:
        """Return the key that a request would carry now; empty where none is needed and none is given.

        Raises:
            UnusableKey: There is none for OpenAI itself, or a text that is no key.
        """
        at_openai = self._server is None
        variables = self.key_variables if at_openai else ()
        return find_key(self.kind, self.api_key, variables, optional=not at_openai)

    def close(self) -> None:
        """Close the client that threads share, unless it was injected."""
        super().close()
        forget(self, "_server")

    @load_once
    def _server(self) -> str | None:
        return self.base_url or os.environ.get("OPENAI_BASE_URL") or None

    def _host(self) -> str | None:
        return self._server

    @property
    def endpoint(self) -> str | None:
        """The URL that requests are sent to; ``None`` for an injected client or a model object."""
        return None if self._has_client else f"{self._server or _OWN_SERVER}/chat/completions"

    @property
    def _has_client(self) -> bool:
        return self.llm is not None or super()._has_client

    def _identity_facts(self) -> Mapping[str, Any]:
        facts: dict[str, Any] = {"base_url": self._server, "template": self.template_id}
        if self.llm is not None:
            facts |= {"llm": f"{type(self.llm).__module__}.{type(self.llm).__qualname__}"}
        return facts

    def _import_client(self) -> Any:
        return clients.openai_sdk()

    def _new_client(self) -> Any:
        return make_client(partial(clients.new_client, "OpenAI", self._server, self.timeout), self.label)

    def _new_async_client(self) -> Any:
        return make_client(partial(clients.new_client, "AsyncOpenAI", self._server, self.timeout), self.label)

    def score(self, query: str, texts: Sequence[str]) -> Scores:
        """Ask the model.

        Raises:
            BackendError: The endpoint failed or refused, or no answer of the model could be used.
            InputTooLong: A text is too long and may not be cut, or the query leaves no room for texts.
        """
        if self.async_client is not None and self.client is None:
            raise ConfigError(f"{self.label} was given async_client only; give client too, or call arerank")
        prompt_texts = self._prompt_texts(query, texts)
        call = self._llm_call(query, prompt_texts)
        call.run(self._send)
        return self._with_coverage(self._finish(call, query, texts), prompt_texts)

    async def ascore(self, query: str, texts: Sequence[str]) -> Scores:
        """Do what `score` does without blocking the event loop."""
        prompt_texts = self._prompt_texts(query, texts)
        call = self._llm_call(query, prompt_texts)
        await call.arun(self._send_in_thread if self._needs_thread else self._asend)
        return self._with_coverage(self._finish(call, query, texts), prompt_texts)

    def _with_coverage(self, scores: Scores, prompt_texts: PromptTexts) -> Scores:
        if prompt_texts.coverage:
            warn_once(
                self,
                f"{self.label} sent only the beginning of texts that are longer than a prompt allows; hit.coverage "
                'says how much of each, and on_overflow="error" refuses instead',
                TruncationWarning,
            )
        return replace(scores, coverage=prompt_texts.coverage)

    def estimate(self, query: str, texts: Sequence[str]) -> Usage:
        """Tell requests, tokens and cost before anything is sent, if every answer can be used.

        The requests are exact, but for the mode ``pairwise``: there they are the most that may be needed.
        """
        self._key()
        texts = [text for text in texts if not is_blank(text)]
        usage = self._strategy(query, self._prompt_texts(query, texts)).estimate()
        if self._price is None:
            return usage
        cost = self._price.estimate([usage.tokens or 0], usage.output_tokens or 0)
        return replace(usage, cost=cost, estimated=("cost", *usage.estimated))

    def _prompt_texts(self, query: str, texts: Sequence[str]) -> PromptTexts:
        one_alone = self.mode == "pointwise"
        return fit_texts(
            query,
            texts,
            together={"listwise": self.window, "pairwise": 2, "pointwise": 1}[self.mode],
            least=1 if one_alone else 2,
            max_text_tokens=self.max_text_tokens,
            context=self.context,
            cut=self.on_overflow == "truncate",
            instruction=instruction_or(self.instruction),
        )

    def _strategy(self, query: str, prompt_texts: PromptTexts) -> Strategy:
        facts = query, prompt_texts.texts, instruction_or(self.instruction)
        if self.mode == "pointwise":
            # an object is asked for log-probabilities on request only: many know no such argument
            logprobs = self.score_by == "logprobs" or (self.score_by == "auto" and self.llm is None)
            return Pointwise(*facts, logprobs=logprobs, grade=self.score_by != "logprobs")
        if self.mode == "pairwise":
            return Pairwise(*facts, top=self.top)
        window = prompt_texts.most
        stride = self.stride if window == self.window else max(1, window * self.stride // self.window)
        return Listwise(*facts, window, stride, self.passes, self.shuffles, self.seed or 0)

    def _llm_call(self, query: str, prompt_texts: PromptTexts) -> LlmCall:
        strategy, key = self._strategy(query, prompt_texts), self._key()

        def exchange(prompt: Prompt) -> LlmExchange:
            return LlmExchange(
                self.kind,
                self.model,
                query,
                [prompt_texts.texts[i] for i in prompt.positions],
                first=prompt.positions[0],
                key=key,
                label=self.label,
                prompt=prompt,
            )

        return LlmCall(self._policy, prompt_texts.texts, strategy, exchange, self.parallel, prompt_texts.notes)

    def _find_substitute(self, models: Iterable[str]) -> str | None:
        """Return another model than the one asked for; an object and a deployment at Azure have names of their own."""
        own_names = self.llm is not None or "Azure" in type(self.client or self.async_client).__name__
        return None if own_names else super()._find_substitute(models)

    def _send(self, exchange: Exchange, timeout: float) -> Reply:
        prompt = prompt_of(exchange)
        if self.llm is not None:
            return reply_of(ask_object(exchange, self.llm, prompt, timeout))
        client = self._client if self.client is None else clients.without_retries(self.client)
        arguments = self._arguments(prompt, exchange.key, timeout)
        answer = exchange.call_sdk(client.chat.completions.create, clients.openai_error, **arguments)
        return reply_of(clients.read_chat_completion(exchange, answer))

    async def _asend(self, exchange: Exchange, timeout: float) -> Reply:
        prompt = prompt_of(exchange)
        if self.llm is not None:
            return reply_of(await aask_object(exchange, self.llm, prompt, timeout))
        own = self.async_client is None
        client = await self._async_client.get() if own else clients.without_retries(self.async_client)
        arguments = self._arguments(prompt, exchange.key, timeout)
        answer = await exchange.acall_sdk(client.chat.completions.create, clients.openai_error, **arguments)
        return reply_of(clients.read_chat_completion(exchange, answer))

    def _arguments(self, prompt: Prompt, key: str, timeout: float) -> dict[str, Any]:
        arguments = clients.openai_arguments(
            prompt,
            model=self.model,
            temperature=self.temperature,
            seed=self.seed,
            response_format=self.response_format,
            extra_body=self.extra_body,
            timeout=timeout,
        )
        if not self._has_client:
            authorization = f"Bearer {key}" if key else clients.openai_sdk().Omit()
            arguments["extra_headers"] = {"Authorization": authorization}
        return arguments
