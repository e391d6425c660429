"""Batches of rows, as the tools of data hold them: read two columns, and add those of the answers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

from rag_rerank._lazy import need
from rag_rerank.batch.answers import ANSWER_COLUMNS, answer_schema
from rag_rerank.errors import InputError, did_you_mean

__all__ = ["arrow_answers", "check_columns", "column_names", "read_column", "with_answers"]

Batch = TypeVar("Batch")


def check_columns(batch: Any, query: str, candidates: str) -> None:
    """Check that a batch has both columns, and none that the answers would replace.

    Raises:
        InputError: It has not, or it is no batch that is known here.
    """
    if isinstance(batch, (list, tuple)):  # each row may have keys of its own: a row without one fails by itself
        names = {name for row in batch if isinstance(row, Mapping) for name in row}
    else:
        names = set(column_names(batch))
        for name in (query, candidates):
            if name not in names:
                raise InputError(f"the rows have no column {name!r}{did_you_mean(name, names)}")
    taken_names = [name for name in ANSWER_COLUMNS if name in names and name != candidates]
    if taken_names:
        raise InputError(
            f"the rows have columns that the answer would replace: {', '.join(map(repr, taken_names))}; rename them"
        )


def column_names(batch: Any) -> list[str]:
    """Return the names of the columns of a data frame, a table or a mapping of columns.

    Raises:
        InputError: It is none of them.
    """
    if isinstance(batch, Mapping):
        return list(batch)
    kind = _kind(batch)
    if kind == "pyarrow":
        return list(batch.schema.names)
    if kind in ("pandas", "polars"):
        return list(batch.columns)
    raise InputError(
        f"a batch is a list of rows, a mapping of columns, or a table of pandas, polars or Arrow, "
        f"not {type(batch).__module__}.{type(batch).__name__}"
    )


def read_column(batch: Any, name: str) -> list[Any]:
    """Return the cells of a column; ``None`` where a row of a list has no such key."""
    if isinstance(batch, (list, tuple)):
        return [row.get(name) for row in batch]
    column = batch.column(name) if _kind(batch) == "pyarrow" else batch[name]
    if _kind(batch) == "pyarrow":
        return list(column.to_pylist())
    return column.to_list() if _kind(batch) == "polars" else list(column)


def with_answers(batch: Batch, candidates: str, answers: Sequence[Mapping[str, Any]], *, with_candidates: bool) -> Any:
    """Return a new batch of the same kind: all columns but the candidates, then those of the answers."""
    if isinstance(batch, (list, tuple)):
        return [
            {**{key: value for key, value in row.items() if key != candidates}, **answer}
            for row, answer in zip(batch, answers, strict=True)
        ]
    kind = _kind(batch)
    if kind == "pyarrow":
        return _arrow_batch(batch, candidates, answers, with_candidates)
    if kind == "polars":
        return _polars_frame(batch, candidates, answers, with_candidates)
    columns = {name: _objects(answer[name] for answer in answers) for name in ANSWER_COLUMNS}
    if isinstance(batch, Mapping):
        return {**{name: column for name, column in batch.items() if name != candidates}, **columns}
    frame: Any = batch
    return frame.drop(columns=[candidates]).assign(**columns)


def arrow_answers(answers: Sequence[Mapping[str, Any]], candidate: Any) -> Any:
    """Return answers as an Arrow table; ``candidate`` is the type of an item, if the hits hold their candidates."""
    pa = need("pyarrow", extra="parquet")
    return pa.Table.from_pylist(list(answers), schema=answer_schema(candidate))


def _arrow_batch(batch: Any, candidates: str, answers: Sequence[Mapping[str, Any]], with_candidates: bool) -> Any:
    pa = need("pyarrow", extra="parquet")
    item = batch.schema.field(candidates).type.value_type if with_candidates else None
    columns = arrow_answers(answers, item)
    table = pa.Table.from_batches([batch]) if isinstance(batch, pa.RecordBatch) else batch
    table = table.drop_columns([candidates])
    for name in ANSWER_COLUMNS:
        table = table.append_column(columns.schema.field(name), columns.column(name))
    if not isinstance(batch, pa.RecordBatch):
        return table
    return pa.RecordBatch.from_arrays([column.combine_chunks() for column in table.columns], schema=table.schema)


def _polars_frame(frame: Any, candidates: str, answers: Sequence[Mapping[str, Any]], with_candidates: bool) -> Any:
    import polars

    item = frame.select(candidates).to_arrow().schema.field(0).type.value_type if with_candidates else None
    columns = polars.from_arrow(arrow_answers(answers, item))
    return frame.drop(candidates).hstack(columns)


def _objects(values: Iterable[Any]) -> Any:
    """Return an array of objects: numpy would read lists of one length as a matrix."""
    import numpy

    cells = list(values)
    column = numpy.empty(len(cells), dtype=object)
    for i, cell in enumerate(cells):
        column[i] = cell
    return column


def _kind(batch: Any) -> str:
    return type(batch).__module__.partition(".")[0]
