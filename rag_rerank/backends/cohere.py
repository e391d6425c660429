"""Cohere's rerank models, through Cohere's SDK."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

from rag_rerank._checks import at_least, number, plain_fields, whole_number
from rag_rerank._lazy import forget, load_once, need
from rag_rerank.backends.api.base import find_key
from rag_rerank.backends.api.breaker import Breaker
from rag_rerank.backends.api.call import ApiCall
from rag_rerank.backends.api.client_base import ClientApiReranker
from rag_rerank.backends.api.exchange import Exchange, Reply, as_count, as_name, describe, read_rows
from rag_rerank.backends.api.http_transport import new_async_client, new_client
from rag_rerank.backends.api.limiter import Limits
from rag_rerank.backends.api.pricing import Price, text_tokens, token_usage, unit_usage
from rag_rerank.backends.api.retry import RetryPolicy
from rag_rerank.errors import BackendError, ConfigError
from rag_rerank.execution.http_clients import is_loopback, make_client
from rag_rerank.types import RelevantSpan, Scores

__all__ = ["Breaker", "CohereReranker", "Limits", "Price", "RetryPolicy", "SpanLimits"]

_OWN_SERVER = "https://api.cohere.com"
_DOCUMENT_TOKENS = 4096  # what the API reads of a text where max_tokens_per_doc is not sent


@dataclass(frozen=True, kw_only=True)
class SpanLimits:
    """Which relevant spans Cohere returns.

    Args:
        threshold: The least score of a span, 0 to 1. By default the API's own, which is 0.1.
        max_spans: The most spans of a text. By default all.

    Raises:
        ConfigError: A value is out of its range.
    """

    threshold: float | None = None
    max_spans: int | None = None

    def __post_init__(self) -> None:
        plain_fields(self)
        if self.threshold is not None:
            number(self.threshold, "threshold", 0, 1)
        if self.max_spans is not None:
            whole_number(self.max_spans, 1, "max_spans")


@dataclass(frozen=True, kw_only=True)
class CohereReranker(ClientApiReranker):
    """A rerank model of Cohere, at Cohere or at another server with its v2 API.

    Scores are Cohere's relevance, 0 to 1: their order means something; ratios and thresholds do not carry over from one
    model to another. A score outside 0..1 by more than rounding is refused as a `BadResponse`. Usage has the search
    units or tokens that the answer says were billed, and nothing where it says nothing.

    Up to 1,000 texts go in one request, as the SDK's documentation advises (the API's limit is 10,000). The API reads
    only the first ``max_tokens_per_doc`` tokens of each text and does not say so; a note in the trace says how many
    texts seem to be longer.

    The SDK's own retries are off. It waits ``timeout`` seconds for each connection, write and read. Unless clients are
    injected, they are made on first use, one for all threads and one for each event loop; the latter closes with its
    loop, or at `aclose`.

    Args:
        model: The model's id: ``rerank-v3.5``, ``rerank-v4.0-pro``, ``rerank-v5.0-fast`` ... At Azure it is the
            deployment's name.
        api_key: The key, or ``${VAR}`` for the environment variable that holds it. By default ``CO_API_KEY``, then
            ``COHERE_API_KEY``, read at every call.
        base_url: The address of the server, without ``/v2/rerank``, which the SDK adds (Azure:
            ``https://HOST/providers/cohere``). By default ``CO_API_URL``, then Cohere's own.
        max_tokens_per_doc: How much of each text the API reads, in the model's tokens. By default it reads 4096.
        relevant_spans: Whether to ask for the relevant parts of each text, which ``hit.spans`` then has: ``true``, or
            ``{threshold: 0.3, max_spans: 5}`` (`SpanLimits`). Cohere gives them from Rerank v5 on, and the SDK from
            7.3 on. By default they are not asked for. Whether they cost more, the SDK's documentation does not say.
        priority: Cohere's priority of the request: lower numbers are served earlier. Cohere's default is 0.
        client: A ``cohere.ClientV2`` or another client with its ``rerank``, such as ``cohere.BedrockClientV2``.
        async_client: A ``cohere.AsyncClientV2``, for one event loop.
    """

    kind: ClassVar[str] = "cohere"
    key_variables: ClassVar[tuple[str, ...]] = ("CO_API_KEY", "COHERE_API_KEY")
    most_texts: ClassVar[int] = 1_000
    fields_without_effect: ClassVar[frozenset[str]] = ClientApiReranker.fields_without_effect | {"priority"}

    model: str = "rerank-v3.5"
    max_tokens_per_doc: int | None = None
    relevant_spans: bool | SpanLimits = False
    priority: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.relevant_spans, (bool, SpanLimits)):
            raise ConfigError(
                f"is true, false or SpanLimits(threshold=..., max_spans=...), got {self.relevant_spans!r:.60}",
                path="relevant_spans",
            )
        if self.max_tokens_per_doc is not None:
            at_least(self.max_tokens_per_doc, 1, "max_tokens_per_doc")

    def close(self) -> None:
        """Close the client that threads share, unless it was injected."""
        super().close()
        forget(self, "_server")

    @load_once
    def _server(self) -> str | None:
        return self.base_url or os.environ.get("CO_API_URL")  # the SDK would read it once, at import

    def _host(self) -> str | None:
        return self._server

    @property
    def endpoint(self) -> str | None:
        """The URL that requests are sent to; ``None`` for an injected client."""
        return None if self._has_client else f"{self._server or _OWN_SERVER}/v2/rerank"

    def _identity_facts(self) -> Mapping[str, Any]:
        return {"base_url": self._server}

    def _import_client(self) -> Any:
        return _sdk()

    def _new_client(self) -> Any:
        return self._client_of(_sdk().ClientV2, new_client)

    def _new_async_client(self) -> Any:
        return self._client_of(_sdk().AsyncClientV2, new_async_client)

    def _client_of(self, sdk_class: Callable[..., Any], new_httpx_client: Callable[..., Any]) -> Any:
        options: dict[str, Any] = {}
        if self._server and is_loopback(self._server):  # the SDK's own would go through the environment's proxy
            options["httpx_client"] = new_httpx_client(
                self._server, self.label, timeout=self.timeout, follow_redirects=True
            )
        make = partial(
            sdk_class,
            api_key=partial(find_key, self.kind, self.api_key, self.key_variables),
            base_url=self._server,
            timeout=self.timeout,
            **options,
        )
        return make_client(make, self.label)

    @staticmethod
    def _close_client(client: Any) -> None:
        client.__exit__(None, None, None)

    @staticmethod
    async def _aclose_client(client: Any) -> None:
        await client.__aexit__(None, None, None)

    def _send(self, exchange: Exchange, timeout: float) -> Reply:
        client = self._client if self.client is None else self.client
        arguments = self._arguments(client.rerank, exchange, timeout)
        return self._read_reply(exchange, exchange.call_sdk(client.rerank, _translate_error, **arguments))

    async def _asend(self, exchange: Exchange, timeout: float) -> Reply:
        client = await self._async_client.get() if self.async_client is None else self.async_client
        arguments = self._arguments(client.rerank, exchange, timeout)
        return self._read_reply(exchange, await exchange.acall_sdk(client.rerank, _translate_error, **arguments))

    def _arguments(self, rerank: Callable[..., Any], exchange: Exchange, timeout: float) -> dict[str, Any]:
        """Return the arguments of the SDK's function; ``None`` must be absent, or it would be sent as null.

        Raises:
            ConfigError: Relevant spans are asked for, and the SDK is too old for them.
        """
        options: dict[str, Any] = {"max_tokens_per_doc": self.max_tokens_per_doc, "priority": self.priority}
        if self.relevant_spans:
            _check_takes_spans(rerank)
            limits = self.relevant_spans if isinstance(self.relevant_spans, SpanLimits) else SpanLimits()
            values = {"threshold": limits.threshold, "max_spans": limits.max_spans}
            options["relevant_spans"] = {"mode": "enabled", **{k: v for k, v in values.items() if v is not None}}
        return {
            "model": self.model,
            "query": exchange.query,
            "documents": list(exchange.texts),
            # timeout_in_seconds is the one name that all versions of the SDK know
            "request_options": {"max_retries": 0, "timeout_in_seconds": timeout},
            **{name: value for name, value in options.items() if value is not None},
        }

    def _read_reply(self, exchange: Exchange, answer: Any) -> Reply:
        results, meta = getattr(answer, "results", None), getattr(answer, "meta", None)
        billed = getattr(meta, "billed_units", None)
        tokens = as_count(getattr(billed, "input_tokens", None))
        if tokens is None:
            tokens = as_count(getattr(getattr(meta, "tokens", None), "input_tokens", None))
        return Reply(
            rows=read_rows(results, getattr),
            usage=token_usage(None if tokens is None else int(tokens), exchange.query, exchange.texts)
            + unit_usage(as_count(getattr(billed, "search_units", None)), exchange.query, exchange.texts),
            remarks=tuple(str(remark) for remark in getattr(meta, "warnings", None) or ()),
            model=as_name(getattr(answer, "model", None)),  # other servers with Cohere's API name it
            spans=_read_spans(exchange, results) if self.relevant_spans else {},
        )

    def _finish(self, call: ApiCall, query: str, texts: Sequence[str]) -> Scores:
        """Return the scores of a call; spans that were asked for and did not come are no reason to refuse it."""
        scores = super()._finish(call, query, texts)
        missing = sum(spans is None for spans in scores.spans) if scores.spans else len(texts)
        if not (self.relevant_spans and missing):
            return scores
        reason = (
            f"{self.label} gave no relevant span in the request of {missing} of {len(texts)} texts: it found none, or "
            "the server does not know them"
        )
        return replace(scores, degraded=(*scores.degraded, reason))

    def _notes(self, query: str, texts: Sequence[str]) -> tuple[str, ...]:
        limit = self.max_tokens_per_doc or _DOCUMENT_TOKENS
        longer = sum(text_tokens(text) > limit for text in texts)
        if not longer:
            return ()
        return (f"by estimate {longer} texts are longer than {limit} tokens, and Cohere reads no more of each",)


def _sdk() -> Any:
    sdk = need("cohere", extra="cohere")
    _ = sdk.ClientV2, sdk.AsyncClientV2  # imported on first touch
    return sdk


def _translate_error(exchange: Exchange, error: Exception) -> BackendError:
    import httpx

    if isinstance(error, httpx.TimeoutException):
        return exchange.timeout_error()
    if isinstance(error, httpx.TransportError):
        return exchange.connection_error(error)
    if isinstance(error, httpx.RequestError):  # a body that cannot be decoded, or redirects without end
        return exchange.bad_response(type(error).__name__)
    if isinstance(error, need("cohere.core", extra="cohere").ApiError) and error.status_code is not None:
        return exchange.http_error(error.status_code, error.headers or {}, error.body)
    return exchange.sdk_error(error)


def _check_takes_spans(rerank: Callable[..., Any]) -> None:
    """Raise `ConfigError` unless a client takes ``relevant_spans``, as that of the SDK does from 7.3 on."""
    try:
        parameters = inspect.signature(rerank).parameters.values()
    except ValueError:  # a function without a signature; it will say itself what it lacks
        return
    if any(p.name == "relevant_spans" or p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters):
        return
    raise ConfigError(
        "the cohere SDK that is installed does not know relevant_spans; install version 7.3 or later "
        "(pip install -U cohere), or leave relevant_spans out",
        path="relevant_spans",
    )


def _read_spans(exchange: Exchange, results: object) -> dict[int, tuple[RelevantSpan, ...]]:
    """Return the relevant spans of each text of a request, in text order.

    A result lacks the field where the model found nothing in its text, but also where a server does not know it at all.
    So if no result has it, this is empty: nothing is known of any text.

    Raises:
        BadResponse: A span is not within its text, or has no score in 0..1.
    """
    rows = list(results) if isinstance(results, (list, tuple)) else []
    by_index = {getattr(row, "index", None): getattr(row, "relevant_spans", None) for row in rows}
    if all(spans is None for spans in by_index.values()):
        return {}
    return {
        index: _join_overlaps([_read_span(exchange, index, span) for span in _list_of(exchange, index, spans)])
        for index, spans in by_index.items()
        if isinstance(index, int) and 0 <= index < len(exchange.texts)  # others are refused with their scores
    }


def _list_of(exchange: Exchange, index: int, spans: object) -> Sequence[object]:
    if spans is not None and not isinstance(spans, (list, tuple)):
        raise exchange.bad_response(f"the relevant spans of text {exchange.first + index} are no list")
    return spans or ()


def _read_span(exchange: Exchange, index: int, span: object) -> RelevantSpan:
    what = f"a relevant span of text {exchange.first + index}"
    start, end = getattr(span, "start", None), getattr(span, "end", None)
    places = [place for place in (start, end) if isinstance(place, int) and not isinstance(place, bool)]
    length = len(exchange.texts[index])
    if len(places) < 2 or not 0 <= places[0] < places[1] <= length:
        raise exchange.bad_response(
            f"{what} is from {describe(start)} to {describe(end)}, and it has {length} characters"
        )
    score = exchange.score(getattr(span, "score", None), what)
    return RelevantSpan(places[0], places[1], score, score, is_relevant=True)


def _join_overlaps(spans: Sequence[RelevantSpan]) -> tuple[RelevantSpan, ...]:
    """Return spans in text order; those that overlap become one, with the greater score."""
    spans_in_order: list[RelevantSpan] = []
    for span in sorted(spans, key=lambda span: (span.start, span.end)):
        if spans_in_order and span.start < spans_in_order[-1].end:
            before = spans_in_order.pop()
            better = max(before, span, key=lambda one: one.raw_score)
            span = replace(better, start=before.start, end=max(before.end, span.end))
        spans_in_order.append(span)
    return tuple(spans_in_order)
