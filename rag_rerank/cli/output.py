"""Output for people: tables, texts that are safe to print, examples in help texts, and progress bars on stderr."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager

from rag_rerank.execution.progress import Progress, progress_bar
from rag_rerank.text.unicode import valid_unicode

__all__ = ["bar", "example", "one_line", "table", "without_control_characters"]

_CELL_WIDTH = 48
"""Maximum width of a cell, except in the last column."""

_LAST_COLUMN = 24
"""Minimum width of the last column, however narrow the terminal is."""


def table(rows: Sequence[Sequence[str]], *, align: str, width: int | None = None) -> str:
    """Return a table in columns two spaces apart; the first row is the heading.

    Args:
        rows: Cells; each is put on one line, without control characters.
        align: One character for each column: ``>`` for numbers, ``<`` for words.
        width: Maximum width of a line; the last column is cut to fit. ``None`` for no limit.
    """
    cells = [[*(_cut(one_line(cell), _CELL_WIDTH) for cell in row[:-1]), one_line(row[-1])] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    if width is not None:
        widths[-1] = max(_LAST_COLUMN, min(widths[-1], width - sum(widths[:-1]) - 2 * len(widths[:-1])))
    return "\n".join(
        "  ".join(f"{_cut(cell, w):{side}{w}}" for cell, side, w in zip(row, align, widths, strict=True)).rstrip()
        for row in cells
    )


def one_line(text: str) -> str:
    """Return a text on one line, without control characters, which could steer a terminal."""
    return without_control_characters(" ".join(valid_unicode(text).split()))


def without_control_characters(text: str) -> str:
    """Return a line with U+FFFD in place of each character that is not printable."""
    return "".join(char if char.isprintable() else "\ufffd" for char in valid_unicode(text))


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def example(*commands: str) -> str:
    """Return the end of a command's help: examples, on lines that click does not wrap.

    Args:
        commands: Each without ``rag-rerank``; a backslash and a line feed continue it on the next line.
    """
    lines = [f"  rag-rerank {command}".replace("\n", "\n      ") for command in commands]
    return "\n".join(["\b", "Example:" if len(commands) == 1 else "Examples:", *lines])


def bar(label: str) -> AbstractContextManager[Progress]:
    """Show a progress bar, and yield a function to call with the finished share and, optionally, a few words.

    Without a terminal, only the label is printed.
    """
    return progress_bar(label, without_terminal=label)
