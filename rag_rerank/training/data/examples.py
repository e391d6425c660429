"""What a model learns from: a query with passages, each judged or scored."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from rag_rerank.evaluation import Problem

__all__ = ["Example", "Examples", "Origin", "Passage", "Source"]

Origin = Literal["judged", "feedback", "positive", "bm25", "bi-encoder", "model", "random"]
"""Where a passage of an example comes from: a judgment, a user's feedback in a record, a (query, positive) pair, or
which way of mining proposed it as a negative."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """A passage beside a query.

    Args:
        text: What the model reads.
        id: Its id in the corpus, or its SHA-256 where it had none.
        grade: How relevant it was judged; higher is more, 0 and below is not relevant. ``None`` where nobody judged.
        teacher: A teacher's raw score, on the teacher's own scale; ``None`` where none was asked.
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
        passages: At least one; texts differ. A model can learn from it only where there are two that differ in grade or
            in the teacher's score, which mining sees to.
        source: Name of the `Source` it comes from.
    """

    query: str
    passages: tuple[Passage, ...]
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where examples come from, as the model card tells it.

    Args:
        name: What it is called.
        licence: Under which licence its text may be used; ``None`` where nobody said.
        path: File or folder as the user named it.
        sha256: Hash of what was read.
        queries: How many queries were read from it.
        pairs: How many (query, passage) pairs.
    """

    name: str
    licence: str | None
    path: str
    sha256: str
    queries: int
    pairs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Examples:
    """All that was read, and what was left out on the way.

    Args:
        examples: In the order in which they were read.
        sources: Where they come from.
        problems: What was left out or mended, counted, with the first few places.
    """

    examples: tuple[Example, ...]
    sources: tuple[Source, ...]
    problems: tuple[Problem, ...] = field(default_factory=tuple)
