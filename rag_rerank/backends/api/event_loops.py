"""Async clients, which belong to the event loop they were first used in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any, Generic, TypeVar

__all__ = ["PerLoop"]

T = TypeVar("T")


class PerLoop(Generic[T]):
    """One client for each running event loop, closed together with it.

    Each client is kept by a suspended async generator. Event loops finish their async generators before they
    close (``asyncio.run`` does, and so do servers), and thereby close the client while its connections still can
    be closed in order. So nobody has to call `aclose`, and one owner may be used in many loops, one after the
    other or side by side in threads.

    Args:
        load: Called on a worker thread before the first client is made: the slow imports.
        make: Makes a client; called inside the event loop.
        close: Closes a client.
    """

    def __init__(self, *, load: Callable[[], Any], make: Callable[[], T], close: Callable[[T], Awaitable[Any]]) -> None:
        self._load = load
        self._make = make
        self._close = close
        self._kept: dict[asyncio.AbstractEventLoop, tuple[T, AsyncGenerator[None, None]]] = {}

    async def get(self) -> T:
        """Return the client of the running event loop; made at the first call."""
        loop = asyncio.get_running_loop()
        if loop not in self._kept:
            await asyncio.to_thread(self._load)
        if loop not in self._kept:
            for gone in [other for other in list(self._kept) if other.is_closed()]:
                self._kept.pop(gone, None)
            client = self._make()
            keeper = self._keeper(loop, client)
            self._kept[loop] = client, keeper
            await anext(keeper)
        return self._kept[loop][0]

    async def aclose(self) -> None:
        """Close the client of the running event loop, if there is one."""
        if kept := self._kept.get(asyncio.get_running_loop()):
            await kept[1].aclose()

    async def _keeper(self, loop: asyncio.AbstractEventLoop, client: T) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            self._kept.pop(loop, None)
            await self._close(client)
