"""How far something has got, on stderr."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

__all__ = ["bar"]

_STEPS = 1000


@contextmanager
def bar(label: str) -> Iterator[Callable[..., None]]:
    """Show a bar, and give a function that is told the share that is done and, if there is more to say, a few words.

    Without a terminal, the label alone is shown.
    """
    shown = click.progressbar(
        length=_STEPS, label=label, file=sys.stderr, show_eta=False, item_show_func=lambda words: words
    )
    with shown as steps:
        yield lambda share, words=None: steps.update(int(share * _STEPS) - steps.pos, words)
