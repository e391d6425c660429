"""The base of the backends that send HTTP requests of their own: their clients, and how one request is sent."""

from __future__ import annotations

import weakref
from abc import abstractmethod
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from rag_rerank._lazy import forget, load_once, need
from rag_rerank.backends.api.base import ApiReranker
from rag_rerank.backends.api.event_loops import PerLoop
from rag_rerank.backends.api.exchange import Exchange
from rag_rerank.backends.api.http_transport import (
    HttpRequest,
    HttpResponse,
    asend,
    new_async_client,
    new_client,
    send,
    translate_error,
)

__all__ = ["HttpApiReranker"]


@dataclass(frozen=True, kw_only=True)
class HttpApiReranker(ApiReranker):
    """A reranker that calls a server without an SDK, through ``httpx``.

    Args:
        client: An ``httpx.Client`` for proxies, certificates or a transport of your own; you close it.
        async_client: An ``httpx.AsyncClient``, for one event loop.
    """

    bare_clients: ClassVar[bool] = True

    @abstractmethod
    def _host(self) -> str:
        """Return the URL of the server."""

    def warm_up(self) -> None:
        """Make the client; nothing is sent."""
        if not self._has_client:
            _ = self._client

    def close(self) -> None:
        """Close the client that threads share, unless it was injected."""
        if client := forget(self, "_client"):
            client.close()

    async def aclose(self) -> None:
        """Close the clients of the running event loop and of the threads, except injected ones."""
        await self._async_client.aclose()
        await super().aclose()

    @load_once
    def _client(self) -> Any:
        client = new_client(self._host(), self.label)
        weakref.finalize(self, client.close)
        return client

    @load_once
    def _async_client(self) -> PerLoop[Any]:
        make = partial(new_async_client, self._host(), self.label)
        return PerLoop(load=_httpx, make=make, close=lambda client: client.aclose())

    def _exchange_json(self, exchange: Exchange, request: HttpRequest, timeout: float) -> HttpResponse:
        client, timeout = self._client if self.client is None else self.client, min(timeout, self.timeout)
        return exchange.call_sdk(send, translate_error, client=client, request=request, timeout=timeout)

    async def _aexchange_json(self, exchange: Exchange, request: HttpRequest, timeout: float) -> HttpResponse:
        client = await self._async_client.get() if self.async_client is None else self.async_client
        timeout = min(timeout, self.timeout)
        return await exchange.acall_sdk(asend, translate_error, client=client, request=request, timeout=timeout)


def _httpx() -> Any:
    return need("httpx", extra="http")
