"""Rerank servers without an SDK of their own: TEI, vLLM, Infinity, llama.cpp, NIM, Mixedbread, Jina, and gateways."""

from __future__ import annotations

import asyncio
import math
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, get_args

from rag_rerank._lazy import forget, load_once, need
from rag_rerank.backends.api.attempts import RetryPolicy
from rag_rerank.backends.api.base import ApiReranker, find_key
from rag_rerank.backends.api.breaker import Breaker
from rag_rerank.backends.api.call import split
from rag_rerank.backends.api.dialects import DIALECTS, Dialect, Name
from rag_rerank.backends.api.event_loops import PerLoop
from rag_rerank.backends.api.exchange import Exchange, Reply, get_field, read_rows
from rag_rerank.backends.api.http_transport import HttpRequest, HttpResponse, as_json, asend, send, translate_error
from rag_rerank.backends.api.limiter import Limits
from rag_rerank.backends.api.pricing import Price
from rag_rerank.backends.api.server_info import ServerInfoCache
from rag_rerank.errors import BackendError, ConfigError, did_you_mean
from rag_rerank.execution.deadline import seconds_left
from rag_rerank.types import SCALES, Scale

__all__ = ["Breaker", "HttpReranker", "Limits", "Price", "RetryPolicy"]

_INFO_SECONDS = 2.0  # a server that does not tell what it serves by then is asked to rerank without


