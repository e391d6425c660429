"""Similarities as HTML: a text with shaded tokens, a heat map, and tables with bars.

Everything is escaped text with styles of its own: no script, nothing that is loaded. Text has the colour of the page
around it, and shades are half transparent, so both light and dark pages can hold it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from unicodedata import category

from rag_rerank.text.unicode import valid_unicode

__all__ = ["COLUMNS", "ROWS", "Shades", "bar_table", "heat_map", "page", "section", "shaded_text"]

ROWS, COLUMNS = 40, 40
"""Tokens of the query and of the text that a heat map shows at most; the others are counted."""

_UNREAD = 300
"""Characters that are shown of what was not read."""

_COLOUR, _STRONGEST = "40, 140, 220", 0.65
"""A blue, and how opaque it is at most: black text stays readable on it over white, and white text over black."""

_LINE = "margin: 4px 0"
_RULE = "border-bottom: 1px solid rgba(128, 128, 128, 0.35)"
_WRAP = {"right": "white-space: nowrap", "start": "overflow-wrap: anywhere; min-width: 5em"}
_SCROLL = "overflow-x: auto; max-width: 100%; margin: 8px 0"

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'">
<title>{title}</title><style>:root {{ color-scheme: light dark }}
body {{ font: 15px/1.5 system-ui, sans-serif; margin: 16px auto; max-width: 980px; padding: 0 12px }}</style></head>
<body>{body}</body></html>
"""


class Shades:
    """How opaque the shade of each value is: nothing at the mean of all values, most at the largest.

    Args:
        values: All values that are shown together.
    """

    def __init__(self, values: Iterable[float]) -> None:
        numbers = list(values) or [0.0]
        self.low, self.high = sum(numbers) / len(numbers), max(numbers)

    def style(self, value: float) -> str:
        """Return the CSS of a value; empty for one that has no shade."""
        share = (value - self.low) / (self.high - self.low) if self.high > self.low else 0.0
        return f"background: rgba({_COLOUR}, {_STRONGEST * share:.2f})" if share > 0.01 else ""

    def __str__(self) -> str:
        """Return what the shades mean."""
        return f"shaded from {self.low:.2f}, the mean, to {self.high:.2f}, the largest"


def page(title: str, body: str) -> str:
    """Return a page of its own, light or dark as the reader's system is.

    Args:
        title: Its title, as plain text.
        body: HTML.
    """
    return _PAGE.format(title=_escape(title), body=body)


def section(title: str, lines: Iterable[str], parts: Iterable[str]) -> str:
    """Return a title and lines, which are plain text, and then parts, which are HTML."""
    head = f'<p style="{_LINE}" dir="auto"><b>{_escape(title)}</b></p>'
    body = "".join(f'<p style="{_LINE}; overflow-wrap: anywhere" dir="auto">{_escape(line)}</p>' for line in lines)
    return f"<div>{head}{body}{''.join(parts)}</div>"


def shaded_text(text: str, spans: Sequence[tuple[int, int, float]], shades: Shades) -> str:
    """Return a text with shaded spans; what comes after the last span is pale, and cut.

    Args:
        text: The text.
        spans: Start, end and value of each, in the order of the text.
        shades: The shades.
    """
    parts, place = [], 0
    for start, end, value in spans:
        if end <= place:
            continue
        parts.append(_escape(text[place:start]))
        word, style = _escape(text[max(start, place) : end]), shades.style(value)
        parts.append(f'<span style="{style}; border-radius: 2px" title="{value:.2f}">{word}</span>' if style else word)
        place = end
    rest = text[place:]
    if rest.strip():
        more = f" … {len(rest) - _UNREAD:,} more characters" if len(rest) > _UNREAD else ""
        parts.append(f'<span style="opacity: 0.6">{_escape(rest[:_UNREAD])}{more}</span>')
    legend = f'<p style="{_LINE}; font-size: 85%">Text: each token by its best similarity, {shades}</p>'
    style = "white-space: pre-wrap; overflow-wrap: anywhere; margin: 8px 0; line-height: 1.7"
    return f'<div style="{style}" dir="auto">{"".join(parts)}</div>{legend if spans else ""}'


