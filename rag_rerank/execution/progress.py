"""Progress of long work: who is told of it, and a bar on the terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from threading import Lock

__all__ = ["Progress", "current_listener", "progress_bar", "progress_listener", "progress_to"]

Progress = Callable[..., None]
"""Called with the share of the work that is done, from 0 to 1, and perhaps a few words about the current step."""

_STEPS = 1000
"""Steps of a bar."""

_listener: ContextVar[Progress | None] = ContextVar("rag_rerank_progress", default=None)


def ignore_progress(share: float, words: str | None = None) -> None:
    """Do nothing."""


@contextmanager
def progress_to(progress: Progress | bool | None, label: str) -> Iterator[Progress]:
    """Yield the function to call with progress.

    Args:
        progress: A user's function; ``True`` for a bar on the terminal; ``None`` or ``False`` for nothing.
        label: What the bar is about.
    """
    if progress is True:
        with progress_bar(label) as show:
            yield show
    else:
        yield progress or ignore_progress


@contextmanager
def progress_bar(label: str, *, without_terminal: str = "") -> Iterator[Progress]:
    """Show a bar with the estimated time to the end on stderr, if that is a terminal; yield the function to call.

    It may be called on any thread. The bar does not move backwards.

    Args:
        label: What it is about.
        without_terminal: A line to print where stderr is no terminal; empty for none.
    """
    if not sys.stderr.isatty():
        if without_terminal:
            print(without_terminal, file=sys.stderr)
        yield ignore_progress
        return
    import click

    lock = Lock()
    with click.progressbar(length=_STEPS, label=label, file=sys.stderr, item_show_func=lambda words: words) as bar:

        def show(share: float, words: str | None = None) -> None:
            with lock:
                bar.update(max(0, int(share * _STEPS) - bar.pos), words)

        yield show


@contextmanager
def progress_listener(progress: Progress) -> Iterator[None]:
    """Tell a function of the progress of the calls made inside, as far as their rerankers know it."""
    token = _listener.set(progress)
    try:
        yield
    finally:
        _listener.reset(token)


def current_listener() -> Progress:
    """Return the function to tell of the progress of this call."""
    return _listener.get() or ignore_progress
