"""Cohere's rerank models, through Cohere's SDK."""

from __future__ import annotations

import os
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from rag_rerank._lazy import forget, load_once, need
from rag_rerank.backends.api.attempts import RetryPolicy
from rag_rerank.backends.api.base import ApiReranker, find_key
from rag_rerank.backends.api.breaker import Breaker
from rag_rerank.backends.api.call import estimated_tokens
from rag_rerank.backends.api.event_loops import PerLoop
from rag_rerank.backends.api.exchange import Exchange, Reply, as_number, read_rows
from rag_rerank.backends.api.limiter import Limits
from rag_rerank.backends.api.pricing import Price
from rag_rerank.errors import BackendError, ConfigError
from rag_rerank.trace import Usage

__all__ = ["Breaker", "CohereReranker", "Limits", "Price", "RetryPolicy"]

_DOCUMENT_TOKENS = 4096  # what the API reads of a text where max_tokens_per_doc is not sent


@dataclass(frozen=True, kw_only=True)
class CohereReranker(ApiReranker):
    """Scores by a rerank model of Cohere, at Cohere or wherever else its v2 API is spoken.

    Scores are Cohere's relevance, 0 to 1: the order means something, ratios and thresholds do not carry over from
    one model to another. A score outside 0..1 by more than rounding is refused as a `BadResponse`. Usage has the
    search units or tokens that the answer says were billed, and nothing where it says nothing.

    Up to 1,000 texts go in one request, as the SDK's documentation advises (the API's limit is 10,000). The API
    reads only the first ``max_tokens_per_doc`` tokens of each text and does not tell; a note in the trace says how
    many texts seem to be longer.

    The SDK does its work without its own retries. It waits ``timeout`` seconds for each connection, write and
    read. An own client is made on first use, one for all threads and one for each event loop; the latter closes
    with its loop, or at `aclose`.

    Args:
        model: ``rerank-v3.5``, ``rerank-v4.0-pro``, ``rerank-v5.0-fast`` ...; at Azure, the deployment's name.
        api_key: The key, or ``"${VAR}"`` for the environment variable that holds it. By default ``CO_API_KEY``,
            then ``COHERE_API_KEY``, read at every call.
        base_url: Server, without ``/v2/rerank``, which the SDK adds (Azure: ``https://HOST/providers/cohere``). By
            default ``CO_API_URL``, then Cohere's own.
        max_tokens_per_doc: How much of each text is read, in the model's tokens; ``None`` leaves it to the API,
            which reads 4096.
        priority: Cohere's priority of the request; lower numbers are served earlier, 0 is its default.
        client: A ``cohere.ClientV2`` or another client with its ``rerank``, such as ``cohere.BedrockClientV2``.
        async_client: A ``cohere.AsyncClientV2``, for one event loop.
    """

    kind: ClassVar[str] = "cohere"
    key_variables: ClassVar[tuple[str, ...]] = ("CO_API_KEY", "COHERE_API_KEY")
    most_texts: ClassVar[int] = 1_000
    fields_without_effect: ClassVar[frozenset[str]] = ApiReranker.fields_without_effect | {"priority"}

    model: str = "rerank-v3.5"
    max_tokens_per_doc: int | None = None
    priority: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_tokens_per_doc is not None and self.max_tokens_per_doc < 1:
            raise ConfigError(
                f"max_tokens_per_doc must be at least 1, got {self.max_tokens_per_doc}", path="max_tokens_per_doc"
            )

    def warm_up(self) -> None:
        """Import the SDK and make the client; nothing is sent."""
        if not self._injected:
            _ = self._own

    def close(self) -> None:
        """Close the own client of the threads."""
        if own := forget(self, "_own"):
            _close(own)
        forget(self, "_server")

    async def aclose(self) -> None:
        """Close the own clients: that of the running event loop, and that of the threads."""
        await self._own_async.aclose()
        await super().aclose()

    @load_once
    def _server(self) -> str | None:
        return self.base_url or os.environ.get("CO_API_URL")  # the SDK would read it once, at import

    def _host(self) -> str | None:
        return self._server

    def _identity_facts(self) -> Mapping[str, Any]:
        return {"base_url": self._server}

    @load_once
    def _own(self) -> Any:
        client = self._made("ClientV2")
        weakref.finalize(self, _close, client)
        return client

    @load_once
    def _own_async(self) -> PerLoop[Any]:
        return PerLoop(load=_sdk, make=partial(self._made, "AsyncClientV2"), close=_aclose)

    def _made(self, kind: str) -> Any:
        return getattr(_sdk(), kind)(
            api_key=partial(find_key, self.kind, self.api_key, self.key_variables),
            base_url=self._server,
            timeout=self.timeout,
        )

    def _send(self, exchange: Exchange, timeout: float) -> Reply:
        client = self._own if self.client is None else self.client
        return _reply(exchange.sent(client.rerank, _translate_error, **self._arguments(exchange, timeout)))

    async def _asend(self, exchange: Exchange, timeout: float) -> Reply:
        client = await self._own_async.get() if self.async_client is None else self.async_client
        return _reply(await exchange.asent(client.rerank, _translate_error, **self._arguments(exchange, timeout)))

    def _arguments(self, exchange: Exchange, timeout: float) -> dict[str, Any]:
        """Return what the SDK is called with; what is ``None`` must be absent, or it would be sent as null."""
        chosen = {"max_tokens_per_doc": self.max_tokens_per_doc, "priority": self.priority}
        return {
            "model": self.model,
            "query": exchange.query,
            "documents": list(exchange.texts),
            # timeout_in_seconds is the one name that all versions of the SDK know
            "request_options": {"max_retries": 0, "timeout_in_seconds": timeout},
            **{name: value for name, value in chosen.items() if value is not None},
        }

    def _remarks(self, query: str, texts: Sequence[str]) -> tuple[str, ...]:
        limit = self.max_tokens_per_doc or _DOCUMENT_TOKENS
        longer = sum(estimated_tokens(text) > limit for text in texts)
        if not longer:
            return ()
        return (f"by estimate {longer} texts are longer than {limit} tokens, and Cohere reads no more of each",)


