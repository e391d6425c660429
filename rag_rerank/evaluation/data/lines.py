"""Read the lines of a file, plain or gzip. Only a line feed ends a line, with or without a carriage return."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rag_rerank._files import parse_json, read_lines
from rag_rerank.errors import InputError
from rag_rerank.evaluation.data.judged import Problems

__all__ = ["lines", "name_of", "objects"]


def lines(file: Path, problems: Problems) -> Iterator[tuple[int, str]]:
    """Yield each line that is not blank with its number from 1; note and skip lines that are not UTF-8.

    A byte order mark at the start is skipped. gzip is recognised by its first bytes.

    Raises:
        InputError: The file cannot be read, is broken gzip, or is UTF-16.
    """
    for number, line in read_lines(file):
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError as error:
            example = f"{file.name}:{number}: byte {error.start + 1} of the line"
            problems.note("lines that are not UTF-8, left out", example)
            continue
        if text.strip():
            yield number, text


def objects(file: Path, problems: Problems) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the JSON object of each line with its number; note and skip lines that hold something else.

    Raises:
        InputError: As `lines`, or no line of the file is a JSON object.
    """
    empty = True
    for number, line in lines(file, problems):
        try:
            value = parse_json(line)
            if not isinstance(value, dict):
                raise ValueError(f"a JSON object is needed, not {type(value).__name__}")
        except ValueError as error:
            problems.note("lines that are not a JSON object, left out", f"{file.name}:{number}: {error}")
            continue
        empty = False
        yield number, value
    if empty:
        raise InputError(f"{file}: none of its lines is a JSON object; {problems.summary() or 'it is empty'}")


def name_of(value: Any) -> str | None:
    """Return an id as text; ``None`` unless it is a string that is not empty, or a whole number."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value if isinstance(value, str) and value else None
