"""Read files with one query and its candidates on each line: our own small format, and records of calls."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from rag_rerank.errors import ConfigError, InputError
from rag_rerank.evaluation.data.collections import metadata_of
from rag_rerank.evaluation.data.join import note_unknown
from rag_rerank.evaluation.data.judged import JudgedQuery, Problems
from rag_rerank.evaluation.data.lines import name_of, objects
from rag_rerank.evaluation.data.trec import Qrels, as_grade
from rag_rerank.records.context_record import CONTEXT_SCHEMA
from rag_rerank.records.record import SCHEMA, Record, digest
from rag_rerank.text.unicode import is_blank
from rag_rerank.types import Candidate

__all__ = ["candidate_lines"]


def candidate_lines(
    file: Path, judgments: Qrels | None, *, depth: int, limit: int | None, relevant: int, problems: Problems
) -> list[JudgedQuery]:
    """Return the judged queries of a JSONL file of queries with candidates, or of records.

    Without ``judgments``, each line must hold its own.

    Raises:
        ConfigError: There are records without judgments.
        InputError: The file cannot be read, a grade is not a whole number, or a record has another layout.
    """
    queries: dict[str, JudgedQuery] = {}
    known_ids: set[str] = set()
    for place, query in _queries(file, judgments, relevant, problems):
        example = f"{place}: query {query.id!r}"
        if query.id in known_ids:
            problems.note("query ids that occur twice (the last one counts)", example)
        known_ids.add(query.id)
        if query.grades and not is_blank(query.text):
            queries[query.id] = query
        else:
            what = "a blank text" if query.grades else "no judgments"
            problems.note(f"queries with {what}, left out", example)
            queries.pop(query.id, None)
    if judgments is not None:
        note_unknown(judgments, known_ids, problems)
    return [_limit_depth(query, depth, problems) for query in list(queries.values())[:limit]]


def _limit_depth(query: JudgedQuery, depth: int, problems: Problems) -> JudgedQuery:
    if len(query.candidates) > depth:
        example = f"query {query.id!r} has {len(query.candidates)}"
        problems.note(f"candidates below the depth of {depth}, left out", example, len(query.candidates) - depth)
    return replace(query, candidates=query.candidates[:depth])


def _queries(
    file: Path, judgments: Qrels | None, relevant: int, problems: Problems
) -> Iterator[tuple[str, JudgedQuery]]:
    """Yield each query with its place in the file."""
    for number, row in objects(file, problems):
        place = f"{file.name}:{number}"
        if row.get("schema") == CONTEXT_SCHEMA:  # what was packed from a record's ranking
            continue
        if "schema" in row:
            if row["schema"] != SCHEMA:
                raise InputError(f"{place}: the layout {row['schema']!r:.60} is not {SCHEMA!r}")
            if judgments is None:
                raise ConfigError(f"{file} holds records, which have no judgments; name a file", path="qrels")
            query = _query_of_record(row, place, judgments, problems)
        else:
            query = _query_of_line(row, place, judgments, relevant, problems)
        if query is not None:
            yield place, query


def _query_of_line(
    row: Mapping[str, Any], place: str, judgments: Qrels | None, relevant: int, problems: Problems
) -> JudgedQuery | None:
    text, items = row.get("query"), row.get("candidates")
    if not isinstance(text, str) or not isinstance(items, list):
        keys = ", ".join(map(repr, row)) or "none"
        problems.note("lines without a query and a list of candidates, left out", f"{place}: its keys: {keys:.80}")
        return None
    id = digest(text) if row.get("id") is None else name_of(row["id"])
    if id is None:
        problems.note("lines whose id is neither a string nor a whole number, left out", place)
        return None
    return JudgedQuery(
        id=id,
        text=text,
        candidates=tuple(_candidates(items, place, problems)),
        grades=_own_grades(row.get("relevant"), place, relevant) if judgments is None else _grades(judgments, id),
        metadata=metadata_of(row, ("id", "query", "candidates", "relevant")),
    )


def _candidates(items: list[Any], place: str, problems: Problems) -> Iterator[Candidate]:
    ids: set[str] = set()
    for position, item in enumerate(items):
        example = f"{place}: candidates[{position}]"
        row = {"text": item} if isinstance(item, str) else item
        try:
            if not isinstance(row, dict):
                raise InputError("a text or an object with a text is needed")
            id = name_of(row["id"]) if row.get("id") is not None else str(position)
            metadata = metadata_of(row, ("id", "text", "score"))
            candidate = Candidate(id or "", row.get("text"), row.get("score"), metadata)  # type: ignore[arg-type]
        except InputError as error:
            problems.note("candidates that cannot be read, left out", f"{example}: {error}")
            continue
        if candidate.id in ids:
            problems.note("candidate ids that occur twice (the first one counts)", f"{example}: {candidate.id!r}")
            continue
        ids.add(candidate.id)
        yield candidate


def _own_grades(value: Any, place: str, relevant: int) -> dict[str, int]:
    """Return the grades of a line; an id in a list has the lowest relevant grade."""
    if value is None:
        return {}
    if isinstance(value, dict):
        for id, grade in value.items():
            if isinstance(grade, bool) or not isinstance(grade, (int, float)):
                raise InputError(f"{place}: the grade of {id!r} must be a number, got {type(grade).__name__}")
        return {id: as_grade(grade, f"{place}: document {id!r}") for id, grade in value.items()}
    ids = [name_of(id) for id in value] if isinstance(value, list) else [None]
    if None in ids:
        raise InputError(f"{place}: 'relevant' must be a list of ids, or an object of ids and grades")
    return {id: relevant for id in ids if id is not None}


def _query_of_record(row: Mapping[str, Any], place: str, judgments: Qrels, problems: Problems) -> JudgedQuery | None:
    """Return the query of a record, with its candidates in the first stage's order."""
    try:
        record = Record.from_dict(row)
        if record.query is None or any(entry.text is None for entry in record.candidates):
            problems.note("records without texts, left out; they are recorded with texts=True", place)
            return None
        entries = sorted(record.candidates, key=lambda entry: entry.first_rank)
        candidates = tuple(Candidate(e.id, e.text or "", e.first_score, e.metadata or {}) for e in entries)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        problems.note("records that cannot be read, left out", f"{place}: {type(error).__name__}: {error}")
        return None
    id = name_of(record.tags.get("query_id")) or record.query_sha256
    return JudgedQuery(
        id=id,
        text=record.query,
        candidates=candidates,
        grades=_grades(judgments, id),
        metadata={key: value for key, value in record.tags.items() if key != "query_id"},
    )


def _grades(judgments: Qrels, query: str) -> dict[str, int]:
    return judgments.grades(query) if query in judgments.rows else {}
