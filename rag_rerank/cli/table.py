"""Columns for people to read."""

from __future__ import annotations

from collections.abc import Sequence

from rag_rerank.base import readable

__all__ = ["cut", "table"]


def table(rows: Sequence[Sequence[str]], *, right: str) -> str:
    """Lay out rows, the first one being the heading, in columns two blanks apart.

    Args:
        rows: Cells that `cut` has made safe to show.
        right: One sign for each column: ``>`` aligns to the right, ``<`` to the left.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (
        "  ".join(f"{cell:{sign}{width}}" for cell, sign, width in zip(row, right, widths, strict=True)).rstrip()
        for row in rows
    )
    return "\n".join(lines)


def cut(text: str, width: int) -> str:
    """Return a text as one line of at most ``width`` signs, without signs that would steer a terminal."""
    line = "".join(sign if sign.isprintable() else "\ufffd" for sign in " ".join(readable(text).split()))
    return line if len(line) <= width else line[: width - 1] + "…"