@dataclass(frozen=True, kw_only=True)
class HttpReranker(ApiReranker):
    """Scores by a rerank server, asked in its own dialect.

    ========== ======================================== ==================== ======================================
    dialect    server, and what is added to base_url    scale                limits, and what to know
    ========== ======================================== ==================== ======================================
    tei        Text Embeddings Inference: /rerank       sigmoid              32 texts and 2 MB, or what it says
                                                                             itself; cuts long texts
    vllm       vLLM: /rerank                            relevance            refuses long texts, unless told to cut
    infinity   Infinity: /rerank                        sigmoid              2,048 texts; cuts, and does not tell
    llamacpp   llama-server --reranking: /rerank        sigmoid              refuses what is over its ubatch size
    nim        NVIDIA NIM: /v1/ranking                  sigmoid              512 texts; refuses long texts
    mixedbread Mixedbread: /v1/reranking                relevance            ``MXBAI_API_KEY``; cuts, and does not tell
    jina       Jina AI: /rerank                         relevance;           ``JINA_API_KEY``
                                                        v3: similarity
    cohere     gateways with Cohere's v2 API:           relevance            for Cohere itself, use type ``cohere``
               /v2/rerank
    ========== ======================================== ==================== ======================================

    Servers of ``sigmoid`` are asked for the logit, which is what is ranked by and stands in ``raw_score``; so no ties
    arise where the sigmoid is 1. Usage has the tokens that the answer tells, and nothing where it tells nothing.

    TEI says what it serves (``/info``), and is asked once: its limits are kept, its model stands in the trace, a
    model that is no reranker, or not the one named here, is an error, and a note says how many texts seem to be
    longer than its window. A note also says if it did not tell.

    Redirects are not followed. ``timeout`` seconds are waited for the connection and for the beginning of an answer,
    and its end must not come later than that either; only a server that sends its headers byte by byte can take longer,
    up to the time of the call. Proxies are those of the environment, or of the injected client.

    Args:
        dialect: How the server speaks; see above.
        model: The model. Where the server has just one, it may be left out; then nothing can be cached. TEI's
            requests have no such field: a name is compared with what it serves.
        api_key: The key, or ``"${VAR}"``, sent as a bearer token. By default that of the variable above (for
            ``nim`` ``NVIDIA_API_KEY``); servers that you run need none.
        base_url: Where the server is. Mixedbread and Jina have their own.
        path: What is added to ``base_url``, where it is not the usual (OpenRouter, OpenVINO; NVIDIA's hosted models
            have a URL each, and ``/reranking``). Shown in traces and configs, so no place for a key.
        answers_on: What the scores mean, where that is not the dialect's usual. llama.cpp gives probabilities, and
            no logits, for Qwen3-Reranker (``relevance``); vLLM gives cosines for embedding models (``similarity``),
            and logits with ``extra_body={"use_activation": False}`` (``sigmoid``); Infinity gives no logits before
            October 2024 (``relevance``).
        extra_body: Further fields of each request, such as vLLM's ``truncate_prompt_tokens``.
        max_texts: Texts in one request at most, where fewer than the usual are wanted, or more are allowed.
        client: An ``httpx.Client`` for proxies, certificates or a transport of your own; you close it.
        async_client: An ``httpx.AsyncClient``, for one event loop.

    Raises:
        ConfigError: Also for a server of your own without ``base_url``, or a model that must be named.
    """

    kind: ClassVar[str] = "http"
    key_variables: ClassVar[tuple[str, ...]] = ()
    most_texts: ClassVar[int] = 1_000
    bare_clients: ClassVar[bool] = True
    model_optional: ClassVar[bool] = True
    fields_without_effect: ClassVar[frozenset[str]] = ApiReranker.fields_without_effect | {"max_texts"}

    dialect: Name
    model: str = ""
    path: str | None = None
    answers_on: Scale | None = None
    extra_body: Mapping[str, Any] = field(default_factory=dict, hash=False)
    max_texts: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dialect not in get_args(Name):
            raise ConfigError(
                f"unknown dialect {self.dialect!r}{did_you_mean(str(self.dialect), get_args(Name))}", path="dialect"
            )
        row = self._row
        if self.base_url is None and row.home is None:
            raise ConfigError(
                f"dialect {self.dialect!r} needs base_url: where your server is, such as http://gpu-box:8080",
                path="base_url",
            )
        if not self.model and row.model == "needed":
            raise ConfigError(f"dialect {self.dialect!r} needs a model", path="model")
        if self.path is not None and not self.path.startswith("/"):
            raise ConfigError(f"path must start with /, got {self.path!r}", path="path")
        if self.answers_on is not None and self.answers_on not in SCALES:
            raise ConfigError(f"answers_on must be one of {', '.join(SCALES)}", path="answers_on")
        if self.max_texts is not None and self.max_texts < 1:
            raise ConfigError(f"max_texts must be at least 1, got {self.max_texts}", path="max_texts")
        object.__setattr__(self, "extra_body", row.checked(self.extra_body))

    @property
    def label(self) -> str:
        """How traces call this reranker: by its dialect, and its model where one is named."""
        return self.name or ":".join(filter(None, (self.kind, self.dialect, self.model)))

    @property
    def scale(self) -> Scale:
        """What this server's scores mean."""
        return self.answers_on or ("similarity" if self._listwise else self._row.scale)

    @property
    def model_id(self) -> str | None:
        """The model that the server says it has, with its commit; else the one that is named here."""
        said = self._met.server
        return "@".join(filter(None, (said.model, said.revision))) or self.model or None

    @property
    def why_not_cacheable(self) -> str | None:
        """A model without a name, or one that reads all texts of a request together."""
        if self._listwise:
            return f"{self.model} reads the texts of a request together"
        if not self.model:
            return "no model is named, so another one on the server would not be noticed; give model"
        return super().why_not_cacheable

    def key(self) -> str:
        """Return the key that a request would carry now; nothing where none is needed and none is given.

        Raises:
            AuthenticationError: There is none, or it holds what no header can hold.
        """
        return find_key(self.kind, self.api_key, self._row.keys, optional=self._row.home is None)

    def warm_up(self) -> None:
        """Make the client, and ask the server what it serves, if it is one that tells."""
        if not self._injected:
            _ = self._own
        if self.client is not None or self.async_client is None:
            self._meet()

    def close(self) -> None:
        """Close the own client of the threads, and forget what the server said."""
        if own := forget(self, "_own"):
            own.close()
        forget(self, "_met")

    async def aclose(self) -> None:
        """Close the own clients: that of the running event loop, and that of the threads."""
        await self._own_async.aclose()
        await super().aclose()

    def _identity_facts(self) -> Mapping[str, Any]:
        return {"base_url": self._url(""), "path": self.path or self._row.path}

    @property
    def _row(self) -> Dialect:
        return DIALECTS[self.dialect]

    @property
    def _listwise(self) -> bool:
        return self._row.cosine is not None and self.model.startswith(self._row.cosine)

    def _url(self, path: str) -> str:
        return f"{self.base_url or self._row.home}{path}"

    def _host(self) -> str:
        return self._url("")

    @load_once
    def _own(self) -> Any:
        client = _httpx().Client()
        weakref.finalize(self, client.close)
        return client

    @load_once
    def _own_async(self) -> PerLoop[Any]:
        return PerLoop(load=_httpx, make=lambda: _httpx().AsyncClient(), close=lambda client: client.aclose())

    @load_once
    def _met(self) -> ServerInfoCache:
        return ServerInfoCache()

    def _meet(self) -> None:
        if self._curious:
            exchange = self._exchange("")(())
            try:
                answer = self._told(exchange, self._question(exchange), _patience())
            except BackendError as error:
                self._met.unanswered(error)
            else:
                self._met.answered(exchange, answer, self.model)

    async def _ameet(self) -> None:
        if self.client is not None and self.async_client is None:
            await asyncio.to_thread(self._meet)
        elif self._curious:
            exchange = self._exchange("")(())
            try:
                answer = await self._atold(exchange, self._question(exchange), _patience())
            except BackendError as error:
                self._met.unanswered(error)
            else:
                self._met.answered(exchange, answer, self.model)

    @property
    def _curious(self) -> bool:
        return self._row.info is not None and not self._met.server.final and not self._left_alone

    def _question(self, exchange: Exchange) -> HttpRequest:
        return HttpRequest("GET", self._url(self._row.info or ""), exchange.key)

    def _send(self, exchange: Exchange, timeout: float) -> Reply:
        return self._reply(exchange, self._told(exchange, self._request(exchange), timeout))

    async def _asend(self, exchange: Exchange, timeout: float) -> Reply:
        return self._reply(exchange, await self._atold(exchange, self._request(exchange), timeout))

    def _told(self, exchange: Exchange, asked: HttpRequest, timeout: float) -> HttpResponse:
        client = self._own if self.client is None else self.client
        return exchange.sent(send, translate_error, client=client, asked=asked, timeout=min(timeout, self.timeout))

    async def _atold(self, exchange: Exchange, asked: HttpRequest, timeout: float) -> HttpResponse:
        client = await self._own_async.get() if self.async_client is None else self.async_client
        return await exchange.asent(
            asend, translate_error, client=client, asked=asked, timeout=min(timeout, self.timeout)
        )

    def _request(self, exchange: Exchange) -> HttpRequest:
        row = self._row
        body = row.body(self.model, exchange.query, exchange.texts, self.extra_body)
        return HttpRequest("POST", self._url(self.path or row.path), exchange.key, body)

    def _reply(self, exchange: Exchange, answer: HttpResponse) -> Reply:
        row, told = self._row, answer.told
        if answer.status != 200:
            known = row.refusal(answer.status, str(told))
            kind, advice = (known.kind, known.advice) if known else (None, None)
            raise exchange.refused(answer.status, answer.headers, told, kind=kind, advice=advice)
        if isinstance(told, str):
            raise exchange.bad("it is not JSON of the expected shape")
        return Reply(read_rows(row.listed(told), get_field, row.score), row.billed(told, answer.headers))

    def _parts(self, query: str, texts: Sequence[str]) -> list[range]:
        row = self._row
        room = row.most_bytes - len(as_json(row.body(self.model, query, (), self.extra_body)))
        weights = [0] * len(texts) if math.isinf(room) else [len(as_json(text)) + 1 for text in texts]
        return split(weights, self._most, room)

    @property
    def _most(self) -> int:
        return self.max_texts or self._met.server.most_texts or self._row.most_texts

    def _remarks(self, query: str, texts: Sequence[str]) -> tuple[str, ...]:
        cuts = bool(self.extra_body.get("truncate", True))
        return self._met.server.remarks(query, texts, most=self._most, cuts=cuts)


def _patience() -> float:
    return max(min(_INFO_SECONDS, seconds_left()), 0.05)


def _httpx() -> Any:
    return need("httpx", extra="http")
