"""What a host's results cannot carry: logged, and passed to the caller's hooks, plain or async."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from typing import Any

from rag_rerank.context import Context
from rag_rerank.errors import ConfigError
from rag_rerank.types import Ranking

__all__ = ["acall_hooks", "call_hooks", "check_sync_hooks", "log_remarks"]

Hook = Callable[[Any], object]


def log_remarks(logger: logging.Logger, ranking: Ranking, context: Context | None) -> None:
    """Log why a ranking is degraded, and the notes of a context, as warnings of the adapter."""
    for reason in ranking.degraded:
        logger.warning("degraded ranking: %s", reason)
    for note in () if context is None else context.notes:
        logger.warning("context: %s", note)


def check_sync_hooks(**hooks: Hook | None) -> None:
    """Check, before a synchronous call does any work, that it can call these hooks.

    Raises:
        ConfigError: A hook is a coroutine function.
    """
    for name, hook in hooks.items():
        if hook is not None and (_is_async(hook) or _is_async(getattr(hook, "__call__", None))):  # noqa: B004
            raise _make_error(name)


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
            raise _make_error(name)


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


def _make_error(name: str) -> ConfigError:
    return ConfigError(
        "it is a coroutine function, which a synchronous call cannot await; call the async method of the host "
        "(ainvoke, acompress_documents, aquery, apostprocess_nodes, run_async), or give a plain function",
        path=name,
    )
