"""Judged queries: what an evaluation reads, wherever it came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rag_rerank.types import Candidate

__all__ = ["Judged", "JudgedQuery", "Problem"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """Something in the data that was left out or mended, which is said and not done in silence.

    Args:
        kind: What it is, in words: ``"judged documents that are not in the corpus"``.
        count: How often.
        examples: The first few, each with its place, ``"qrels.tsv:17: document 'd9' of query 'q2'"``.
    """

    kind: str
    count: int
    examples: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Say it in one line, with the first example."""
        return f"{self.count:,} {self.kind}" + (f", such as {self.examples[0]}" if self.examples else "")


@dataclass(frozen=True, kw_only=True, slots=True)
class JudgedQuery:
    """A query with its candidates and what was judged.

    Args:
        id: Its id.
        text: The query.
        candidates: What the first stage proposed, in its order; empty where it found nothing (the query still counts).
        grades: Grade by document id, of all that was judged, candidates or not; a higher grade is more relevant,
            0 and below is not relevant.
        metadata: Whatever else the data says of the query, for slices.
    """

    id: str
    text: str
    candidates: tuple[Candidate, ...]
    grades: Mapping[str, int]
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Judged:
    """Judged queries of one collection.

    Args:
        name: What reports call it.
        queries: Queries with at least one judgment.
        relevant: Grade from which on a document is relevant, where a measure knows only two grades.
        problems: What was left out or mended while reading.
        sources: Where it was read from, one line each: ``"candidates: bm25-top100.trec.gz, found in the folder"``.
        fingerprint: SHA-256 over all that decides a figure: queries, texts, first stage, judgments.
    """

    name: str
    queries: tuple[JudgedQuery, ...]
    relevant: int = 1
    problems: tuple[Problem, ...] = ()
    sources: tuple[str, ...] = ()
    fingerprint: str = ""
