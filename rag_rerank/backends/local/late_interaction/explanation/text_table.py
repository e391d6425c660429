"""An explanation as a table of plain text, for a terminal."""

from __future__ import annotations

from collections.abc import Iterator

from rag_rerank.text.unicode import valid_unicode

__all__ = ["bar", "columns", "one_line"]

_BAR, _EIGHTHS = 20, "▏▎▍▌▋▊▉█"
"""Characters of a bar for a similarity of 1, and the parts of one."""

_CELL = 24
"""Characters of a token that a line shows."""


def columns(rows: list[tuple[str, ...]]) -> Iterator[str]:
    """Yield rows in columns; the first is the heading, and says by # which columns are right-aligned."""
    sides = [">" if name.startswith("#") else "<" for name in rows[0]]
    names = tuple(name.removeprefix("#") for name in rows[0])
    last = len(names) - 1
    cells = [
        [one_line(cell) if place == last else _cut(one_line(cell)) for place, cell in enumerate(row)]
        for row in (names, *rows[1:])
    ]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        yield "  ".join(f"{cell:{side}{width}}" for cell, side, width in zip(row, sides, widths, strict=True)).rstrip()


def bar(share: float) -> str:
    """Return a bar for a share of 0 to 1."""
    eighths = round(min(max(share, 0.0), 1.0) * _BAR * 8)
    full, rest = divmod(eighths, 8)
    return "█" * full + (_EIGHTHS[rest - 1] if rest else "")


def _cut(text: str) -> str:
    return text if len(text) <= _CELL else f"{text[: _CELL - 1]}…"


def one_line(text: str) -> str:
    """Return a text on one line, without control characters, which could steer a terminal."""
    line = " ".join(valid_unicode(text).split())
    return "".join(char if char.isprintable() else "\ufffd" for char in line)
