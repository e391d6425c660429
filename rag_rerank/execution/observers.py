"""Who watches calls: recorders and telemetry, told of each call as it begins and of what came of it.

What a watcher does never changes the call: an error of its own is logged and goes no further.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from rag_rerank.errors import InputError, RerankError
from rag_rerank.trace import Trace
from rag_rerank.types import Candidate, Ranking

if TYPE_CHECKING:
    from rag_rerank.base import Reranker

__all__ = ["Asked", "Ended", "Watcher", "check_tags", "tagged", "trace_of", "unwatch", "watch", "watched"]

_log = logging.getLogger("rag_rerank")


@dataclass(frozen=True, slots=True)
class Asked:
    """A call as it begins.

    Args:
        reranker: Who was asked.
        query: The query as given.
        candidates: All candidates, checked.
        top_k: How many hits will be returned; ``None`` for all, and for calls inside another.
        inner: Whether a composite asked, and not the user.
        tags: What the user said of the call; see `tagged`.
    """

    reranker: Reranker
    query: str
    candidates: tuple[Candidate, ...]
    top_k: int | None = None
    inner: bool = False
    tags: Mapping[str, Any] = field(default_factory=lambda: _tags.get())


Ended = Callable[["Ranking | None", "BaseException | None"], None]
"""Takes what came of a call: its ranking over all candidates, or what was raised."""


def trace_of(ranking: Ranking | None, error: BaseException | None) -> Trace | None:
    """Return the trace of a call that ended, which an error of ours carries too; ``None`` where there is none."""
    if ranking is not None:
        return ranking.trace
    return error.trace if isinstance(error, RerankError) else None


class Watcher(Protocol):
    """Someone who wants to know of calls; called in the thread or task of the call, many of which may run at once."""

    def began(self, asked: Asked) -> Ended | None:
        """Note that a call begins, and return who takes its end; ``None`` to look no further."""


_tags: ContextVar[Mapping[str, Any]] = ContextVar("rag_rerank_tags", default={})  # noqa: B039 - never changed
_lock = threading.Lock()
_watchers: tuple[Watcher, ...] = ()


def watch(watcher: Watcher) -> None:
    """Let someone watch all calls of this process, in all threads."""
    global _watchers
    with _lock:
        _watchers = (*_watchers, watcher)


def unwatch(watcher: Watcher) -> None:
    """End what `watch` began, for the one that began last; calls that run are still told to their end."""
    global _watchers
    with _lock:
        at = max(i for i, other in enumerate(_watchers) if other is watcher)
        _watchers = (*_watchers[:at], *_watchers[at + 1 :])


@contextmanager
def tagged(**tags: str | int | float | bool | None) -> Iterator[None]:
    """Say something about the calls inside, for their records: an id of the request, a class of query, a tenant.

    Tags of an outer block hold inside too. They go where the context goes: into tasks, and into the threads that
    the library begins.

    Raises:
        InputError: A value is not text, a finite number, a truth value or ``None``.
    """
    token = _tags.set({**_tags.get(), **check_tags(tags)})
    try:
        yield
    finally:
        _tags.reset(token)


def check_tags(tags: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return tags that a record can hold.

    Raises:
        InputError: A value is not text, a finite number, a truth value or ``None``.
    """
    for name, value in tags.items():
        if not isinstance(value, (str, int, float, bool, type(None))):
            raise InputError(f"tag {name!r} must be text, a number or a truth value, got {type(value).__name__}")
        if isinstance(value, float) and not math.isfinite(value):
            raise InputError(f"tag {name!r} must be finite, got {value}")
    return dict(tags)


@contextmanager
def watched(
    reranker: Reranker,
    query: str,
    candidates: tuple[Candidate, ...],
    top_k: int | None = None,
    *,
    inner: bool = False,
) -> Iterator[Callable[[Ranking], Ranking]]:
    """Let whoever watches know of a call; gives a function that is handed the ranking, and returns it."""
    watchers = (*_watchers, *reranker.watchers)
    if not watchers:
        yield _as_it_is
        return
    asked = Asked(reranker, query, candidates, top_k, inner)
    waiting = [ended for watcher in watchers if (ended := _safely(watcher.began, asked)) is not None]
    rankings: list[Ranking] = []

    def told(ranking: Ranking) -> Ranking:
        rankings.append(ranking)
        return ranking

    error: BaseException | None = None
    try:
        yield told
    except BaseException as raised:
        error = raised
        raise
    finally:
        for ended in reversed(waiting):
            _safely(ended, rankings[0] if error is None and rankings else None, error)


def _as_it_is(ranking: Ranking) -> Ranking:
    return ranking


def _safely(do: Callable[..., Any], *args: Any) -> Any:
    try:
        return do(*args)
    except Exception:  # a watcher's own mistake must not become the call's
        _log.exception("someone who watches calls raised")
        return None
