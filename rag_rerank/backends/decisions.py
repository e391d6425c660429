"""Decision models as rerankers: TypeSafe Jev, OpenAI's Decisions API, Ollama and others, which give probabilities."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args
from urllib.parse import quote, urlsplit

from rag_rerank._checks import at_least, one_of
from rag_rerank.backends.api.base import find_key
from rag_rerank.backends.api.breaker import Breaker
from rag_rerank.backends.api.call import ApiCall
from rag_rerank.backends.api.decisions.answers import REFUSAL
from rag_rerank.backends.api.decisions.langchain_models import (
    ModelRefusal,
    is_decision_model,
    make_request,
    translate_model_error,
)
from rag_rerank.backends.api.decisions.planner import FILL, RequestBudget, cut_text, plan_requests
from rag_rerank.backends.api.decisions.providers import (
    DecisionProvider,
    ProviderName,
    WireName,
    find_provider,
    join_url,
)
from rag_rerank.backends.api.decisions.questions import TEMPLATE, Ask, Questionnaire, make_questionnaire
from rag_rerank.backends.api.decisions.replies import (
    DecisionExchange,
    read_http_reply,
    read_model_reply,
    refused_reply,
)
from rag_rerank.backends.api.decisions.wires import WIRES, Wire
from rag_rerank.backends.api.exchange import Exchange, Reply
from rag_rerank.backends.api.http_base import HttpApiReranker
from rag_rerank.backends.api.http_transport import HttpRequest, as_json
from rag_rerank.backends.api.limiter import Limits
from rag_rerank.backends.api.model_names import is_same_model
from rag_rerank.backends.api.pricing import Price, list_price, text_tokens
from rag_rerank.backends.api.retry import RetryPolicy
from rag_rerank.errors import ConfigError, InputTooLong, TruncationWarning
from rag_rerank.execution.calls import warn_once
from rag_rerank.execution.instruction import check_field, instruction_or
from rag_rerank.trace import Coverage
from rag_rerank.types import Scores

__all__ = ["Breaker", "DecisionsReranker", "Limits", "Price", "RetryPolicy"]

_WRAPPER_TOKENS = 8  # around a passage: {"id":12,"text":""},
_MOVING = re.compile(r"-(?:latest|preview)$")


@dataclass(frozen=True, kw_only=True)
class DecisionsReranker(HttpApiReranker):
    """A decision model, which reads query and texts and answers a question about each text with a probability.

    Decision models ("System One") generate no text. TypeSafe, OpenAI, OpenRouter, Cloudflare, Azure and others serve
    them, and Ollama, vLLM, LM Studio and Laya run them on a machine of your own.

    The score of a text is the probability of yes, or the expected level of a rubric as a share of its highest level.
    Both are on the scale ``relevance``. A question that the model refuses to answer leaves its text without a score,
    and ``degraded`` says so. Any other answer than exactly one number for each question is a `BadResponse`.

    With ``ask: rubric`` and ``ask: yesno``, one request holds as many texts as the limits of tokens and questions
    allow. The model reads them together, so a score depends on the other texts of its request: a cache refuses such
    scores, and a note says into how many requests the texts were divided. Tokens are estimated, and 80 % of a limit is
    filled. A request that the provider calls too large is halved.

    Texts are sent as values of a JSON object, with a notice that they are data to judge and no instructions. A hostile
    text can still influence how the model judges the texts beside it; ``ask: pair`` keeps each text by itself.

    Args:
        provider: Who serves the model. It decides the address, the wire format, the key and the limits of a request.
            Without it, ``base_url`` tells the provider, or is a server of your own; without either, it is TypeSafe, or
            OpenAI where ``wire`` is ``openai``.

            - ``"azure"``: Azure AI Foundry; ``model`` is the name of your deployment, and the key is in
              ``AZURE_AI_API_KEY``. Needs ``base_url``.
            - ``"cloudflare"``: Clef on Workers AI; the key is in ``CLOUDFLARE_API_TOKEN``. Needs ``base_url``, with the
              account. 64 texts a request.
            - ``"fireworks"``: Fireworks; the key is in ``FIREWORKS_API_KEY``.
            - ``"laya"``: ``laya-serve`` on a machine of yours. Needs ``base_url``. 512 tokens, unless ``state_tokens``
              says more.
            - ``"lmstudio"``: LM Studio on a machine of yours. Needs ``base_url``.
            - ``"ollama"``: Ollama 0.35 or later, by default on this machine; no key.
            - ``"openai"``: OpenAI's Decisions API; the key is in ``OPENAI_API_KEY``. 400 texts a request.
            - ``"openrouter"``: OpenRouter; the key is in ``OPENROUTER_API_KEY``. Its answers name what was billed. 200
              texts a request.
            - ``"perplexity"``: Perplexity; the key is in ``PERPLEXITY_API_KEY``.
            - ``"typesafe"``: TypeSafe; the key is in ``TYPESAFE_API_KEY``.
            - ``"vllm"``: vLLM on a machine of yours. Needs ``base_url``.
        model: The model's id. By default the usual one of the provider: ``jev-latest``, ``gpt-6-luna``, ``nimble`` ...
            In Python it may also be a ``BaseDecisionModel`` of ``langchain_core.decisions``, which then does the
            asking, with its own URL, key and timeout; turn off its own retries.
        wire: The wire format of a server that is none of the providers.

            - ``"systemone"``: ``POST /v1/systemone``, as TypeSafe, Ollama and most others.
            - ``"openai"``: ``POST /v1/decisions``, as OpenAI.
        ask: What is asked about each text.

            - ``"rubric"``: Which of four levels it has, from off topic to a full answer; all texts in one request.
            - ``"yesno"``: Whether it helps to answer the query; all texts in one request.
            - ``"pair"``: The same, but one request for each text, one after the other. It is slower and dearer. A score
              depends on its text alone.
        instruction: What relevance means, in your words, such as ``"a passage that argues against the claim"``. It
            takes the place of the usual question, which is whether a text answers the query.
        path: The path to add to ``base_url`` instead of the provider's. Traces and configs show it, so it must not hold
            a key.
        on_overflow: What to do with a text that alone is too long for a request.

            - ``"truncate"``: Send its beginning; the coverage and a warning say so.
            - ``"error"``: Raise `InputTooLong`.
        state_tokens: How many tokens the query, the texts of a request and one question may have together, instead of
            the provider's limit: what the model of a server of your own reads.
        request_tokens: How many tokens a request may have with all its questions, instead of the provider's limit. By
            default ``state_tokens`` where that is set.
        max_texts: How many texts go in one request at most, instead of the provider's limit.

    Raises:
        ConfigError: Also for a provider that needs ``base_url`` or ``model`` and has none, and for an object as
            ``model`` that is no ``BaseDecisionModel``.
    """

    kind: ClassVar[str] = "decisions"
    label_fields: ClassVar[tuple[str, ...]] = ("provider", "model")
    key_variables: ClassVar[tuple[str, ...]] = ()
    most_texts: ClassVar[int] = 1_000
    model_optional: ClassVar[bool] = True

    provider: ProviderName | None = None
    if TYPE_CHECKING:
        model: Any = ""  # or a BaseDecisionModel, which no config can hold
    else:
        model: str = ""
    wire: WireName | None = None
    ask: Ask = "rubric"
    instruction: str | None = None
    path: str | None = None
    on_overflow: Literal["truncate", "error"] = "truncate"
    state_tokens: int | None = None
    request_tokens: int | None = None
    max_texts: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.model, str):
            self._take_model(self.model)
        super().__post_init__()
        for name, choices in (("provider", get_args(ProviderName)), ("wire", get_args(WireName))):
            if getattr(self, name) is not None:
                one_of(getattr(self, name), choices, name)
        one_of(self.ask, get_args(Ask), "ask")
        one_of(self.on_overflow, ("truncate", "error"), "on_overflow")
        for name in ("state_tokens", "request_tokens", "max_texts"):
            if getattr(self, name) is not None:
                at_least(getattr(self, name), 1, name)
        if self.path is not None and not self.path.startswith("/"):
            raise ConfigError(f"path must start with /, got {self.path!r}", path="path")
        check_field(self.instruction)
        if self._decision_model is not None:
            return
        self._row.check_settings(self.wire, self.base_url)
        if not self.model:
            object.__setattr__(self, "model", self._row.default_model)
        if not self.model:
            raise ConfigError("give model: the name of a decision model that the server has", path="model")

    def _take_model(self, model: Any) -> None:
        """Keep an object that was given as the model, and its name in place of it."""
        if not is_decision_model(model):
            raise ConfigError(
                f"a {type(model).__name__} is no model id and no BaseDecisionModel of langchain_core.decisions "
                "(langchain-core 1.8 or later); for OpenAI's Decisions API, give provider='openai' instead",
                path="model",
            )
        if self.client is not None:
            raise ConfigError("give the decision model or a client, not both", path="client")
        object.__setattr__(self, "client", model)
        object.__setattr__(self, "model", str(model.model))

    @property
    def takes_instruction(self) -> bool:
        """Always: the question follows ``instruction``, or that of the call."""
        return True

    @property
    def template_id(self) -> str | None:
        """The way of asking, and the version of its wording."""
        return f"{self.ask}-{TEMPLATE}"

    @property
    def why_not_cacheable(self) -> str | None:
        """Why no cache may keep the scores: they depend on other texts, or on a name that moves on to a newer model."""
        if self.ask != "pair":
            return f"with ask={self.ask!r} the model reads the texts of a request together; ask='pair' does not"
        if self._decision_model is None and _MOVING.search(self.model):
            return f"{self.model} stands for another version from time to time; name one, such as jev-1.14.0"
        return super().why_not_cacheable

    def key(self) -> str:
        """Return the key that a request would carry now; empty where none is needed and none is given.

        Raises:
            UnusableKey: There is none, or a text that is no key.
        """
        is_own = self._row.is_own_host(self._base_url)
        name = ":".join(filter(None, (self.kind, self._row.name)))
        return find_key(name, self.api_key, self._row.keys if is_own else (), optional=not is_own)

    def warm_up(self) -> None:
        """Make the client; nothing is sent."""
        if self._decision_model is None:
            super().warm_up()

    @property
    def _decision_model(self) -> Any:
        """The decision model of LangChain, if one was given."""
        return self.client if is_decision_model(self.client) else None

    @property
    def _has_foreign_client(self) -> bool:
        return self._decision_model is not None

    @property
    def _needs_thread(self) -> bool:
        return self._decision_model is None and super()._needs_thread

    @property
    def _row(self) -> DecisionProvider:
        base_url = "" if self._decision_model is not None else self.base_url
        return find_provider(self.provider, self.wire, base_url)

    @property
    def _wire(self) -> Wire:
        return WIRES[self._row.wire]

    @property
    def _base_url(self) -> str:
        return self.base_url or self._row.default_url or ""

    def _host(self) -> str:
        return self._base_url

    @property
    def _sent_model(self) -> str:
        """The model as a request names it: where it is in the path, without the folders before it."""
        return self.model.rpartition("/")[2] if "{model}" in self._row.path else str(self.model)

    @property
    def endpoint(self) -> str:
        """The URL that requests are sent to."""
        path = self.path or self._row.path.replace("{model}", quote(self._sent_model, safe=""))
        return join_url(self._base_url, path)

    @property
    def _list_price(self) -> Price | None:
        if self._decision_model is not None or not self._row.is_own_host(self._base_url):
            return None
        return list_price(f"{self.kind}:{self._row.name}", self._sent_model)

    def _identity_facts(self) -> Mapping[str, Any]:
        """Return the address, and the wording of the questions; a call's instruction takes the place of the field."""
        facts = {"wire": self._row.wire, "template": self.template_id}
        if self._decision_model is not None:
            return facts
        return {**facts, "base_url": self._base_url, "path": urlsplit(self.endpoint).path}

    def _instruction(self) -> str | None:
        """Return what relevance means in this call; a blank instruction of the call asks the usual question."""
        words = instruction_or(self.instruction)
        return words if words and words.strip() else None

    def _questionnaire(self, exchange: Exchange) -> Questionnaire:
        assert isinstance(exchange, DecisionExchange)
        room = self._budget(exchange.query, exchange.instruction).text_tokens
        texts = [cut_text(text, room) for text in exchange.texts]
        return make_questionnaire(self.ask, exchange.query, texts, exchange.instruction)

    def _budget(self, query: str, instruction: str | None) -> RequestBudget:
        """Return what one request may hold beside a query.

        Raises:
            InputTooLong: The query leaves no room for any text.
        """
        row, empty = self._row, make_questionnaire(self.ask, query, [""], instruction)
        state_tokens = self.state_tokens or row.state_tokens
        request_tokens = self.request_tokens or self.state_tokens or row.request_tokens
        most_texts = min(self.max_texts or row.most_questions, row.most_questions, self.most_texts)
        budget = RequestBudget(
            most_texts=1 if self.ask == "pair" else most_texts,
            state_tokens=int(state_tokens * FILL),
            request_tokens=int(request_tokens * FILL),
            fixed_tokens=text_tokens(as_json(empty.state).decode()),
            question_tokens=text_tokens(as_json(self._wire.question(empty.questions[0])).decode()),
            wrapper_tokens=_WRAPPER_TOKENS,
        )
        if budget.text_tokens < 1:
            most = min(budget.state_tokens, budget.request_tokens)
            raise InputTooLong(
                f"the query has about {text_tokens(query)} tokens and leaves no room for a text: a request to "
                f"{self.label} gets {most} tokens at most; shorten the query, or raise state_tokens"
            )
        return budget

    def _split(self, query: str, texts: Sequence[str]) -> list[range]:
        budget = self._budget(query, self._instruction())
        room, lengths = budget.text_tokens, [text_tokens(text) for text in texts]
        too_long = next((i for i, length in enumerate(lengths) if length > room), None)
        if too_long is not None and self.on_overflow == "error":
            raise InputTooLong(
                f"text {too_long} has about {lengths[too_long]} tokens, and {self.label} has room for {room} beside "
                "the query and a question; shorten it, raise state_tokens, or allow on_overflow='truncate'",
                position=too_long,
            )
        return plan_requests([min(length, room) for length in lengths], budget)

    def _tokens(self, query: str, texts: Sequence[str]) -> list[int]:
        budget = self._budget(query, self._instruction())
        more = budget.wrapper_tokens + budget.question_tokens
        tokens = [min(text_tokens(text), budget.text_tokens) + more for text in texts]
        for part in self._split(query, texts):
            tokens[part.start] += budget.fixed_tokens
        return tokens

    def _notes(self, query: str, texts: Sequence[str]) -> tuple[str, ...]:
        notes, room = [], self._budget(query, self._instruction()).text_tokens
        if cut := sum(text_tokens(text) > room for text in texts):
            notes.append(f"{cut} texts have by estimate more than {room} tokens, and only their beginning was sent")
        requests = len(self._split(query, texts))
        if self.ask != "pair" and requests > 1:
            notes.append(
                f"the texts are judged in {requests} requests, and a score depends on the other texts of its request"
            )
        return tuple(notes)

    def _coverage(self, query: str, texts: Sequence[str]) -> Sequence[Coverage]:
        room = self._budget(query, self._instruction()).text_tokens
        sizes = ((text_tokens(text), text_tokens(cut_text(text, room))) for text in texts)
        return [Coverage(total, part, estimated=True) for total, part in sizes]

    def _exchange(self, query: str) -> partial[Any]:
        facts: dict[str, Any] = {"key": self._key(), "scale": self.scale, "label": self.label}
        return partial(DecisionExchange, self.kind, self.model, query, **facts, instruction=self._instruction())

    def _find_substitute(self, models: Iterable[str]) -> str | None:
        if self._row.names_deployment:
            return None
        model = _MOVING.sub("-latest", self._sent_model)
        return next((name for name in models if not is_same_model(model, name)), None)

    def _finish(self, call: ApiCall, query: str, texts: Sequence[str]) -> Scores:
        scores = super()._finish(call, query, texts)
        if any(coverage.truncated for coverage in scores.coverage):
            advice = (
                "raise state_tokens if the model reads more, rank windows of the texts (type windows), or shorten them"
            )
            warn_once(self, f"{self.label} was sent only the beginning of long texts; {advice}", TruncationWarning)
        refusals = sum(reason == REFUSAL for reason in scores.unscored.values())
        if not refusals:
            return scores
        reason = f"{self.label} refused to judge {refusals} of {len(texts)} texts, which have no score"
        return replace(scores, degraded=(*scores.degraded, reason))

    def _send(self, exchange: Exchange, timeout: float) -> Reply:
        questionnaire = self._questionnaire(exchange)
        if (model := self._decision_model) is None:
            response = self._exchange_json(exchange, self._request(exchange, questionnaire), timeout)
            return read_http_reply(exchange, self._row, questionnaire, response)
        try:
            answer = exchange.call_sdk(model.invoke, translate_model_error, input=make_request(questionnaire))
        except ModelRefusal:
            return refused_reply(exchange)
        return read_model_reply(exchange, questionnaire, answer)

    async def _asend(self, exchange: Exchange, timeout: float) -> Reply:
        questionnaire = self._questionnaire(exchange)
        if (model := self._decision_model) is None:
            response = await self._aexchange_json(exchange, self._request(exchange, questionnaire), timeout)
            return read_http_reply(exchange, self._row, questionnaire, response)
        request = make_request(questionnaire)
        try:
            answer = await exchange.acall_sdk(model.ainvoke, translate_model_error, input=request)
        except ModelRefusal:
            return refused_reply(exchange)
        return read_model_reply(exchange, questionnaire, answer)

    def _request(self, exchange: Exchange, questionnaire: Questionnaire) -> HttpRequest:
        body = self._wire.body(self._sent_model, questionnaire)
        return HttpRequest("POST", self.endpoint, self._row.headers_with(exchange.key), body)
