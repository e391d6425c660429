"""Files of rows: JSON lines and Parquet, read in parts and written whole."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import IO, Any, Literal, TypeVar

from rag_rerank._files import parse_json, read_lines, write_stream
from rag_rerank._lazy import need
from rag_rerank.batch.answers import answer_schema
from rag_rerank.errors import ConfigError, InputError

__all__ = ["FileFormat", "Part", "RowFile", "UnreadableLine", "format_of", "join_parts", "read_part", "write_part"]

FileFormat = Literal["jsonl", "parquet"]

T = TypeVar("T")

_ENDINGS: Mapping[str, FileFormat] = {".jsonl": "jsonl", ".jsonl.gz": "jsonl", ".parquet": "parquet"}


@dataclass(frozen=True, slots=True)
class UnreadableLine:
    """A line that is no JSON object, in place of its row."""

    line: int
    reason: str


@dataclass(frozen=True, slots=True)
class Part:
    """Consecutive rows of a file.

    Args:
        number: Its place among the parts, from 0.
        rows: The rows: a list of objects and of lines that are none, or an Arrow table.
        sha256: A hash of the rows as they stand in the file.
    """

    number: int
    rows: Any
    sha256: str


@dataclass(frozen=True, slots=True)
class RowFile:
    """A file of rows that is read in parts.

    Args:
        path: The file; ``None`` for standard input.
        layout: Its format.
    """

    path: Path | None
    layout: FileFormat

    @classmethod
    def by_name(cls, name: str) -> RowFile:
        """Return the file of a name; ``-`` is standard input, with JSON lines."""
        return cls(None, "jsonl") if name == "-" else cls(Path(name), format_of(Path(name)))

    def count_rows(self) -> int | None:
        """Return how many rows there are; ``None`` for standard input.

        Raises:
            InputError: The file cannot be read.
        """
        if self.path is None:
            return None
        if self.layout == "parquet":
            with _parquet_file(self.path) as file:
                return int(file.metadata.num_rows)
        return sum(1 for _, line in read_lines(self.path) if line.strip())

    def parts(self, size: int) -> Iterator[Part]:
        """Yield the rows in parts of a size; blank lines are no rows.

        Raises:
            InputError: The file cannot be read.
        """
        if self.path is not None and self.layout == "parquet":
            yield from _parquet_parts(self.path, size)
            return
        lines = ((number, line) for number, line in read_lines(self.path) if line.strip())
        for number, chunk in enumerate(_chunks(lines, size)):
            content = sha256(b"".join(line + b"\n" for _, line in chunk)).hexdigest()
            yield Part(number, [_row(place, line) for place, line in chunk], content)


def format_of(file: Path) -> FileFormat:
    """Return the format that the name of a file says.

    Raises:
        ConfigError: It says none.
    """
    for ending, layout in _ENDINGS.items():
        if file.name.endswith(ending):
            return layout
    raise ConfigError(f"{file}: the name must end in {', '.join(_ENDINGS)}, which says the format")


def _row(number: int, line: bytes) -> Mapping[str, Any] | UnreadableLine:
    try:
        value = parse_json(line.decode("utf-8"), unique_keys=True)
    except (ValueError, ConfigError) as error:
        return UnreadableLine(number, f"not a JSON object: {error}")
    if not isinstance(value, dict):
        return UnreadableLine(number, f"not a JSON object, but {type(value).__name__}")
    return value


def _chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk


def _parquet_parts(path: Path, size: int) -> Iterator[Part]:
    pa = need("pyarrow", extra="parquet")
    with _parquet_file(path) as file:
        batches = (batch for batch in file.iter_batches(batch_size=size) if len(batch))  # smaller at a row group's end
        for number, batch in enumerate(batches):
            table = pa.Table.from_batches([batch], schema=file.schema_arrow)
            content = json.dumps(table.to_pylist(), default=repr)
            yield Part(number, table, sha256(content.encode("utf-8", "surrogatepass")).hexdigest())


def _parquet_file(path: Path) -> Any:
    pq = need("pyarrow.parquet", extra="parquet")
    pa = need("pyarrow", extra="parquet")
    try:
        return pq.ParquetFile(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise InputError(f"cannot read {path}: {error}") from error


def write_part(file: Path, rows: Any) -> None:
    """Write the answered rows of a part: a list of objects, or an Arrow table.

    Raises:
        ConfigError: The file cannot be written.
    """
    with write_stream(file) as stream:
        if isinstance(rows, list):
            stream.writelines(_json_line(row) for row in rows)
        else:
            need("pyarrow.parquet", extra="parquet").write_table(rows, stream)


def read_part(file: Path, layout: FileFormat) -> Any:
    """Return the rows of a part that `write_part` wrote."""
    if layout == "parquet":
        return need("pyarrow.parquet", extra="parquet").read_table(file)
    return [json.loads(line) for line in file.read_bytes().splitlines()]


def join_parts(parts: Iterable[Path], layout: FileFormat, out: Path) -> None:
    """Write a file of the rows of all parts, in their order.

    Raises:
        ConfigError: It cannot be written, or its format cannot hold the values of a column.
    """
    files = list(parts)
    with write_stream(out) as stream:
        if format_of(out) == "jsonl":
            _join_lines(files, layout, out, stream)
        else:
            _join_tables(files, layout, out, stream)


def _join_lines(files: list[Path], layout: FileFormat, out: Path, stream: IO[bytes]) -> None:
    packed = gzip.GzipFile(fileobj=stream, mode="wb", mtime=0) if out.name.endswith(".gz") else None
    for file in files:
        if layout == "jsonl":
            (packed or stream).write(file.read_bytes())
            continue
        for row in read_part(file, layout).to_pylist():
            (packed or stream).write(_json_line(row))
    if packed is not None:
        packed.close()


def _join_tables(files: list[Path], layout: FileFormat, out: Path, stream: IO[bytes]) -> None:
    pa, pq = need("pyarrow", extra="parquet"), need("pyarrow.parquet", extra="parquet")
    try:
        if layout == "parquet":
            schema = pq.read_schema(files[0]) if files else answer_schema()
        else:
            schemas = (pa.Table.from_pylist(_without_answers(read_part(file, layout))).schema for file in files)
            own = pa.unify_schemas(list(schemas), promote_options="permissive") if files else pa.schema([])
            hit_types = (_candidate_type(pa, read_part(file, layout)) for file in files)
            candidate_types = [type for type in hit_types if type is not None]
            schema = pa.schema([*own, *answer_schema(_unify(pa, candidate_types))])
        with pq.ParquetWriter(stream, schema) as writer:
            for file in files:
                rows = read_part(file, layout)
                writer.write_table(rows if layout == "parquet" else pa.Table.from_pylist(rows, schema=schema))
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
        raise ConfigError(
            f"{out}: Parquet cannot hold the rows, because a column mixes types: {error}; write .jsonl"
        ) from error


def _without_answers(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    names = set(answer_schema().names)
    keys = dict.fromkeys(key for row in rows for key in row if key not in names)
    return [{key: row.get(key) for key in keys} for row in rows]


def _candidate_type(pa: Any, rows: list[dict[str, Any]]) -> Any:
    """Return the Arrow type of the candidates in the hits; ``None`` where there are none."""
    items = [hit["candidate"] for row in rows for hit in row["hits"] if "candidate" in hit]
    return pa.array(items).type if items else None


def _unify(pa: Any, types: list[Any]) -> Any:
    if not types:
        return None
    return pa.unify_schemas([pa.schema([("item", type)]) for type in types], promote_options="permissive").field(0).type


def _json_line(row: Mapping[str, Any]) -> bytes:
    try:
        return json.dumps(row, ensure_ascii=False, allow_nan=False).encode("utf-8", "backslashreplace") + b"\n"
    except (TypeError, ValueError) as error:
        raise ConfigError(f"a row cannot be written as JSON: {error}; write .parquet") from error
