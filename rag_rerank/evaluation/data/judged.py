"""Judged queries: the data an evaluation reads, its validation, and the problems found while reading."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any

from rag_rerank.errors import InputError
from rag_rerank.records.record import digest
from rag_rerank.text.short_repr import short_repr
from rag_rerank.text.unicode import is_blank
from rag_rerank.text.words import split_words
from rag_rerank.types import Candidate

__all__ = [
    "Judged",
    "JudgedQuery",
    "Problem",
    "Problems",
    "fingerprint",
    "is_own_document",
    "validate",
    "without_own_document",
]


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """Faulty data of one kind, which was left out or corrected, and which is reported.

    Args:
        kind: A description in words: ``"judged documents that are not in the corpus"``.
        count: How often it occurred.
        examples: The first few, each with its place: ``"qrels.tsv:17: document 'd9' of query 'q2'"``.
    """

    kind: str
    count: int
    examples: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return one line with the first example."""
        return f"{self.count:,} {self.kind}" + (f", such as {self.examples[0]}" if self.examples else "")


@dataclass(frozen=True, kw_only=True, slots=True)
class JudgedQuery:
    """A query with its candidates and its judgments.

    Args:
        id: The id of the query.
        text: The query.
        candidates: The candidates in the first stage's order; empty where it found nothing (the query still counts).
        grades: Grade by document id, of all judged documents, candidates or not; a higher grade is more relevant,
            0 and below is not relevant.
        metadata: Other fields of the query, for slices.
    """

    id: str
    text: str
    candidates: tuple[Candidate, ...]
    grades: Mapping[str, int]
    metadata: Mapping[str, Any] = field(default_factory=dict)

    __repr__ = short_repr


@dataclass(frozen=True, kw_only=True, slots=True)
class Judged:
    """Judged queries of one collection.

    Args:
        name: The name of the collection in reports.
        queries: Queries with at least one judgment.
        relevant: Lowest grade of a relevant document, for measures that know only two grades.
        problems: What was left out or corrected while reading.
        sources: Where it was read from, one line each: ``"candidates: bm25-top100.trec.gz, found in the folder"``.
        fingerprint: SHA-256 over everything that decides a figure: queries, texts, first stage, judgments.
    """

    name: str
    queries: tuple[JudgedQuery, ...]
    relevant: int = 1
    problems: tuple[Problem, ...] = ()
    sources: tuple[str, ...] = ()
    fingerprint: str = ""

    __repr__ = short_repr


_CHANCE_WORDS = 8
"""Fewer words in a row occur in a longer text by chance; as for leaks in `rag_rerank.training.data.overlap`."""

_EXAMPLES = 5
"""Maximum number of examples of a problem."""


class Problems:
    """A collector of problems while data is read; they are in the order of their first examples."""

    def __init__(self) -> None:
        self._by_kind: dict[str, tuple[int, list[str]]] = {}

    def note(self, kind: str, example: str, count: int = 1) -> None:
        """Count a problem; ``example`` says where it is: ``"qrels.tsv:17: document 'd9' of query 'q2'"``."""
        before, examples = self._by_kind.get(kind, (0, []))
        if len(examples) < _EXAMPLES:
            examples.append(example)
        self._by_kind[kind] = before + count, examples

    def as_tuple(self) -> tuple[Problem, ...]:
        """Return the problems."""
        return tuple(Problem(kind=k, count=n, examples=tuple(examples)) for k, (n, examples) in self._by_kind.items())

    def summary(self) -> str:
        """Return the problems in one sentence, for an error; empty if there are none."""
        return "; ".join(f"{kind}: {count} ({examples[0]})" for kind, (count, examples) in self._by_kind.items())


def is_own_document(query_id: str, query: str, document_id: str, text: str) -> bool:
    """Whether a document is the query itself, as in ArguAna and Quora, where queries are documents of the corpus.

    It has the query's id: the rule of BEIR's ``ignore_identical_ids``. If the id is a mere number, which queries and
    documents of many collections share by chance, it must have the query's words too: no others, or eight or more in
    a row beside a title.
    """
    if query_id != document_id:
        return False
    if not query_id.isdecimal():
        return True
    query_words, words = split_words(query), split_words(text)
    contained = f" {' '.join(query_words)} " in f" {' '.join(words)} "
    return query_words == words or (contained and len(query_words) >= _CHANCE_WORDS)


def without_own_document(query: JudgedQuery, place: str, problems: Problems) -> JudgedQuery:
    """Return the query without its own document among the candidates, which is noted; a relevant one stays."""
    own = [
        candidate.id
        for candidate in query.candidates
        if is_own_document(query.id, query.text, candidate.id, candidate.text)
        and query.grades.get(candidate.id, 0) <= 0
    ]
    if not own:
        return query
    kind = "candidates that are the query itself (its id, not judged relevant), left out as BEIR does"
    problems.note(kind, f"{place}: query {query.id!r}")
    return replace(query, candidates=tuple(candidate for candidate in query.candidates if candidate.id not in own))


def validate(
    name: str, queries: Sequence[JudgedQuery], relevant: int, sources: tuple[str, ...], problems: Problems
) -> Judged:
    """Return judged queries with their problems and their fingerprint.

    Raises:
        InputError: No query is left, none has candidates, or no document is relevant.
    """
    for query in queries:
        _note_problems(query, relevant, problems)
    if not any(query.candidates for query in queries):
        raise InputError(f"{name}: no query has judgments and candidates; {problems.summary() or 'there are none'}")
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
        problems=problems.as_tuple(),
        sources=sources,
        fingerprint=fingerprint(queries, relevant),
    )


def _note_problems(query: JudgedQuery, relevant: int, problems: Problems) -> None:
    """Note the problems of a query that is kept."""
    place = f"query {query.id!r}"
    if not query.candidates:  # its first stage failed; without such queries the first stage would look too good
        problems.note("queries without candidates, which still count", place)
    if max(query.grades.values()) < relevant:
        kind = f"queries without a document of grade {relevant} or higher, which still count"
        problems.note(kind, place)
    for candidate in query.candidates:
        if is_blank(candidate.text):
            kind = "candidates with a blank text, which no reranker scores"
            problems.note(kind, f"document {candidate.id!r} of {place}")


def fingerprint(queries: Sequence[JudgedQuery], relevant: int) -> str:
    """Return the SHA-256 over everything that decides a figure, in hexadecimal.

    That is ids and texts of queries and candidates, the candidates' order, all grades, the threshold of relevance, and
    the metadata that make the slices. The order of queries, judgments and keys does not matter; nor do the first
    stage's scores.
    """
    whole = sha256(_canonical(["rag_rerank.judged/1", relevant]))
    for query in sorted(queries, key=lambda query: query.id):
        candidates = [[c.id, digest(c.text), dict(c.metadata)] for c in query.candidates]
        whole.update(_canonical([query.id, query.text, candidates, dict(query.grades), dict(query.metadata)]))
    return whole.hexdigest()


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=str).encode("ascii") + b"\n"
