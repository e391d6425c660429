"""What a call has done so far, for when nobody waits for it any more: told by the call itself, asked from outside.

A call that is late or abandoned ends unheard, and what it had tried would be lost with it. So whoever may give up
opens a `Progress` around the call, and whatever runs inside leaves there how to tell its trace as of now.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from rag_rerank.trace import Trace

__all__ = ["Progress", "tells", "tells_nobody"]


class Progress:
    """The place where a call leaves how to tell what it has done."""

    def __init__(self) -> None:
        self._tell: Callable[[], Trace] | None = None

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Let what runs inside tell here."""
        token = _progress.set(self)
        try:
            yield
        finally:
            _progress.reset(token)

    @property
    def trace(self) -> Trace | None:
        """What was done as of now; ``None`` where nothing has begun, or nobody tells."""
        return None if self._tell is None else self._tell()


_progress: ContextVar[Progress | None] = ContextVar("rag_rerank_progress", default=None)


def tells(tell: Callable[[], Trace]) -> None:
    """Leave, for whoever may give up the work at hand, how to tell what it has done."""
    progress = _progress.get()
    if progress is not None:
        progress._tell = tell


def tells_nobody() -> None:
    """Let what comes in this context tell nobody: it is no part of the call at hand."""
    _progress.set(None)
