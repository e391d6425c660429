"""Rerank servers and providers over plain HTTP, each in its dialect: TEI, vLLM, Jina, OpenRouter and two dozen more."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, ClassVar, get_args

from rag_rerank._checks import at_least, one_of
from rag_rerank._lazy import forget, load_once
from rag_rerank.backends.api.base import find_key
from rag_rerank.backends.api.breaker import Breaker
from rag_rerank.backends.api.call import ApiCall
from rag_rerank.backends.api.dialects import DIALECTS, Dialect, Name
from rag_rerank.backends.api.dialects.answer import read_answer
from rag_rerank.backends.api.dialects.limits import estimate_coverage, find_ties, note_long_texts, split_texts
from rag_rerank.backends.api.exchange import Exchange, Reply
from rag_rerank.backends.api.http_base import HttpApiReranker
from rag_rerank.backends.api.http_transport import HttpRequest, as_json
from rag_rerank.backends.api.limiter import Limits
from rag_rerank.backends.api.pricing import Price, list_price
from rag_rerank.backends.api.retry import RetryPolicy
from rag_rerank.backends.api.server_info import ServerInfo, ServerInfoCache
from rag_rerank.errors import BackendError, ConfigError
from rag_rerank.execution.deadline import arun_in_thread, seconds_left
from rag_rerank.execution.instruction import instruction_or
from rag_rerank.trace import Coverage
from rag_rerank.types import SCALES, Scale, Scores

__all__ = ["Breaker", "HttpReranker", "Limits", "Price", "RetryPolicy"]

_INFO_SECONDS = 2.0  # a server that has not answered /info by then gets the request nevertheless


@dataclass(frozen=True, kw_only=True)
class HttpReranker(HttpApiReranker):
    """A rerank server or provider, called in its own wire format: TEI, vLLM, Jina, OpenRouter, Pinecone and others.

    A dialect is also a name by itself: ``type: jina`` means ``type: http`` with ``dialect: jina``.

    Requests to servers with the scale ``sigmoid`` ask for the logit. It orders the texts and is the ``raw_score``, so
    no ties arise where the sigmoid is 1. If such scores are all in 0..1, a note and a `ScaleWarning` say so. Usage has
    the tokens and the cost that the answer names, if it names any; where it counts characters instead, our estimate.

    TEI, vLLM, SGLang, Infinity and llama.cpp say what they serve (``/info``, ``/v1/models``, ``/models``); that is read
    before the first call, and again when it is ten seconds old or an attempt failed. Their limits and their window are
    then kept, their model is in the trace, and what they say is part of the `identity`, so that no cache mixes the
    scores of two models. Where texts are cut and the window is known, a note and the coverage, both by estimate, say
    how many and how much.

    If another model answers than the one named here, ``degraded``, a note and a `SubstitutionWarning` say so. At TEI,
    whose requests name no model, it is an error, and so is a model that is no reranker.

    Redirects are not followed. The connection and the beginning of an answer may each take ``timeout`` seconds, and the
    whole answer no longer than that; only a server that sends its headers byte by byte can take longer, up to the time
    of the call. Proxies are those of the environment (none for a server on this machine), or of the injected client.

    Args:
        dialect: The wire format of the server. It decides the path that is added to ``base_url``, the scale of the
            scores, and how many texts go in one request (1,000 where nothing is said).

            - ``"tei"``: Text Embeddings Inference, ``/rerank``; scale ``sigmoid``. 32 texts and 2 MB a request, or the
              limits that the server states. It cuts long texts.
            - ``"vllm"``: vLLM, ``/v1/rerank``; scale ``relevance``. It refuses long texts, unless told to cut.
            - ``"sglang"``: SGLang, ``/v1/rerank``; scale ``relevance``.
            - ``"infinity"``: Infinity, ``/rerank``; scale ``sigmoid``. 32 texts a request, because it computes on after
              a timeout. It cuts long texts, and does not say so.
            - ``"llamacpp"``: llama-server ``--reranking``, ``/rerank``; scale ``sigmoid``. It refuses texts over its
              ubatch size, and is wrong for BERT cross-encoders.
            - ``"nim"``: NVIDIA NIM, ``/v1/ranking``; scale ``sigmoid``. 512 texts a request. It refuses long texts.
            - ``"cohere"``: Gateways with Cohere's v2 API, ``/v2/rerank``; scale ``relevance``. For Cohere itself, use
              type ``cohere``.
            - ``"jina"``: Jina AI; scale ``relevance``, of v3 ``similarity``; key in ``JINA_API_KEY``.
            - ``"mixedbread"``: Mixedbread; key in ``MXBAI_API_KEY``. It cuts long texts, and does not say so.
            - ``"openrouter"``: OpenRouter; key in ``OPENROUTER_API_KEY``. It names what was billed.
            - ``"vercel"``: Vercel's AI Gateway; key in ``AI_GATEWAY_API_KEY``.
            - ``"opper"``: Opper; key in ``OPPER_API_KEY``.
            - ``"zeroentropy"``: ZeroEntropy; key in ``ZEROENTROPY_API_KEY``. 2.5 MB a request.
            - ``"contextual"``: Contextual AI; key in ``CONTEXTUAL_API_KEY``. 400,000 tokens a request.
            - ``"pinecone"``: Pinecone's inference API; key in ``PINECONE_API_KEY``. 100 texts a request.
            - ``"deepinfra"``: DeepInfra; key in ``DEEPINFRA_API_KEY``. It names what was billed.
            - ``"fireworks"``: Fireworks; key in ``FIREWORKS_API_KEY``.
            - ``"together"``: Together; key in ``TOGETHER_API_KEY``.
            - ``"dashscope"``: Alibaba's DashScope; key in ``DASHSCOPE_API_KEY``.
            - ``"siliconflow"``: SiliconFlow; key in ``SILICONFLOW_API_KEY``.
            - ``"scaleway"``: Scaleway; key in ``SCW_SECRET_KEY``.
            - ``"novita"``: Novita; key in ``NOVITA_API_KEY``.
            - ``"prime"``: Prime Inference; key in ``PRIME_API_KEY``. It refuses long texts.
            - ``"google"``: Google's Ranking API; token in ``GOOGLE_OAUTH_ACCESS_TOKEN``, project in
              ``GOOGLE_CLOUD_PROJECT``. 200 texts a request. Scores have two decimals, so texts tie; a note says so.
            - ``"watsonx"``: IBM's watsonx.ai; scale ``sigmoid``; token in ``WATSONX_TOKEN``, project in
              ``WATSONX_PROJECT_ID``.
            - ``"cloudflare"``: Cloudflare Workers AI; key in ``CLOUDFLARE_API_TOKEN``, account in
              ``CLOUDFLARE_ACCOUNT_ID``.
        model: The model's id. Where the server has just one, it may be left out; then nothing can be cached. TEI's
            requests have no such field: the id is compared with what it serves.
        project: The project or account that a cloud bills: of ``google``, ``watsonx`` and ``cloudflare``, by default
            from the variable of the dialect; the team of ``prime``, by default none.
        instruction: What relevance means, in words, for the model to follow: ``Prefer recent guidelines.`` By default
            none is sent. ``vllm``, ``sglang``, ``contextual``, ``deepinfra``, ``dashscope``, ``siliconflow`` and
            ``prime`` take one; whether the model follows it depends on the model.
        api_key: The key, or ``${VAR}`` for the environment variable that holds it. By default the variable of the
            dialect (for ``nim`` ``NVIDIA_API_KEY``), for the provider's own hosts alone; other servers need no key.
        base_url: The address of the server, such as ``http://gpu-box:8080``. Providers have their own, except
            ``watsonx`` (``https://us-south.ml.cloud.ibm.com``). A ``/v1`` at its end may be left out.
        path: The path to add to ``base_url`` instead of the dialect's (OpenVINO; NVIDIA's hosted models have a URL
            each, and ``/reranking``). Traces and configs show it, so it must not hold a key.
        answers_on: The scale of the scores, where it is not the dialect's. llama.cpp gives probabilities, and no
            logits, for Qwen3-Reranker (``relevance``); vLLM gives cosines for embedding models (``similarity``), and
            logits with ``extra_body: {use_activation: false}`` (``sigmoid``); Infinity gives no logits before October
            2024 (``relevance``).
        extra_body: Further fields of each request, such as vLLM's ``truncate_prompt_tokens``.
        max_texts: How many texts go in one request at most, instead of the dialect's limit.
        window: How many tokens of query and text together the server's model reads, where the server does not say it
            (Infinity). It is used for the note and the coverage of texts that the server cuts.

    Raises:
        ConfigError: Also for a server of your own without ``base_url``, or a model that must be named.
    """

    kind: ClassVar[str] = "http"
    label_fields: ClassVar[tuple[str, ...]] = ("dialect", "model")
    key_variables: ClassVar[tuple[str, ...]] = ()
    most_texts: ClassVar[int] = 1_000
    model_optional: ClassVar[bool] = True
    fields_without_effect: ClassVar[frozenset[str]] = HttpApiReranker.fields_without_effect | {"max_texts", "project"}

    dialect: Name
    model: str = ""
    project: str | None = None
    instruction: str | None = None
    path: str | None = None
    answers_on: Scale | None = None
    extra_body: Mapping[str, Any] = field(default_factory=dict, hash=False)
    max_texts: int | None = None
    window: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of(self.dialect, get_args(Name), "dialect")
        row = self._row
        row.check_needs(self.base_url, self.model)
        row.check_wishes(self.project, self.instruction, self.extra_body)
        if self.path is not None and not self.path.startswith("/"):
            raise ConfigError(f"path must start with /, got {self.path!r}", path="path")
        if self.answers_on is not None:
            one_of(self.answers_on, SCALES, "answers_on")
        for name in ("max_texts", "window"):
            if getattr(self, name) is not None:
                at_least(getattr(self, name), 1, name)
        object.__setattr__(self, "extra_body", row.check_extra(self.extra_body))

    @property
    def scale(self) -> Scale:
        """The scale of this server's scores."""
        return self.answers_on or ("similarity" if self._listwise else self._row.scale)

    @property
    def takes_instruction(self) -> bool:
        """Whether a request has a place for an instruction."""
        return self._row.instruction is not None

    @property
    def model_id(self) -> str | None:
        """The model that the server says it has, with its commit; else the one that is named here."""
        info = self._server_info
        return "@".join(filter(None, (info.model, info.revision))) or self.model or None

    @property
    def why_not_cacheable(self) -> str | None:
        """Why no cache may keep the scores: the model has no name here, or reads all texts of a request together."""
        if self._listwise:
            return f"{self.model} reads the texts of a request together"
        if not self.model:
            return "no model is named, so another one on the server would not be noticed; give model"
        return super().why_not_cacheable

    def key(self) -> str:
        """Return the key that a request would carry now; empty where none is needed and none is given.

        Raises:
            UnusableKey: There is none, or a text that is no key.
        """
        is_provider = self._row.is_provider(self._url(""))
        variables = self._row.keys if is_provider else ()
        return find_key(self.kind, self.api_key, variables, optional=not is_provider)

    def check_environment(self) -> None:
        """Check that the key is there, and the project, where one is needed."""
        super().check_environment()
        self._row.find_project(self.project)

    def warm_up(self) -> None:
        """Make the client, and read what the server serves, if its dialect has an endpoint for that."""
        super().warm_up()
        if self.client is not None or self.async_client is None:
            self._discover()

    def close(self) -> None:
        """Close the client that threads share, unless it was injected, and forget what the server said."""
        super().close()
        forget(self, "_server_info_cache")

    def _identity_facts(self) -> Mapping[str, Any]:
        if self.client is not None or self.async_client is None:
            with suppress(BackendError):  # without a server, the config is all that identifies it
                self._discover()
        return {"base_url": self._url(""), "server": dict(self._server_info.facts)}

    @property
    def _row(self) -> Dialect:
        return DIALECTS[self.dialect]

    @property
    def _listwise(self) -> bool:
        return self._row.cosine is not None and self.model.startswith(self._row.cosine)

    def _url(self, path: str) -> str:
        return self._row.url(self.base_url, path)

    def _host(self) -> str:
        return self._url("")

    @property
    def endpoint(self) -> str:
        """The URL that requests are sent to.

        Raises:
            ConfigError: The provider needs a project, and none is known.
        """
        if self.path:
            return self._url("") + self.path
        return self._url(self._row.url_path(self.model, self._row.find_project(self.project)))

    @property
    def _list_price(self) -> Price | None:
        return list_price(self.dialect, self.model) if self._row.is_provider(self._url("")) else None

    @load_once
    def _server_info_cache(self) -> ServerInfoCache:
        return ServerInfoCache()

    @property
    def _server_info(self) -> ServerInfo:
        return self._server_info_cache.info

    def _discover(self) -> None:
        if self._needs_discovery:
            exchange = self._exchange("")(())
            try:
                response = self._exchange_json(exchange, self._info_request(exchange), _info_timeout())
            except BackendError as error:
                self._server_info_cache.note_failure(error)
            else:
                self._server_info_cache.read(exchange, response, self.model, as_list=self._row.info is None)

    async def _adiscover(self) -> None:
        if self._needs_thread:
            await arun_in_thread(self._discover)
        elif self._needs_discovery:
            exchange = self._exchange("")(())
            try:
                response = await self._aexchange_json(exchange, self._info_request(exchange), _info_timeout())
            except BackendError as error:
                self._server_info_cache.note_failure(error)
            else:
                self._server_info_cache.read(exchange, response, self.model, as_list=self._row.info is None)

    @property
    def _needs_discovery(self) -> bool:
        says = self._row.info or self._row.models
        return says is not None and not self._server_info_cache.is_fresh and not self._circuit_open

    def _info_request(self, exchange: Exchange) -> HttpRequest:
        row = self._row
        return HttpRequest("GET", self._url(row.info or row.models or ""), row.request_headers(exchange.key, ""))

    def _send(self, exchange: Exchange, timeout: float) -> Reply:
        with self._expiring_info():
            return read_answer(
                self._row, exchange, self._exchange_json(exchange, self._rerank_request(exchange), timeout)
            )

    async def _asend(self, exchange: Exchange, timeout: float) -> Reply:
        with self._expiring_info():
            response = await self._aexchange_json(exchange, self._rerank_request(exchange), timeout)
            return read_answer(self._row, exchange, response)

    @contextmanager
    def _expiring_info(self) -> Iterator[None]:
        """Have the server asked again after a failure: it may be another one then."""
        try:
            yield
        except BackendError:
            self._server_info_cache.expire()
            raise

    def _rerank_request(self, exchange: Exchange) -> HttpRequest:
        row = self._row
        project = row.find_project(self.project)
        body = row.body(
            *(self.model, exchange.query, exchange.texts, self.extra_body),
            instruction=exchange.instruction,
            project=project,
        )
        return HttpRequest("POST", self.endpoint, row.request_headers(exchange.key, project), body)

    def _exchange(self, query: str) -> partial[Exchange]:
        row, advice = self._row, ""
        if row.keeps_computing:
            advice = (
                f"{row.title} goes on with a request after that, so it was not sent again. Give a longer timeout (now "
                f"{self.timeout:g} s, and at most retry.budget), fewer texts a request (max_texts, now "
                f"{self._request_texts}), or a limit of requests at once (limits.concurrency)"
            )
        bounds = 'if they are logits, give answers_on="sigmoid"; if they are cosines, answers_on="similarity"'
        instruction = self._instruction()
        return partial(super()._exchange(query), instruction=instruction, timeout_advice=advice, bounds_advice=bounds)

    def _instruction(self) -> str | None:
        """Return the instruction of the call, or that of the config, where the server takes one."""
        return instruction_or(self.instruction) if self.takes_instruction else None

    def _finish(self, call: ApiCall, query: str, texts: Sequence[str]) -> Scores:
        scores = super()._finish(call, query, texts)
        return replace(scores, notes=(*scores.notes, *find_ties(self._row, scores)))

    def _find_substitute(self, models: Iterable[str]) -> str | None:
        if self._row.echoes_model:
            models = filter(None, [self._server_info.model])
        model = super()._find_substitute(models)
        if model is not None:
            self._server_info_cache.expire()
        return model

    def _split(self, query: str, texts: Sequence[str]) -> list[range]:
        empty = self._row.body(self.model, query, (), self.extra_body, instruction=self._instruction())
        return split_texts(self._row, query, texts, self._request_texts, len(as_json(empty)))

    @property
    def _request_texts(self) -> int:
        """Texts in one request at most."""
        return self.max_texts or self._server_info.most_texts or self._row.most_texts

    @property
    def _tokens_read(self) -> int | None:
        """Tokens of query and text together that are read, where the rest is cut; ``None`` if that is not known."""
        return self._row.read_tokens(self.window or self._server_info.window, self.extra_body)

    def _notes(self, query: str, texts: Sequence[str]) -> tuple[str, ...]:
        row, info = self._row, self._server_info
        if info.why_unknown is not None and row.info is not None:
            unknown = f"the server did not say what it serves ({row.info}: {info.why_unknown})"
            return (f"{unknown}; at most {self._request_texts} texts go in a request",)
        return note_long_texts(row, query, texts, self._tokens_read)

    def _coverage(self, query: str, texts: Sequence[str]) -> Sequence[Coverage]:
        return estimate_coverage(query, texts, self._tokens_read)


def _info_timeout() -> float:
    return max(min(_INFO_SECONDS, seconds_left()), 0.05)
