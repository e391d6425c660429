"""One HTTP request and its answer: no redirect is followed, the size of the body is limited, and JSON is strict."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rag_rerank._lazy import need
from rag_rerank.backends.api.exchange import Exchange
from rag_rerank.errors import BackendError
from rag_rerank.execution.clock import now
from rag_rerank.execution.http_clients import is_loopback, make_client

__all__ = [
    "HttpRequest",
    "HttpResponse",
    "as_json",
    "asend",
    "new_async_client",
    "new_client",
    "send",
    "translate_error",
]

_MOST_BYTES = 64 * 2**20


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A request.

    Args:
        method: ``POST`` or ``GET``.
        url: Where it is sent.
        headers: Headers beside those of JSON, with the key, if there is one.
        content: The body, sent as JSON.
    """

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    content: Any = field(default=None, repr=False)

    def build(self, client: Any, timeout: float) -> Any:
        """Return the request as the client sends it, with what the client adds (headers, cookies)."""
        headers = {"accept": "application/json", "accept-encoding": "gzip", **self.headers}
        if self.content is None:
            return client.build_request(self.method, self.url, headers=headers, timeout=timeout)
        headers["content-type"] = "application/json"
        body = as_json(self.content)
        return client.build_request(self.method, self.url, headers=headers, content=body, timeout=timeout)


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """An answer, read to its end."""

    status: int
    headers: Mapping[str, str]
    content: bytes = field(repr=False)

    @property
    def parsed(self) -> Any:
        """The body, parsed where it is JSON (which has neither ``NaN`` nor ``Infinity``), else as text."""
        try:
            return json.loads(self.content, parse_constant=_reject_constant)
        except (ValueError, RecursionError):
            return self.content.decode(errors="replace")


class _TooLong(Exception):
    """More bytes than any list of scores has."""


def send(client: Any, request: HttpRequest, timeout: float) -> HttpResponse:
    """Send a request with an ``httpx.Client`` and read the answer."""
    reader = _Reader(timeout)
    # without auth=None, a client's own would take the place of the key
    response = client.send(request.build(client, timeout), stream=True, follow_redirects=False, auth=None)
    try:
        for chunk in response.iter_bytes():
            reader.add(chunk)
    finally:
        response.close()
    return HttpResponse(response.status_code, response.headers, bytes(reader.content))


async def asend(client: Any, request: HttpRequest, timeout: float) -> HttpResponse:
    """Do what `send` does with an ``httpx.AsyncClient``."""
    reader = _Reader(timeout)
    response = await client.send(request.build(client, timeout), stream=True, follow_redirects=False, auth=None)
    try:
        async for chunk in response.aiter_bytes():
            reader.add(chunk)
    finally:
        await response.aclose()
    return HttpResponse(response.status_code, response.headers, bytes(reader.content))


def new_client(url: str, label: str, **options: Any) -> Any:
    """Make an ``httpx.Client`` for a server, with the proxies and certificates of the environment.

    A server on this machine is reached directly: no proxy can be meant for it.

    Args:
        url: Where the server is.
        label: The reranker that needs it, for messages.
        options: Further arguments of the client.

    Raises:
        ConfigError: The environment's proxies or certificates cannot be used.
        MissingExtraError: httpx, or a package that the environment's proxy needs, is not installed.
    """
    return _new_client("Client", "HTTPTransport", url, label, options)


def new_async_client(url: str, label: str, **options: Any) -> Any:
    """Do what `new_client` does with an ``httpx.AsyncClient``."""
    return _new_client("AsyncClient", "AsyncHTTPTransport", url, label, options)


def _new_client(client: str, transport: str, url: str, label: str, options: Mapping[str, Any]) -> Any:
    httpx = need("httpx", extra="http")

    def make() -> Any:
        if not is_loopback(url):
            return getattr(httpx, client)(**options)
        # with a transport, httpx uses no proxies; without TLS, no certificates are read, nor loaded, which takes 20 ms
        has_tls = url.startswith("https:")
        direct = getattr(httpx, transport)(verify=has_tls, trust_env=has_tls)
        return getattr(httpx, client)(transport=direct, **options)

    return make_client(make, label)


class _Reader:
    """A reader that collects a body until it is too long or too late: httpx limits only the wait for each piece."""

    def __init__(self, timeout: float) -> None:
        self.content = bytearray()
        self._end = now() + timeout

    def add(self, chunk: bytes) -> None:
        self.content += chunk
        if len(self.content) > _MOST_BYTES:
            raise _TooLong
        if now() > self._end:
            raise TimeoutError


def translate_error(exchange: Exchange, error: Exception) -> BackendError:
    """Translate an error of httpx into one of ours."""
    httpx = need("httpx", extra="http")
    if isinstance(error, _TooLong):
        return exchange.long_answer_error(_MOST_BYTES)
    if isinstance(error, httpx.TimeoutException):
        return exchange.timeout_error(is_sent=not isinstance(error, (httpx.ConnectTimeout, httpx.PoolTimeout)))
    if isinstance(error, httpx.TransportError):
        return exchange.connection_error(error)
    if isinstance(error, httpx.RequestError):  # a body that cannot be decompressed
        return exchange.bad_response(type(error).__name__)
    return exchange.sdk_error(error)


def as_json(value: Any) -> bytes:
    """Return a value as JSON, as it is sent.

    Raises:
        TypeError: JSON cannot hold a value of this type.
        ValueError: It is ``NaN`` or infinite, or text that UTF-8 cannot hold.
    """
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def _reject_constant(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")
