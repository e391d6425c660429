"""Format values for a model card, which strangers read, without paths, user names and keys of this machine."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from shlex import quote
from typing import Any

__all__ = ["format_command", "format_table", "format_value", "redact"]

_FOLD_ROWS = 12
"""A table with at least this many rows is folded."""

_PATH = re.compile(r"(?:(?<=[\s=:,;'\"(\[{])|^)(?:file://|~[\w.-]*/|\.{1,2}[\\/]|/(?=[\w.~-])|[A-Za-z]:[\\/]|\\\\)")
_USER = re.compile(r"(?<=//)[^/@\s]+@")
_QUERY_STRING = re.compile(r"(https?://[^\s?#]+)[?#][^\s'\"]*")
_KEY = r"(?<![a-z])(?:key|token|secret|password)"
_KEY_VALUE = re.compile(rf"({_KEY}[\"']?\s*[=:]\s*[\"']?)(?!\$\{{)[^\s\"',}}]+", re.IGNORECASE)
_KEY_OPTION = re.compile(rf"--?[\w-]*{_KEY}", re.IGNORECASE)


def redact(value: object) -> str:
    """Return a value as one line without what describes this machine or grants access.

    A path that leads out of the working directory is cut to its last part. A URL loses its user and its query string.
    The value of a key, token, secret or password is masked, unless it is a reference, ``${VAR}``.
    """
    line = _KEY_VALUE.sub(r"\1***", _QUERY_STRING.sub(r"\1", _USER.sub("", " ".join(str(value).split()))))
    path = _PATH.search(line)
    if path is None:
        return line
    last = re.split(r"[\\/]", line[path.end() :].rstrip("\\/"))[-1]
    return line[: path.start()] + last


def format_command(arguments: Sequence[str]) -> str:
    """Return a command as a shell reads it, each argument after `redact`."""
    return " ".join(quote(argument) if argument != "***" else argument for argument in _mask(arguments))


def _mask(arguments: Sequence[str]) -> Iterator[str]:
    secret = False
    for argument in arguments:
        yield "***" if secret and not argument.startswith("${") else redact(argument)
        secret = _KEY_OPTION.fullmatch(argument) is not None


def format_value(value: Any) -> str:
    """Return a value in words; for mappings and lists, their entries."""
    if isinstance(value, Mapping):
        entries = [f"{key}: {format_value(entry)}" for key, entry in value.items() if entry]
        return ", ".join(entries) or "none"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(format_value, value)) or "none"
    return f"{value:,}" if type(value) is int else "" if value is None else str(value)


def format_table(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table of Markdown, each cell after `redact`; a long table is folded."""
    lines = [_row(heading), _row(["---"] * len(heading)), *map(_row, rows)]
    table = "\n".join(lines)
    count = len(lines) - 2
    return f"<details><summary>{count} rows</summary>\n\n{table}\n\n</details>" if count >= _FOLD_ROWS else table


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(redact(cell).replace('|', chr(92) + '|') for cell in cells)} |"
