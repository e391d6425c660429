"""Load on first use: optional packages, and values that are computed once and never pickled."""

from __future__ import annotations

import importlib
import os
import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar, overload

from rag_rerank.errors import MissingExtraError

T = TypeVar("T")

_ABSENT = object()


class load_once(Generic[T]):
    """A decorator that turns a method into an attribute, computed once per instance and process.

    Threads that read it at the same time compute it once, unlike with ``functools.cached_property``, which has no lock
    since Python 3.12. The value is in ``instance.__dict__``, beside the fields of a frozen dataclass, but not in its
    ``repr``, ``==`` and pickle. A forked process computes its own value, because threads, connections and locks do not
    survive a fork; it neither uses nor frees the value of its parent.
    """

    def __init__(self, load: Callable[[Any], T]) -> None:
        self.__doc__ = load.__doc__
        self._load = load

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @property
    def _key(self) -> str:
        return f"{self._name} (loaded by process {os.getpid()})"

    @overload
    def __get__(self, instance: None, owner: type) -> load_once[T]: ...
    @overload
    def __get__(self, instance: object, owner: type) -> T: ...
    def __get__(self, instance: object | None, owner: type) -> T | load_once[T]:
        if instance is None:
            return self
        state = instance.__dict__
        key = self._key
        while (value := state.get(key, _ABSENT)) is _ABSENT:
            with self._lock(instance):
                if key not in state:
                    state[key] = self._load(instance)
        loaded: T = value
        return loaded

    def _peek(self, instance: object) -> T | None:
        value: T | None = instance.__dict__.get(self._key)
        return value

    def _forget(self, instance: object) -> T | None:
        with self._lock(instance):
            value: T | None = instance.__dict__.pop(self._key, None)
            return value

    def _lock(self, instance: object) -> threading.RLock:
        """Return the lock of this value of this instance; other instances load at the same time."""
        lock: threading.RLock = instance.__dict__.setdefault(f"{self._key}, lock", threading.RLock())
        return lock


def peek(instance: object, name: str) -> Any:
    """Return the value of a `load_once` method, or ``None`` if it is not loaded; never waits."""
    method: load_once[Any] = getattr(type(instance), name)
    return method._peek(instance)


def forget(instance: object, name: str) -> Any:
    """Forget the value of a `load_once` method and return it, or ``None`` if it was not loaded."""
    method: load_once[Any] = getattr(type(instance), name)
    return method._forget(instance)


def need(module: str, *, extra: str) -> Any:
    """Import an optional package.

    Raises:
        MissingExtraError: It is not installed or cannot be imported; the message names the install command.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(
            f'{module} cannot be imported ({error}); install it with: pip install "rag-rerank[{extra}]"'
        ) from error
