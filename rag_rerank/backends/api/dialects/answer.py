"""How an answer of a server is read by its dialect: rows, usage, the model that answered, and errors of status 200."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rag_rerank.backends.api.dialects.dialect import Dialect
from rag_rerank.backends.api.exchange import Exchange, Reply, as_count, as_name, as_number, get_field
from rag_rerank.backends.api.http_transport import HttpResponse
from rag_rerank.backends.api.pricing import token_usage, unit_usage
from rag_rerank.errors import BackendError, RequestRejected
from rag_rerank.trace import Usage

__all__ = ["read_answer"]


def read_answer(row: Dialect, exchange: Exchange, response: HttpResponse) -> Reply:
    """Return the scores and figures of an answer, not yet checked.

    Raises:
        BackendError: The answer is an error, or no JSON; or the server failed on every text.
    """
    body = response.parsed
    if response.status != 200:
        raise _refusal_error(row, exchange, response.status, response.headers, body)
    if isinstance(body, str):
        raise exchange.bad_response("it is not JSON of the expected shape")
    if row.error is not None and find(body, row.error) and not find(body, row.rows or ""):
        raise _refusal_error(row, exchange, 200, response.headers, body)
    rows = _read_rows(row, body)
    if row.score is None and isinstance(rows, list) and len(rows) != len(exchange.texts):
        raise exchange.bad_response(f"{len(rows)} scores for {len(exchange.texts)} texts")
    pairs, failures = _split_failures(rows, row.failure_score)
    if failures and len(failures) == len(exchange.texts):
        raise exchange.bad_response(f"{row.title} failed on every text, and gave {row.failure_score} for each")
    return Reply(
        pairs,
        read_usage(row, body, response.headers, exchange),
        model=as_name(get_field(body, row.model_field, None)),
        unscored=dict.fromkeys(failures, f"{row.title} failed on it, and gave {row.failure_score}"),
    )


def find(body: Any, place: str) -> Any:
    """Return the value at a place of an answer, such as ``usage.cost``, whatever its type; ``None`` without one."""
    for name in place.split("."):
        body = body.get(name) if isinstance(body, Mapping) else None
    return body


def read_usage(row: Dialect, body: Any, headers: Mapping[str, str], exchange: Exchange) -> Usage:
    """Return the figures that an answer names.

    A number that cannot be one of tokens or of search units is replaced by our estimate.
    """
    query, texts = exchange.query, exchange.texts
    counts = [find(body, place) for place in row.tokens]
    if row.tokens_in is not None:
        header = headers.get(row.tokens_in, "")
        counts.append(int(header) if header.isdecimal() else None)
    # old builds of llama.cpp say 0, and so do gateways that do not know the number
    tokens = next((int(count) for count in map(as_count, counts) if count), None)
    units = next((count for count in (as_count(find(body, place)) for place in row.units) if count is not None), None)
    figures = token_usage(tokens, query, texts, suspect=row.counts_characters) + unit_usage(units, query, texts)
    if row.unit_texts is not None:
        figures += Usage(search_units=float(-(-len(texts) // row.unit_texts)), estimated=("search_units",))
    return figures + Usage(cost=as_count(find(body, row.cost)) if row.cost is not None else None)


def _read_rows(row: Dialect, body: Any) -> object:
    """Return the pairs of index and score of an answer, or ``None`` where there is no list of rows."""
    rows = body if row.rows is None else find(body, row.rows)
    if not isinstance(rows, (list, tuple)):
        return None
    if row.score is None:
        return list(enumerate(rows))
    return [(_index(get_field(item, row.index, None), row), get_field(item, row.score, None)) for item in rows]


def _index(value: object, row: Dialect) -> object:
    """Return the position of a row's text; where positions are sent as strings, they come back as strings."""
    is_text = row.id is not None and isinstance(value, str) and value.isascii() and value.isdecimal()
    return int(value) if is_text and len(str(value)) <= _MOST_DIGITS else value  # type: ignore[call-overload]


_MOST_DIGITS = 9


def _split_failures(pairs: object, failure_score: float | None) -> tuple[object, set[int]]:
    """Return rows with 0 in place of the number that says that the server failed on a text, and their indexes."""
    if failure_score is None or not isinstance(pairs, list):
        return pairs, set()
    failures = {i for i, score in pairs if isinstance(i, int) and as_number(score) == failure_score}
    return [(i, 0.0 if as_number(score) == failure_score else score) for i, score in pairs], failures


def _refusal_error(
    row: Dialect, exchange: Exchange, status: int, headers: Mapping[str, str], body: object
) -> BackendError:
    """Return the error for an answer that is one; an unknown error of status 200 will not pass by itself."""
    refusal = row.refusal(status, str(body))
    kind, advice = (refusal.kind, refusal.advice) if refusal else (None, None)
    if status == 200:
        return exchange.http_error(None, headers, body, kind=kind or RequestRejected, advice=advice)
    return exchange.http_error(status, headers, body, kind=kind, advice=advice)
