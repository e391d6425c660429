"""Read the lines of a file, plain or gzip. Only a line feed ends a line, with or without a carriage return."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, cast

from rag_rerank._files import parse_json
from rag_rerank.errors import InputError
from rag_rerank.evaluation.data.judged import Problems

__all__ = ["lines", "name_of", "objects"]

_UTF16 = (b"\xff\xfe", b"\xfe\xff")


def lines(file: Path, problems: Problems) -> Iterator[tuple[int, str]]:
    """Yield each line that is not blank with its number from 1; note and skip lines that are not UTF-8.

    A byte order mark at the start is skipped. gzip is recognised by its first bytes.

    Raises:
        InputError: The file cannot be read, is broken gzip, or is UTF-16.
    """
    try:
        with _open(file) as raw:
            for number, line in enumerate(raw, start=1):
                if number == 1:
                    if line.startswith(_UTF16):
                        raise InputError(f"{file} is UTF-16; save it as UTF-8")
                    line = line.removeprefix(b"\xef\xbb\xbf")
                try:
                    text = line.rstrip(b"\r\n").decode("utf-8")
                except UnicodeDecodeError as error:
                    example = f"{file.name}:{number}: byte {error.start + 1} of the line"
                    problems.note("lines that are not UTF-8, left out", example)
                    continue
                if text.strip():
                    yield number, text
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"cannot read {file}: {getattr(error, 'strerror', None) or error}") from error


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


def _open(file: Path) -> IO[bytes]:
    raw = file.open("rb")
    if raw.peek(2)[:2] != b"\x1f\x8b":
        return raw
    raw.close()
    return cast("IO[bytes]", gzip.open(file, "rb"))
