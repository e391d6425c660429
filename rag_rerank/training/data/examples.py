"""Training examples: a query with passages, each judged or scored."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from rag_rerank.evaluation import Problem

__all__ = ["Example", "Examples", "Origin", "Passage", "Source"]

Origin = Literal["judged", "feedback", "positive", "bm25", "bi-encoder", "model", "random"]
"""Where a passage of an example comes from: a judgment, a user's feedback in a record, a (query, positive) pair, or
the strategy that mined it as a negative."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """A passage beside a query.

    Args:
        text: The text that the model reads.
        id: Its id in the corpus, or its SHA-256 if it has none.
        grade: Its judged relevance; higher is more, 0 and below is not relevant. ``None`` without a judgment.
        teacher: A teacher's raw score, on the teacher's own scale; ``None`` without one.
        origin: Where it comes from.
    """

    text: str
    id: str
    grade: float | None
    teacher: float | None = None
    origin: Origin


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A query and the passages that a model learns to order for it.

    Args:
        query: The query.
        passages: At least one; texts differ. A model can learn from it only if two passages differ in grade or in the
            teacher's score; mining adds such passages.
        source: Name of the `Source` it comes from.
        id: The query's id, where the source has one: the passage with this id may be the query itself.
    """

    query: str
    passages: tuple[Passage, ...]
    source: str
    id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where examples come from, for the model card.

    Args:
        name: Its name.
        licence: The licence of its text; ``None`` if it is not stated.
        path: File or folder as the user named it.
        sha256: Hash of what was read.
        queries: Number of queries that were read from it.
        pairs: Number of (query, passage) pairs.
    """

    name: str
    licence: str | None
    path: str
    sha256: str
    queries: int
    pairs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Examples:
    """The examples, their sources, and what was left out.

    Args:
        examples: The examples, in the order of the data.
        sources: Where they come from.
        problems: What was left out or repaired, counted, with the first few places.
    """

    examples: tuple[Example, ...]
    sources: tuple[Source, ...]
    problems: tuple[Problem, ...] = field(default_factory=tuple)
