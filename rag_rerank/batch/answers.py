"""Rows in, answers out: a query with its candidates, and the columns of its ranking in plain values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rag_rerank._checks import plain
from rag_rerank.errors import InputError, RerankError
from rag_rerank.evaluation.data.collections import metadata_of
from rag_rerank.evaluation.data.lines import name_of
from rag_rerank.types import Candidate, Ranking

__all__ = ["ANSWER_COLUMNS", "answer_of", "answer_schema", "error_answer", "read_row"]

ANSWER_COLUMNS = ("hits", "scale", "degraded", "substituted", "answerable", "warnings", "usage", "error")
"""The columns that an answer adds to a row, in place of the candidates."""

_USAGE = ("texts", "requests", "tokens", "search_units", "cost", "cached", "estimated", "output_tokens")
"""Figures of `Usage` in an answer: all but the time, which differs from run to run."""


def read_row(query: Any, items: Any) -> tuple[str, list[Any], tuple[Candidate, ...]]:
    """Return the query of a row, the items of its list as plain values, and the candidates that these describe.

    An item is a text, or an object with ``text`` and perhaps ``id``, ``score`` and ``metadata``; its other keys are
    metadata, too. Without an id, a candidate gets its position in the list, counted from 0.

    Raises:
        InputError: The query is no text, or an item is no candidate; the message names its place.
    """
    if not isinstance(query, str):
        raise InputError(f"the query must be a text, got {type(query).__name__}")
    values = plain_value(items)
    if not isinstance(values, list):
        raise InputError(f"the candidates must be a list, got {type(items).__name__}")
    candidates = []
    for position, item in enumerate(values):
        place = f"candidates[{position}]"
        row = {"text": item} if isinstance(item, str) else item
        if not isinstance(row, dict):
            raise InputError(f"{place}: a text or an object with a text is needed, got {type(item).__name__}")
        id = str(position) if row.get("id") is None else name_of(row["id"])
        if id is None:
            raise InputError(f"{place}: its id must be a text that is not empty, or a whole number")
        metadata = metadata_of(row, ("id", "text", "score"))
        try:
            candidates.append(Candidate(id, row.get("text"), row.get("score"), metadata))  # type: ignore[arg-type]
        except InputError as error:
            raise InputError(f"{place}: {error}") from error
    return str.__str__(query), values, tuple(candidates)


def answer_of(ranking: Ranking, items: Sequence[Any] | None) -> dict[str, Any]:
    """Return the values of `ANSWER_COLUMNS` for a ranking.

    Args:
        ranking: The ranking.
        items: The items of the row's list, to stand in each hit as ``candidate``; ``None`` to leave them out.
    """
    assert ranking.origin is not None
    first_ranks = {id: place for place, id in enumerate(ranking.origin.ids, start=1)}
    hits = []
    for hit in ranking:
        values = hit.to_dict()
        del values["candidate"]
        rank, first_rank = values.pop("rank"), first_ranks[hit.id]
        own = {} if items is None else {"candidate": items[first_rank - 1]}
        hits.append({"rank": rank, "id": hit.id, "first_rank": first_rank, **values, **own})
    usage = ranking.usage
    figures = {name: getattr(usage, name) for name in _USAGE} | {"estimated": list(usage.estimated)}
    return {
        "hits": hits,
        "scale": ranking.scale,
        "degraded": list(ranking.degraded),
        "substituted": ranking.substituted,
        "answerable": ranking.answerable,
        "warnings": _warnings(ranking),
        "usage": figures,
        "error": None,
    }


def error_answer(error: RerankError) -> dict[str, Any]:
    """Return the values of `ANSWER_COLUMNS` for a call that failed: no hits, and type and message of the error."""
    return {
        "hits": [],
        "scale": None,
        "degraded": [],
        "substituted": False,
        "answerable": None,
        "warnings": [],
        "usage": None,
        "error": {"type": type(error).__name__, "message": " ".join(str(error).split())},
    }


def _warnings(ranking: Ranking) -> list[str]:
    """Return what was not read, and what has no score."""
    trace = ranking.trace
    cut = sum(hit.coverage.truncated for hit in ranking if hit.coverage is not None)
    warnings = [f"only the beginning of {cut} of {len(ranking)} texts was read"] if cut else []
    if any(step.query_coverage is not None for step in trace.walk()):
        warnings.append("only the beginning of the query was read")
    reasons = sorted({hit.unscored for hit in ranking if hit.unscored})
    if reasons:
        count = sum(hit.unscored is not None for hit in ranking)
        warnings.append(f"{count} of {len(ranking)} texts have no score ({'; '.join(reasons)})")
    return warnings


def answer_schema(candidate: Any = None) -> Any:
    """Return the Arrow schema of `ANSWER_COLUMNS`, so that a column has the same type in every batch.

    Args:
        candidate: The Arrow type of an item of the candidates, if the hits hold their candidates.
    """
    import pyarrow as pa

    coverage = pa.struct([("total", pa.int64()), ("seen", pa.int64()), ("estimated", pa.bool_())])
    numbers = [("score", pa.float64()), ("raw_score", pa.float64())]
    span = pa.struct([("start", pa.int64()), ("end", pa.int64()), *numbers, ("is_relevant", pa.bool_())])
    hit = [
        ("rank", pa.int64()),
        ("id", pa.string()),
        ("first_rank", pa.int64()),
        *numbers,
        ("coverage", coverage),
        ("unscored", pa.string()),
        ("window", pa.list_(pa.int64())),
        ("spans", pa.list_(span)),
        *([] if candidate is None else [("candidate", candidate)]),
    ]
    counts = dict.fromkeys(_USAGE, pa.int64())
    usage = {**counts, "search_units": pa.float64(), "cost": pa.float64(), "estimated": pa.list_(pa.string())}
    types = {
        "hits": pa.list_(pa.struct(hit)),
        "scale": pa.string(),
        "degraded": pa.list_(pa.string()),
        "substituted": pa.bool_(),
        "answerable": pa.float64(),
        "warnings": pa.list_(pa.string()),
        "usage": pa.struct(list(usage.items())),
        "error": pa.struct([("type", pa.string()), ("message", pa.string())]),
    }
    return pa.schema([(name, types[name]) for name in ANSWER_COLUMNS])


def plain_value(value: Any) -> Any:
    """Return a value of a data frame as lists, dicts and plain scalars: those of numpy and pandas as Python's own."""
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, bytes) or value is None:
        return value
    if isinstance(value, Mapping):
        return {key: plain_value(inner) for key, inner in value.items()}
    if hasattr(value, "tolist") and hasattr(value, "shape"):  # an array, or a scalar of numpy
        return plain_value(value.tolist()) if value.shape else plain(value)
    if isinstance(value, (list, tuple)):
        return [plain_value(inner) for inner in value]
    if hasattr(value, "asDict"):  # a row of Spark
        return plain_value(value.asDict())
    if hasattr(value, "to_list"):  # a series of polars or pandas
        return plain_value(value.to_list())
    return value
