"""Async clients: each belongs to the event loop in which it was first used."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any, Generic, TypeVar

from rag_rerank.execution.deadline import arun_in_thread

__all__ = ["PerLoop"]

T = TypeVar("T")


class PerLoop(Generic[T]):
    """One client for each running event loop, closed together with it.

    A suspended async generator holds each client. Event loops finish their async generators before they close
    (``asyncio.run`` does, and so do servers), and thereby close the client while its connections can still be closed
    in order. So nobody has to call `aclose`, and one owner may be used in many loops, one after the other or side by
    side in threads.

    Args:
        load: Called on a worker thread before the first client is made: the slow imports.
        make: Makes a client; called inside the event loop.
        close: Closes a client.
    """

    def __init__(self, *, load: Callable[[], Any], make: Callable[[], T], close: Callable[[T], Awaitable[Any]]) -> None:
        self._load = load
        self._make = make
        self._close = close
        self._clients: dict[asyncio.AbstractEventLoop, tuple[T, AsyncGenerator[None, None]]] = {}

    async def get(self) -> T:
        """Return the client of the running event loop; the first call makes it."""
        loop = asyncio.get_running_loop()
        if loop not in self._clients:
            await arun_in_thread(self._load)
        if loop not in self._clients:
            for closed_loop in [other for other in list(self._clients) if other.is_closed()]:
                self._clients.pop(closed_loop, None)
            client = self._make()
            holder = self._hold(loop, client)
            self._clients[loop] = client, holder
            await anext(holder)
        return self._clients[loop][0]

    async def aclose(self) -> None:
        """Close the client of the running event loop, if there is one."""
        if entry := self._clients.get(asyncio.get_running_loop()):
            await entry[1].aclose()

    async def _hold(self, loop: asyncio.AbstractEventLoop, client: T) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            self._clients.pop(loop, None)
            await self._close(client)