def _sdk() -> Any:
    sdk = need("cohere", extra="cohere")
    _ = sdk.ClientV2, sdk.AsyncClientV2  # imported on first touch
    return sdk


def _close(client: Any) -> None:
    client.__exit__(None, None, None)


async def _aclose(client: Any) -> None:
    await client.__aexit__(None, None, None)


def _translate_error(exchange: Exchange, error: Exception) -> BackendError:
    import httpx

    if isinstance(error, httpx.TimeoutException):
        return exchange.late()
    if isinstance(error, httpx.TransportError):
        return exchange.lost(error)
    if isinstance(error, httpx.RequestError):  # a body that cannot be decoded, or redirects without end
        return exchange.bad(type(error).__name__)
    if isinstance(error, need("cohere.core", extra="cohere").ApiError) and error.status_code is not None:
        return exchange.refused(error.status_code, error.headers or {}, error.body)
    return exchange.failed(error)


def _reply(answer: Any) -> Reply:
    results, meta = getattr(answer, "results", None), getattr(answer, "meta", None)
    billed, read = getattr(meta, "billed_units", None), getattr(meta, "tokens", None)
    tokens = as_number(getattr(billed, "input_tokens", None))
    if tokens is None:
        tokens = as_number(getattr(read, "input_tokens", None))
    return Reply(
        rows=read_rows(results, getattr),
        usage=Usage(
            search_units=as_number(getattr(billed, "search_units", None)),
            tokens=None if tokens is None else int(tokens),
        ),
        remarks=tuple(str(remark) for remark in getattr(meta, "warnings", None) or ()),
    )
