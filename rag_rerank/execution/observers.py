"""Observers: recorders and telemetry, which see each call start, get its outcome, and what is packed from it.

An observer never changes a call: its own errors are logged, and go no further.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from functools import partial
from typing import Any

from rag_rerank._checks import plain
from rag_rerank.errors import InputError, RerankError
from rag_rerank.execution.instruction import instruction_or
from rag_rerank.execution.protocols import CallStarted, Observer, OnCallEnd, OnContext, Ranker
from rag_rerank.trace import Trace
from rag_rerank.types import Candidate, Origin, Ranking

__all__ = [
    "CallReport",
    "add_observer",
    "check_tags",
    "current_tags",
    "observed",
    "remove_observer",
    "tagged",
    "trace_of",
]

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
    if not isinstance(tags, Mapping):
        raise InputError(f"tags must be a mapping of names to values, got {type(tags).__name__}")
    tags = {name: plain(value) for name, value in tags.items()}
    for name, value in tags.items():
        if not isinstance(value, (str, int, float, bool, type(None))):
            raise InputError(f"tag {name!r} must be text, a number or a truth value, got {type(value).__name__}")
        if isinstance(value, float) and not math.isfinite(value):
            raise InputError(f"tag {name!r} must be finite, got {value}")
    return tags


class CallReport:
    """The report of a running call to its observers.

    Args:
        candidates: All candidates, in incoming order.
    """

    __slots__ = ("_candidates", "_on_context", "ranking")

    def __init__(self, candidates: tuple[Candidate, ...]) -> None:
        self._candidates = candidates
        self._on_context: tuple[OnContext, ...] = ()
        self.ranking: Ranking | None = None

    def __call__(self, ranking: Ranking) -> Ranking:
        """Note the ranking, and return it."""
        self.ranking = ranking
        return ranking

    def with_origin(self, ranking: Ranking) -> Ranking:
        """Return the ranking with the incoming order, and the observers of what is packed from it."""
        return replace(ranking, origin=Origin(tuple(c.id for c in self._candidates), self._on_context))

    def end(self, on_end: Iterable[OnCallEnd], error: BaseException | None) -> None:
        """Tell the observers the outcome of the call."""
        ranking = self.ranking if error is None else None
        on_context = [_safely(take, ranking, error) for take in on_end]
        self._on_context = tuple(partial(_safely, take) for take in on_context if callable(take))


@contextmanager
def observed(
    reranker: Ranker,
    query: str,
    candidates: tuple[Candidate, ...],
    top_k: int | None = None,
    *,
    inner: bool = False,
) -> Iterator[CallReport]:
    """Report a call to its observers. Yields a function that takes the ranking, and returns it."""
    report = CallReport(candidates)
    observers = (*_observers, *reranker.observers)
    if not observers:
        yield report
        return
    call = CallStarted(reranker, query, candidates, top_k, inner, current_tags(), instruction_or(None))
    on_end = [take for observer in observers if (take := _safely(observer.on_call_start, call)) is not None]
    error: BaseException | None = None
    try:
        yield report
    except BaseException as raised:
        error = raised
        raise
    finally:
        report.end(reversed(on_end), error)


def _safely(function: Callable[..., Any], *args: Any) -> Any:
    try:
        return function(*args)
    except Exception:  # an observer's own mistake must not become the call's
        _log.exception("an observer of calls raised")
        return None
