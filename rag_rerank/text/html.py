"""Objects as HTML, for notebooks: tables that are escaped here, and take their colours from the page around them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from itertools import islice
from typing import NamedTuple
from unicodedata import category

from rag_rerank.text.unicode import valid_unicode

__all__ = ["ROWS", "MarkedText", "move", "section", "table"]

ROWS = 30
"""Rows of a table that are shown; the others are counted."""

_TEXT = 200
"""Characters of a cell."""

_LINES = 10
"""Lines above a table."""

_CELL = "padding: 2px 8px; vertical-align: top; border-bottom: 1px solid rgba(128, 128, 128, 0.35)"
_LINE = "margin: 2px 0"


class MarkedText(NamedTuple):
    """A text whose important parts are marked in a cell; where it is long, much of the rest is left out.

    Args:
        text: The text.
        parts: The parts to mark, each the first character and the one after the last, in text order.
    """

    text: str
    parts: Sequence[tuple[int, int]]


def section(title: str, lines: Iterable[str], *tables: str) -> str:
    """Return a title, a few lines, and tables of `table`; title and lines are plain text and are escaped."""
    visible = list(lines)
    if len(visible) > _LINES:
        visible[_LINES:] = [f"and {len(visible) - _LINES:,} more"]
    parts = [f'<p style="{_LINE}" dir="auto"><b>{_escape(title)}</b></p>']
    parts += [f'<p style="{_LINE}" dir="auto">{_escape(line, 4 * _TEXT)}</p>' for line in visible]
    return f"<div>{''.join([*parts, *tables])}</div>"


def table(heading: Sequence[str], rows: Iterable[Sequence[str | MarkedText]], count: int, noun: str) -> str:
    """Return a table of plain text, which is escaped; nothing if there is no row.

    Args:
        heading: The name of each column; one that begins with ``#`` holds numbers, and stands to the right.
        rows: The rows; only the first ones are read.
        count: How many rows there are.
        noun: The plural of what a row is, for the rest that is only counted.
    """
    if not count:
        return ""
    sides = ["right" if name.startswith("#") else "start" for name in heading]
    head = "".join(_cell("th", name.removeprefix("#"), side) for name, side in zip(heading, sides, strict=True))
    body = [
        "".join(_cell("td", text, side) for text, side in zip(row, sides, strict=True)) for row in islice(rows, ROWS)
    ]
    lines = "".join(f"<tr>{cells}</tr>" for cells in body)
    rest = f'<p style="{_LINE}">and {count - len(body):,} more {_escape(noun)}</p>' if count > len(body) else ""
    return (
        f'<table style="border-collapse: collapse"><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table>{rest}'
    )


def move(before: int | None, after: int) -> str:
    """Return how far a candidate moved up or down from its place before; nothing where that is not known."""
    if before is None:
        return ""
    return f"▲ {before - after}" if before > after else f"▼ {after - before}" if before < after else "="


def _cell(tag: str, text: str | MarkedText, side: str) -> str:
    inside = _escape(text) if isinstance(text, str) else _escape_marked(text)
    return f'<{tag} style="{_CELL}; text-align: {side}" dir="auto">{inside}</{tag}>'


def _escape_marked(marked: MarkedText) -> str:
    """Return the marked parts of a text with what stands around them, as HTML; of a long rest only some words."""
    html, rest, done = [], 2 * _TEXT, 0
    for start, end in marked.parts:
        between = marked.text[done:start]
        if len(between) > _TEXT // 2:
            between = f"{between[: _TEXT // 4]} … {between[-_TEXT // 4 :]}" if done else f"… {between[-_TEXT // 4 :]}"
        html += [_escape(between), f"<mark>{_escape(marked.text[start:end])}</mark>"]
        done, rest = end, rest - len(between) - (end - start)
        if rest <= 0:
            break
    return " ".join(filter(None, [*html, _escape(marked.text[done:], _TEXT // 4)]))


def _escape(text: str, limit: int = _TEXT) -> str:
    """Return the beginning of a text on one line, without control characters, as HTML."""
    beginning = " ".join(valid_unicode(text[: 4 * limit]).split())
    printable = "".join("\ufffd" if category(character) == "Cc" else character for character in beginning)
    cut = len(printable) > limit or len(text) > 4 * limit
    return escape(printable[:limit]) + ("…" if cut else "")
