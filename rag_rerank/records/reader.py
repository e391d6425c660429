"""Records from files: one at a time, and every line that is none is told."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count, takewhile
from os import PathLike
from pathlib import Path

from rag_rerank._files import parse_json
from rag_rerank.errors import InputError
from rag_rerank.records.record import SCHEMA, Record

__all__ = ["BadLine", "files", "read", "rotated"]

_HEAD = b'{"schema": "rag_rerank.record/'
"""How every line of a record begins, in any version of the layout."""


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that is no record.

    Args:
        where: Its place, ``file:line``.
        problem: What is wrong with it.
        torn: Whether it is the beginning of a record whose writer was stopped in the middle (killed, disk full).
    """

    where: str
    problem: str
    torn: bool = False

    def __str__(self) -> str:
        return f"{self.where}: {self.problem}"


def rotated(file: Path, number: int) -> Path:
    """Return the name of a file that was rotated away; 1 is the youngest."""
    return file.with_name(f"{file.name}.{number}")


def files(path: str | PathLike[str]) -> tuple[Path, ...]:
    """Return a file behind those that were rotated away from it: in this order they give the records as written."""
    file = Path(path).expanduser()
    older = takewhile(Path.exists, (rotated(file, number) for number in count(1)))
    return (*reversed(list(older)), file)


def read(path: str | PathLike[str], *, bad: Callable[[BadLine], None] | None = None) -> Iterator[Record]:
    """Yield the records of one file, one at a time; a name in ``.gz`` is unpacked on the way. Blank lines are skipped.

    Args:
        path: The file; `files` tells what was rotated away from it.
        bad: Is told each line that is no record, which is then left out. By default such a line raises, but for a
            torn one, which is left out with a warning: what a killed writer leaves must not hide all else.

    Raises:
        InputError: The file cannot be read, a record has another version of the layout, or, without ``bad``, a line
            is no record. The message begins with the file and the line.
    """
    for where, line in _lines(Path(path).expanduser()):
        found = _read(where, line)
        if isinstance(found, Record):
            yield found
        elif bad is not None:
            bad(found)
        elif found.torn:
            warnings.warn(f"{found}; it is left out", UserWarning, stacklevel=2)
        else:
            raise InputError(str(found))


def _lines(file: Path) -> Iterator[tuple[str, bytes]]:
    import gzip

    try:
        with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as stream:
            for number, line in enumerate(stream, start=1):
                if line.strip():
                    yield f"{file}:{number}", line
    except (OSError, EOFError) as error:
        raise InputError(f"cannot read {file}: {getattr(error, 'strerror', None) or error}") from error


def _read(where: str, line: bytes) -> Record | BadLine:
    try:
        data = parse_json(line)
    except ValueError as error:
        if line.startswith(_HEAD[: len(line)]):
            return BadLine(where, "a record that was not written to its end", torn=True)
        return BadLine(where, f"not valid JSON: {error}")
    if not isinstance(data, dict) or "schema" not in data:
        return BadLine(where, "not a record of a call: there is no 'schema'")
    if data["schema"] != SCHEMA:
        raise InputError(
            f"{where}: a record of the layout {data['schema']!r:.80}, and this version of rag-rerank reads {SCHEMA!r}; "
            "read it with the version that wrote it, or install a newer one"
        )
    try:
        return Record.from_dict(data)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        what = f"{error} is missing" if isinstance(error, KeyError) else error
        return BadLine(where, f"not a record as {SCHEMA!r} has it: {what}")
