"""Output for people: columns, and progress on stderr."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import click

from rag_rerank.text.unicode import valid_unicode

__all__ = ["bar", "one_line", "table", "without_control_characters"]

_WIDEST = 48
"""Signs of a cell at most, the last column apart."""

_LEAST = 24
"""Signs that the last column has at least, however narrow the terminal is."""


def table(rows: Sequence[Sequence[str]], *, align: str, width: int | None = None) -> str:
    """Lay out rows, the first one being the heading, in columns two blanks apart.

    Args:
        rows: Cells; whatever they hold is shown on one line, without signs that would steer a terminal.
        align: One sign for each column: ``>`` for numbers, ``<`` for words.
        width: Signs in a line at most; the last column is cut to it. ``None`` for no limit.
    """
    cells = [[*(_cut(one_line(cell), _WIDEST) for cell in row[:-1]), one_line(row[-1])] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    if width is not None:
        widths[-1] = max(_LEAST, min(widths[-1], width - sum(widths[:-1]) - 2 * len(widths[:-1])))
    return "\n".join(
        "  ".join(f"{_cut(cell, w):{sign}{w}}" for cell, sign, w in zip(row, align, widths, strict=True)).rstrip()
        for row in cells
    )


def one_line(text: str) -> str:
    """Return a text on one line, without signs that would steer a terminal."""
    return without_control_characters(" ".join(valid_unicode(text).split()))


def without_control_characters(text: str) -> str:
    """Return a line as it is, but for signs that would steer a terminal."""
    return "".join(sign if sign.isprintable() else "\ufffd" for sign in valid_unicode(text))


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


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
