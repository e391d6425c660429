"""The base of the backends that send HTTP requests of their own, and how one request is sent."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

from rag_rerank._lazy import need
from rag_rerank.backends.api.client_base import ClientApiReranker
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
class HttpApiReranker(ClientApiReranker):
    """A reranker that calls a server without an SDK, through ``httpx``.

    Args:
        client: An ``httpx.Client`` for proxies, certificates or a transport of your own; you close it.
        async_client: An ``httpx.AsyncClient``, for one event loop.
    """

    bare_clients: ClassVar[bool] = True

    @abstractmethod
    def _host(self) -> str:
        """Return the URL of the server."""

    def _import_client(self) -> Any:
        return need("httpx", extra="http")

    def _new_client(self) -> Any:
        return new_client(self._host(), self.label)

    def _new_async_client(self) -> Any:
        return new_async_client(self._host(), self.label)

    @staticmethod
    async def _aclose_client(client: Any) -> None:
        await client.aclose()

    def _exchange_json(self, exchange: Exchange, request: HttpRequest, timeout: float) -> HttpResponse:
        client, timeout = self._client if self.client is None else self.client, min(timeout, self.timeout)
        return exchange.call_sdk(send, translate_error, client=client, request=request, timeout=timeout)

    async def _aexchange_json(self, exchange: Exchange, request: HttpRequest, timeout: float) -> HttpResponse:
        client = await self._async_client.get() if self.async_client is None else self.async_client
        timeout = min(timeout, self.timeout)
        return await exchange.acall_sdk(asend, translate_error, client=client, request=request, timeout=timeout)
