"""What loads on first use: optional packages, and state that is loaded once and never pickled."""

from __future__ import annotations

import importlib
import os
import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar, overload

from rag_rerank.errors import MissingExtraError

T = TypeVar("T")

_ABSENT = object()


class loaded(Generic[T]):
    """A method turned into a value that is computed once per instance and process, also under threads.

    Unlike ``functools.cached_property`` (no lock since Python 3.12), two threads that meet at first use load once.
    The value lives in ``instance.__dict__``, beside a frozen dataclass's fields and outside its ``repr``, ``==``
    and pickle. A forked process computes its own: threads, connections and locks do not survive a fork. What it
    inherits it neither uses nor frees.
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
    def __get__(self, instance: None, owner: type) -> loaded[T]: ...
    @overload
    def __get__(self, instance: object, owner: type) -> T: ...
    def __get__(self, instance: object | None, owner: type) -> T | loaded[T]:
        if instance is None:
            return self
        state = instance.__dict__
        key = self._key
        while (value := state.get(key, _ABSENT)) is _ABSENT:
            with self._lock(instance):
                if key not in state:
                    state[key] = self._load(instance)
        found: T = value
        return found

    def peek(self, instance: object) -> T | None:
        """Return the value where it is loaded, else ``None``; never waits."""
        value: T | None = instance.__dict__.get(self._key)
        return value

    def pop(self, instance: object) -> T | None:
        """Forget the value and return it, or ``None`` where nothing was loaded."""
        with self._lock(instance):
            value: T | None = instance.__dict__.pop(self._key, None)
            return value

    def _lock(self, instance: object) -> threading.RLock:
        """Return the lock of this value of this instance, so that two models load side by side."""
        lock: threading.RLock = instance.__dict__.setdefault(f"{self._key}, lock", threading.RLock())
        return lock


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
