"""The base of the backends that make clients of their own: one for all threads, and one for each event loop."""

from __future__ import annotations

import weakref
from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

from rag_rerank._lazy import forget, load_once
from rag_rerank.backends.api.base import ApiReranker
from rag_rerank.backends.api.event_loops import PerLoop

__all__ = ["ClientApiReranker"]


@dataclass(frozen=True, kw_only=True)
class ClientApiReranker(ApiReranker):
    """A reranker that calls its service through clients, which are made at first use unless they are injected.

    The client that threads share is closed by `close`, and when nothing refers to the reranker any more. That of an
    event loop is closed with its loop, or by `aclose`.
    """

    @abstractmethod
    def _import_client(self) -> Any:
        """Import what clients are made of, which may take seconds."""

    @abstractmethod
    def _new_client(self) -> Any:
        """Make a client for threads."""

    @abstractmethod
    def _new_async_client(self) -> Any:
        """Make a client for the running event loop."""

    @staticmethod
    def _close_client(client: Any) -> None:
        client.close()

    @staticmethod
    async def _aclose_client(client: Any) -> None:
        await client.close()

    def warm_up(self) -> None:
        """Import what the client is made of, and make it; nothing is sent."""
        if not self._has_client:
            _ = self._client

    def close(self) -> None:
        """Close the client that threads share, unless it was injected."""
        if client := forget(self, "_client"):
            self._close_client(client)

    async def aclose(self) -> None:
        """Close the clients of the running event loop and of the threads, except injected ones."""
        await self._async_client.aclose()
        await super().aclose()

    @load_once
    def _client(self) -> Any:
        client = self._new_client()
        weakref.finalize(self, self._close_client, client)
        return client

    @load_once
    def _async_client(self) -> PerLoop[Any]:
        return PerLoop(load=self._import_client, make=self._new_async_client, close=self._aclose_client)
