"""How far something has got, on stderr."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

__all__ = ["bar"]

_STEPS = 1000


@contextmanager
def bar(label: str) -> Iterator[Callable[[float], None]]:
    """Show a bar, and give a function that is told the share that is done; without a terminal, the label alone."""
    with click.progressbar(length=_STEPS, label=label, file=sys.stderr, show_eta=False) as steps:
        yield lambda share: steps.update(int(share * _STEPS) - steps.pos)
