"""Observers: recorders and telemetry, which see each call start and get its outcome.

An observer never changes a call: its own errors are logged, and go no further.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from rag_rerank.errors import InputError, RerankError
from rag_rerank.execution.protocols import CallStarted, Observer, Ranker
from rag_rerank.trace import Trace
from rag_rerank.types import Candidate, Ranking

__all__ = ["add_observer", "check_tags", "current_tags", "observed", "remove_observer", "tagged", "trace_of"]

_log = logging.getLogger("rag_rerank")


_tags: ContextVar[Mapping[str, Any]] = ContextVar("rag_rerank_tags", default={})  # noqa: B039 - never changed
_lock = threading.Lock()
_observers: tuple[Observer, ...] = ()


def trace_of(ranking: Ranking | None, error: BaseException | None) -> Trace | None:
    """Return the trace of a call that ended; an error of this package carries it too. ``None`` where there is none."""
    if ranking is not None:
        return ranking.trace
    return error.trace if isinstance(error, RerankError) else None


def add_observer(observer: Observer) -> None:
    """Let an observer see all calls of this process, in all threads."""
    global _observers
    with _lock:
        _observers = (*_observers, observer)


def remove_observer(observer: Observer) -> None:
    """Undo the latest `add_observer` of this observer; running calls still report their end to it."""
    global _observers
    with _lock:
        at = max(i for i, other in enumerate(_observers) if other is observer)
        _observers = (*_observers[:at], *_observers[at + 1 :])


@contextmanager
def tagged(**tags: str | int | float | bool | None) -> Iterator[None]:
    """Attach tags to the calls inside, for their records: a request id, a class of query, a tenant.

    Tags of an outer block hold inside too. They go where the context goes: into tasks, and into the threads that
    the library starts.

    Raises:
        InputError: A value is not text, a finite number, a truth value or ``None``.
    """
    token = _tags.set({**_tags.get(), **check_tags(tags)})
    try:
        yield
    finally:
        _tags.reset(token)


def current_tags() -> Mapping[str, Any]:
    """Return the tags of the calls that start here; see `tagged`."""
    return _tags.get()


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
def observed(
    reranker: Ranker,
    query: str,
    candidates: tuple[Candidate, ...],
    top_k: int | None = None,
    *,
    inner: bool = False,
) -> Iterator[Callable[[Ranking], Ranking]]:
    """Report a call to its observers. Yields a function that takes the ranking, and returns it."""
    observers = (*_observers, *reranker.observers)
    if not observers:
        yield _pass_through
        return
    call = CallStarted(reranker, query, candidates, top_k, inner, current_tags())
    on_end = [take for observer in observers if (take := _safely(observer.on_call_start, call)) is not None]
    rankings: list[Ranking] = []

    def report(ranking: Ranking) -> Ranking:
        rankings.append(ranking)
        return ranking

    error: BaseException | None = None
    try:
        yield report
    except BaseException as raised:
        error = raised
        raise
    finally:
        for take in reversed(on_end):
            _safely(take, rankings[0] if error is None and rankings else None, error)


def _pass_through(ranking: Ranking) -> Ranking:
    return ranking


def _safely(function: Callable[..., Any], *args: Any) -> Any:
    try:
        return function(*args)
    except Exception:  # an observer's own mistake must not become the call's
        _log.exception("an observer of calls raised")
        return None
