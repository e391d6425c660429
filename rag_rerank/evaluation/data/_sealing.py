"""The end of every reading: what must hold, and what makes two readings the same data."""

from __future__ import annotations

import json
from collections.abc import Sequence
from hashlib import sha256
from typing import Any

from rag_rerank.errors import InputError
from rag_rerank.evaluation.data._problems import Problems
from rag_rerank.evaluation.data.judged import Judged, JudgedQuery
from rag_rerank.records.record import digest
from rag_rerank.types import blank

__all__ = ["fingerprint", "sealed"]


def sealed(
    name: str, queries: Sequence[JudgedQuery], relevant: int, sources: tuple[str, ...], problems: Problems
) -> Judged:
    """Return judged queries with what was found amiss and their fingerprint.

    Raises:
        InputError: No query is left, none has candidates, or nothing is relevant.
    """
    for query in queries:
        _look(query, relevant, problems)
    if not any(query.candidates for query in queries):
        raise InputError(f"{name}: no query has judgments and candidates; {problems.told() or 'there are none'}")
    highest = max(max(query.grades.values()) for query in queries)
    if highest < relevant:
        raise InputError(
            f"{name}: no document of any query has a grade of at least {relevant}, so there is nothing to find; "
            f"the highest grade is {highest}"
        )
    return Judged(
        name=name,
        queries=tuple(queries),
        relevant=relevant,
        problems=problems.listed(),
        sources=sources,
        fingerprint=fingerprint(queries, relevant),
    )


def _look(query: JudgedQuery, relevant: int, problems: Problems) -> None:
    """Note what is odd about a query that counts."""
    place = f"query {query.id!r}"
    if not query.candidates:  # its first stage has failed; without such queries its mean would look better than it is
        problems.note("queries without candidates, which count all the same", place)
    if max(query.grades.values()) < relevant:
        kind = f"queries of which no document has a grade of at least {relevant}, which count all the same"
        problems.note(kind, place)
    for candidate in query.candidates:
        if blank(candidate.text):
            kind = "candidates with a blank text, which no reranker scores"
            problems.note(kind, f"document {candidate.id!r} of {place}")


def fingerprint(queries: Sequence[JudgedQuery], relevant: int) -> str:
    """Return the SHA-256 over all that decides a figure, in hexadecimal.

    Ids and texts of queries and candidates, the candidates' order, all grades, the threshold of relevance, and the
    metadata that make the slices. The order of the queries, of judgments and of keys means nothing; nor do the first
    stage's scores, beyond the order they gave.
    """
    whole = sha256(_plain(["rag_rerank.judged/1", relevant]))
    for query in sorted(queries, key=lambda query: query.id):
        candidates = [[c.id, digest(c.text), dict(c.metadata)] for c in query.candidates]
        whole.update(_plain([query.id, query.text, candidates, dict(query.grades), dict(query.metadata)]))
    return whole.hexdigest()


def _plain(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=str).encode("ascii") + b"\n"