def bar_table(heading: Sequence[str], rows: Iterable[Sequence[str]], bars: Sequence[float | None] = ()) -> str:
    """Return a table of plain text, with a bar of 0 to 1 in the last cell of each row.

    Args:
        heading: The name of each column; one that begins with ``#`` holds numbers.
        rows: The rows.
        bars: The length of the bar of each row; empty for no bars.
    """
    sides = ["right" if name.startswith("#") else "start" for name in heading]
    cell = f"padding: 2px 8px 2px 0; vertical-align: top; {_RULE}"
    head = "".join(
        f'<th scope="col" style="{cell}; text-align: {side}">{_escape(name.removeprefix("#"))}</th>'
        for name, side in zip(heading, sides, strict=True)
    )
    body = []
    for place, row in enumerate(rows):
        length = bars[place] if place < len(bars) else None
        styles = [f"{cell}; text-align: {side}; {_WRAP[side]}" for side in sides]
        if length is not None:
            width = 100 * min(max(length, 0.0), 1.0)
            styles[-1] += f"; background: linear-gradient(to left, rgba({_COLOUR}, 0.4) {width:.0f}%, transparent 0)"
        cells = zip(row, styles, strict=True)
        body.append("".join(f'<td style="{style}" dir="auto">{_escape(text)}</td>' for text, style in cells))
    lines = "".join(f"<tr>{cells}</tr>" for cells in body)
    table = f'<table style="border-collapse: collapse"><thead><tr>{head}</tr></thead><tbody>{lines}</tbody>'
    return f'<div style="{_SCROLL}">{table}</table></div>'


def heat_map(rows: Sequence[str], columns: Sequence[str], values: Sequence[Sequence[float]]) -> str:
    """Return a table with a shaded cell for each value.

    Of many columns it shows those with the best value of a row, and those with a value far above the mean of its row.

    Args:
        rows: The name of each row.
        columns: The name of each column.
        values: A number for each row and column.
    """
    if not rows or not columns:
        return ""
    visible = range(min(len(rows), ROWS))
    means = [sum(values[row]) / len(columns) for row in visible]
    stands_out = [max(values[row][column] - means[row] for row in visible) for column in range(len(columns))]
    best = {max(range(len(columns)), key=values[row].__getitem__) for row in visible}
    ranked = sorted(range(len(columns)), key=lambda column: (column not in best, -stands_out[column]))
    places = sorted(ranked[:COLUMNS])
    shades = Shades(values[row][column] for row in visible for column in places)
    name = "writing-mode: vertical-rl; text-align: end; font-weight: normal; padding: 4px 0; max-height: 9em"
    head = "".join(
        f'<th scope="col" style="{name}; overflow: hidden" dir="auto">{_escape(columns[place])}</th>'
        for place in places
    )
    lines = []
    side = "text-align: start; font-weight: normal; padding-right: 8px; white-space: nowrap"
    for row in visible:
        cells = "".join(
            f'<td style="{shades.style(values[row][place])}">{round(100 * values[row][place])}</td>' for place in places
        ).replace(' style=""', "")
        name_cell = f'<th scope="row" style="{side}" dir="auto">{_escape(rows[row])}</th>'
        lines.append(f"<tr>{name_cell}{cells}</tr>")
    facts = [f"All similarities in hundredths, {shades}."]
    if len(columns) > COLUMNS:
        facts.append(
            f"{COLUMNS} of {len(columns):,} tokens of the text: those that stand out for a token of the query."
        )
    if len(rows) > ROWS:
        facts.append(f"The first {ROWS} of {len(rows):,} tokens of the query.")
    legend = f'<p style="{_LINE}; font-size: 85%">{" ".join(facts)}</p>'
    widths = f'<colgroup><col><col span="{len(places)}" style="width: 24px"></colgroup>'
    body = f'<tbody style="text-align: center; font-size: 10px">{"".join(lines)}</tbody>'
    table = f"{widths}<thead><tr><td></td>{head}</tr></thead>{body}"
    return f'<div style="{_SCROLL}"><table style="border-collapse: collapse">{table}</table></div>{legend}'


def _escape(text: str) -> str:
    """Return a text as HTML, without control characters other than tabs and line feeds."""
    visible = ("\ufffd" if category(char) == "Cc" and char not in "\t\n\r" else char for char in valid_unicode(text))
    return escape("".join(visible))
