"""Hooks: the caller's functions that get the ranking and the context of each call, plain or async."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from rag_rerank.errors import ConfigError

__all__ = ["acall_hooks", "call_hooks", "check_sync_hooks"]

Hook = Callable[[Any], object]


def check_sync_hooks(**hooks: Hook | None) -> None:
    """Check, before a synchronous call does any work, that it can call these hooks.

    Raises:
        ConfigError: A hook is a coroutine function.
    """
    for name, hook in hooks.items():
        if hook is not None and (_is_async(hook) or _is_async(getattr(hook, "__call__", None))):  # noqa: B004
            raise _not_awaitable(name)


def call_hooks(*calls: tuple[str, Hook | None, Any]) -> None:
    """Call each hook with its value, in this order; ``None`` as a hook or as a value is left out.

    Raises:
        ConfigError: A hook returned a coroutine, which a synchronous call cannot await.
    """
    for name, hook, value in calls:
        if hook is None or value is None:
            continue
        result = hook(value)
        if inspect.iscoroutine(result):
            result.close()
            raise _not_awaitable(name)


async def acall_hooks(*calls: tuple[str, Hook | None, Any]) -> None:
    """Do what `call_hooks` does, and await what a hook returns if it can be awaited."""
    for _, hook, value in calls:
        if hook is None or value is None:
            continue
        result = hook(value)
        if inspect.isawaitable(result):
            await result


def _is_async(function: object) -> bool:
    return inspect.iscoroutinefunction(function)


def _not_awaitable(name: str) -> ConfigError:
    return ConfigError(
        "it is a coroutine function, which a synchronous call cannot await; call the async method of the host "
        "(ainvoke, acompress_documents, aquery, apostprocess_nodes), or give a plain function",
        path=name,
    )
