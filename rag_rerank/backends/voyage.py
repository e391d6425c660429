"""Voyage AI's rerank models, through Voyage's SDK."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from rag_rerank._lazy import load_once, need
from rag_rerank.backends.api.base import ApiReranker, split
from rag_rerank.backends.api.breaker import Breaker
from rag_rerank.backends.api.event_loops import PerLoop
from rag_rerank.backends.api.exchange import Exchange, Reply, as_count, as_name, get_field, read_rows
from rag_rerank.backends.api.limiter import Limits
from rag_rerank.backends.api.pricing import Price, pair_tokens
from rag_rerank.backends.api.retry import RetryPolicy
from rag_rerank.errors import BackendError, ConfigError, RequestTooLarge
from rag_rerank.execution.http_clients import is_loopback, make_client
from rag_rerank.execution.instruction import check_field, instruction_or
from rag_rerank.trace import Usage
from rag_rerank.types import Scores

__all__ = ["Breaker", "Limits", "Price", "RetryPolicy", "VoyageReranker"]

# tokens of query and text together that a model reads, and tokens of one request; from Voyage's reference
_DEFAULT_WINDOW = 32_000
_WINDOWS = {"rerank-2": 16_000, "rerank-2-lite": 8_000, "rerank-1": 8_000, "rerank-lite-1": 4_000}
_WITHOUT_INSTRUCTION = frozenset(_WINDOWS)  # the generations before 2.5 read it as part of the question
_DEFAULT_REQUEST_TOKENS = 600_000
_REQUEST_TOKENS = {"rerank-1": 300_000, "rerank-lite-1": 300_000}
_FILL = 0.5  # share of a request that is filled: numbers and code have up to twice the tokens of our estimate


@dataclass(frozen=True, kw_only=True)
class VoyageReranker(ApiReranker):
    """A rerank model of Voyage AI.

    Scores are Voyage's relevance, 0 to 1, not comparable between models. A score outside 0..1 by more than rounding is
    refused as a `BadResponse`. Usage has the tokens that the answer says were billed, else our estimate, marked as
    estimated.

    Up to 1,000 texts go in one request, fewer where they would pass the limit of tokens in one request (600,000;
    300,000 for the first generation). Voyage counts the query once for each text; the texts' tokens are estimated here,
    and a request is filled to half of the limit. A request that is still too large is halved.

    The SDK's own retries are off. In threads it keeps connections of its own; an event loop has one session of ours,
    which closes with the loop or at `aclose`, unless you have set ``voyageai.aiosession``.

    Args:
        model: The model's id: ``rerank-2.5``, ``rerank-2.5-lite``, ``rerank-3`` ...
        api_key: The key, or ``${VAR}`` for the environment variable that holds it. By default ``VOYAGE_API_KEY``, read
            at every call.
        base_url: The address of the server with its ``/v1``. By default Voyage's own, or MongoDB's for a key that
            starts with ``al-``.
        truncation: Whether Voyage cuts a query or a text that is longer than the model's window. It does so without
            saying it; a note in the trace says how many texts seem to be longer. If false, Voyage refuses such a text.
        instruction: What relevance means here, in words. ``rerank(..., instruction=)`` replaces it for one call. Voyage
            reads it in the text of the query, as "INSTRUCTION, new line, Query: QUERY", and bills it with the query,
            once for each text. Models before ``rerank-2.5`` take none.
        client: A ``voyageai.Client``. Its own ``timeout`` counts, and it must not retry (``max_retries`` 0 or 1).
        async_client: A ``voyageai.AsyncClient``, on the same conditions.

    Raises:
        ConfigError: Also for a client that retries, and for an instruction to a model that takes none.
    """

    kind: ClassVar[str] = "voyage"
    key_variables: ClassVar[tuple[str, ...]] = ("VOYAGE_API_KEY",)
    most_texts: ClassVar[int] = 1_000

    model: str = "rerank-2.5"
    truncation: bool = True
    instruction: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_field(self.instruction)
        if self.instruction is not None and not self.takes_instruction:
            raise ConfigError(f"{self.model} takes no instruction; rerank-2.5 and later do", path="instruction")
        for name in ("client", "async_client"):
            retries = getattr(getattr(self, name), "max_retries", 0)
            if retries not in (0, 1):
                raise ConfigError(
                    f"the client retries by itself (max_retries={retries}), and so does this reranker; "
                    "make the client with max_retries=0",
                    path=name,
                )

    @property
    def takes_instruction(self) -> bool:
        """Whether the model is of a generation that follows instructions."""
        return self.model not in _WITHOUT_INSTRUCTION

    def score(self, query: str, texts: Sequence[str]) -> Scores:
        """Call Voyage, with the instruction in the query."""
        return super().score(self._query_with_instruction(query), texts)

    async def ascore(self, query: str, texts: Sequence[str]) -> Scores:
        """Do what `score` does without blocking the event loop."""
        return await super().ascore(self._query_with_instruction(query), texts)

    def estimate(self, query: str, texts: Sequence[str]) -> Usage:
        """Estimate requests, tokens and cost, those of the instruction included."""
        return super().estimate(self._query_with_instruction(query), texts)

    def _query_with_instruction(self, query: str) -> str:
        words = instruction_or(self.instruction) if self.takes_instruction else None
        return query if words is None else f"{words}\nQuery: {query}"

    def warm_up(self) -> None:
        """Import the SDK; nothing is sent."""
        _sdk()

    async def aclose(self) -> None:
        """Close the session of the running event loop."""
        await self._session.aclose()
        await super().aclose()

    @property
    def endpoint(self) -> str | None:
        """The URL that requests are sent to; by default it depends on the key. ``None`` for an injected client."""
        if self._has_client:
            return None
        own = "https://ai.mongodb.com/v1" if self.key().startswith("al-") else "https://api.voyageai.com/v1"
        return f"{self.base_url or own}/rerank"

    def _identity_facts(self) -> Mapping[str, Any]:
        return {"base_url": self.base_url or ("MongoDB's" if self.key().startswith("al-") else "Voyage's")}

    @load_once
    def _session(self) -> PerLoop[Any]:
        make = partial(make_client, partial(_new_session, self.base_url), self.label)
        return PerLoop(load=_sdk, make=make, close=lambda session: session.close())

    def _send(self, exchange: Exchange, timeout: float) -> Reply:
        if self.client is not None:
            answer = exchange.call_sdk(self.client.rerank, _translate_error, **self._arguments(exchange))
            return _read_client_reply(answer)
        options = self._options(exchange, timeout)
        answer = exchange.call_sdk(_sdk().Reranking.create, _translate_error, **self._arguments(exchange), **options)
        return _read_reply(exchange, answer)

    async def _asend(self, exchange: Exchange, timeout: float) -> Reply:
        if self.async_client is not None:
            send = self.async_client.rerank
            answer = await exchange.acall_sdk(send, _translate_error, **self._arguments(exchange))
            return _read_client_reply(answer)
        session = await self._session.get()
        sdk, options = _sdk(), self._options(exchange, timeout)
        token = sdk.aiosession.set(sdk.aiosession.get() or session)
        try:
            answer = await exchange.acall_sdk(
                sdk.Reranking.acreate, _translate_error, **self._arguments(exchange), **options
            )
        finally:
            sdk.aiosession.reset(token)
        return _read_reply(exchange, answer)

    def _arguments(self, exchange: Exchange) -> dict[str, Any]:
        return {
            "query": exchange.query,
            "documents": list(exchange.texts),
            "model": self.model,
            "top_k": None,
            "truncation": self.truncation,
        }

    def _options(self, exchange: Exchange, timeout: float) -> dict[str, Any]:
        return {"api_key": exchange.key, "base_url": self.base_url, "request_timeout": timeout}

    def _split(self, query: str, texts: Sequence[str]) -> list[range]:
        window = _WINDOWS.get(self.model, _DEFAULT_WINDOW)
        weights = [min(tokens, window) if self.truncation else tokens for tokens in pair_tokens(query, texts)]
        return split(weights, self.most_texts, _REQUEST_TOKENS.get(self.model, _DEFAULT_REQUEST_TOKENS) * _FILL)

    def _notes(self, query: str, texts: Sequence[str]) -> tuple[str, ...]:
        window = _WINDOWS.get(self.model, _DEFAULT_WINDOW)
        longer = sum(tokens > window for tokens in pair_tokens(query, texts))
        if not longer or not self.truncation:
            return ()
        return (f"by estimate {longer} texts with the query are longer than {window} tokens, and Voyage cuts them",)


def _sdk() -> Any:
    return need("voyageai", extra="voyage")


def _new_session(base_url: str | None) -> Any:
    import aiohttp

    # proxies of the environment, as the SDK uses them in threads; none can be meant for this machine
    return aiohttp.ClientSession(trust_env=not is_loopback(base_url or ""))


def _translate_error(exchange: Exchange, error: Exception) -> BackendError:
    import aiohttp

    errors = need("voyageai.error", extra="voyage")
    if isinstance(error, errors.Timeout):
        return exchange.timeout_error()
    if isinstance(error, (errors.APIConnectionError, aiohttp.ClientError)):
        return exchange.connection_error(error)
    if isinstance(error, errors.VoyageError) and error.http_status is not None:
        body = error.http_body if error.json_body is None else error.json_body
        is_too_large = error.http_status == 400 and "max allowed tokens" in str(body)
        return exchange.http_error(
            error.http_status, error.headers, body, kind=RequestTooLarge if is_too_large else None
        )
    return exchange.sdk_error(error)


def _read_reply(exchange: Exchange, answer: Any) -> Reply:
    """Read the body of an answer as Voyage sent it.

    The SDK returns the body of most 5xx answers (501, 520 ...) as if it were a success, without its status.
    """
    if isinstance(answer, str) or (isinstance(answer, Mapping) and "detail" in answer and "data" not in answer):
        raise exchange.http_error(None, {}, answer)
    if not isinstance(answer, Mapping):
        raise exchange.bad_response("it is not a JSON object")
    usage = answer.get("usage")
    tokens = as_count(usage.get("total_tokens")) if isinstance(usage, Mapping) else None
    return Reply(
        rows=read_rows(answer.get("data"), get_field),
        usage=Usage(tokens=sum(pair_tokens(exchange.query, exchange.texts)), estimated=("tokens",))
        if tokens is None
        else Usage(tokens=int(tokens)),
        model=as_name(answer.get("model")),
    )


def _read_client_reply(answer: Any) -> Reply:
    tokens = as_count(getattr(answer, "total_tokens", None))
    return Reply(
        rows=read_rows(getattr(answer, "results", None), getattr),
        usage=Usage(tokens=None if tokens is None else int(tokens)),
    )
