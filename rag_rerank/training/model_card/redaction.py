"""What of a word from this machine may stand in a model card, which others read."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from shlex import quote
from typing import Any

__all__ = ["command", "redacted", "table", "words"]

_FOLDED = 12
"""Rows from which on a table is folded."""

_PATH = re.compile(r"(?:(?<=[\s=:,;'\"(\[{])|^)(?:file://|~[\w.-]*/|\.{1,2}[\\/]|/(?=[\w.~-])|[A-Za-z]:[\\/]|\\\\)")
_USER = re.compile(r"(?<=//)[^/@\s]+@")
_QUESTION = re.compile(r"(https?://[^\s?#]+)[?#][^\s'\"]*")
_KEY = r"(?<![a-z])(?:key|token|secret|password)"
_GIVEN = re.compile(rf"({_KEY}[\"']?\s*[=:]\s*[\"']?)(?!\$\{{)[^\s\"',}}]+", re.IGNORECASE)
_ASKED = re.compile(rf"--?[\w-]*{_KEY}", re.IGNORECASE)


def redacted(value: object) -> str:
    """Return a value as one line without what tells of this machine or opens a door.

    Of a path that leads out of the working directory, the last part stays; of a URL, neither user nor question; what is
    given as a key, token, secret or password is masked, unless it is a reference, ``${VAR}``.
    """
    line = _GIVEN.sub(r"\1***", _QUESTION.sub(r"\1", _USER.sub("", " ".join(str(value).split()))))
    path = _PATH.search(line)
    if path is None:
        return line
    last = re.split(r"[\\/]", line[path.end() :].rstrip("\\/"))[-1]
    return line[: path.start()] + last


def command(words: Sequence[str]) -> str:
    """Return a command with its arguments as a shell reads them, each as `redacted`."""
    return " ".join(quote(word) if word != "***" else word for word in _masked(words))


def _masked(words: Sequence[str]) -> Iterator[str]:
    secret = False
    for word in words:
        yield "***" if secret and not word.startswith("${") else redacted(word)
        secret = _ASKED.fullmatch(word) is not None


def words(value: Any) -> str:
    """Return a value in words, mappings and lists as what they hold."""
    if isinstance(value, Mapping):
        found = [f"{key}: {words(one)}" for key, one in value.items() if one]
        return ", ".join(found) or "none"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(words, value)) or "none"
    return f"{value:,}" if type(value) is int else "" if value is None else str(value)


def table(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table of Markdown, each cell as `redacted`; a long one is folded."""
    lines = [_row(heading), _row(["---"] * len(heading)), *map(_row, rows)]
    table = "\n".join(lines)
    folded = len(lines) - 2 >= _FOLDED
    return f"<details><summary>{len(lines) - 2} rows</summary>\n\n{table}\n\n</details>" if folded else table


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(redacted(cell).replace('|', chr(92) + '|') for cell in cells)} |"
