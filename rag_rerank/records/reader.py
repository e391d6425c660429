"""Read records from files, one at a time; lines that are no records are reported."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import chain, count, takewhile
from os import PathLike
from pathlib import Path

from rag_rerank._files import parse_json
from rag_rerank.errors import InputError
from rag_rerank.records.context_record import CONTEXT_SCHEMA, ContextRecord
from rag_rerank.records.record import SCHEMA, Record

__all__ = ["BadLine", "files", "read", "rotated_name"]

_HEADS = (b'{"schema": "rag_rerank.record/', b'{"schema": "rag_rerank.context/')
"""The beginnings of every record of a call and of a context, in any version of the layout."""


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


def rotated_name(file: Path, number: int) -> Path:
    """Return the name of a rotated file; number 1 is the newest."""
    return file.with_name(f"{file.name}.{number}")


def files(path: str | PathLike[str]) -> tuple[Path, ...]:
    """Return a file and its rotated files, oldest first: the order in which the records were written."""
    file = Path(path).expanduser()
    older = takewhile(Path.exists, (rotated_name(file, number) for number in count(1)))
    return (*reversed(list(older)), file)


def read(path: str | PathLike[str], *, bad: Callable[[BadLine], None] | None = None) -> Iterator[Record]:
    """Yield the records of one file, one at a time. A file named ``.gz`` is decompressed; blank lines are skipped.

    The contexts that were packed from a call's ranking are in its record. They are lines behind it, maybe in the next
    files of a rotation, so the file is read twice; a context whose call is not in the file is left out.

    Args:
        path: The file; `files` returns its rotated files too.
        bad: Called with each line that is no record; the line is then left out. By default such a line raises, except
            a torn one, which is left out with a warning: the end of a killed writer must not hide the other records.

    Raises:
        InputError: The file cannot be read, a record has another version of the layout, or, without ``bad``, a line
            is no record. The message begins with the file and the line.
    """
    file = Path(path).expanduser()
    lines = (lambda: _lines(file)) if file.is_file() else list(_lines(file)).__iter__  # a pipe is read once
    contexts: dict[str, list[ContextRecord]] = {}
    for where, line in chain(lines(), *map(_lines, _newer_files(file))):
        if _HEADS[1][:-1] in line[:100] and isinstance(context := _read(where, line), ContextRecord):
            contexts.setdefault(context.call, []).append(context)
    for where, line in lines():
        item = _read(where, line)
        if isinstance(item, Record):
            yield replace(item, contexts=(*item.contexts, *contexts.get(item.id, ())))
        elif isinstance(item, ContextRecord):
            continue
        elif bad is not None:
            bad(item)
        elif item.torn:
            warnings.warn(f"{item}; it is left out", UserWarning, stacklevel=2)
        else:
            raise InputError(str(item))


def _newer_files(file: Path) -> list[Path]:
    """Return the files that were written after a rotated one and are still there, oldest first."""
    base, _, number = file.name.rpartition(".")
    if not (base and number.isascii() and number.isdigit()):
        return []
    names = [file.with_name(f"{base}.{n}") for n in range(int(number) - 1, 0, -1)]
    return [newer for newer in (*names, file.with_name(base)) if newer.is_file()]


def _lines(file: Path) -> Iterator[tuple[str, bytes]]:
    import gzip

    try:
        with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as stream:
            for number, line in enumerate(stream, start=1):
                if line.strip():
                    yield f"{file}:{number}", line
    except (OSError, EOFError) as error:
        raise InputError(f"cannot read {file}: {getattr(error, 'strerror', None) or error}") from error


def _read(where: str, line: bytes) -> Record | ContextRecord | BadLine:
    try:
        data = parse_json(line)
    except ValueError as error:
        if any(line.startswith(head[: len(line)]) for head in _HEADS):
            return BadLine(where, "a record that was not written to its end", torn=True)
        return BadLine(where, f"not valid JSON: {error}")
    if not isinstance(data, dict) or "schema" not in data:
        return BadLine(where, "not a record of a call: there is no 'schema'")
    layouts: dict[str, type[Record] | type[ContextRecord]] = {SCHEMA: Record, CONTEXT_SCHEMA: ContextRecord}
    if (kind := layouts.get(str(data["schema"]))) is None:
        raise InputError(
            f"{where}: a record of the layout {data['schema']!r:.80}, and this version of rag-rerank reads {SCHEMA!r}; "
            "read it with the version that wrote it, or install a newer one"
        )
    try:
        return kind.from_dict(data)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        what = f"{error} is missing" if isinstance(error, KeyError) else error
        return BadLine(where, f"not a record as {data['schema']!r} has it: {what}")
