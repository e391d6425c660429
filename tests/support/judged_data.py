"""Small judged collections whose texts name their grades, and rerankers that read or ignore the grades."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import ClassVar

from rag_rerank import Candidate, PointwiseReranker, Scale, Scores, Usage
from rag_rerank.evaluation import Judged, JudgedQuery


def collection(queries: int = 12, candidates: int = 12, seed: int = 0, *, good: bool = False) -> Judged:
    """Return queries with two relevant documents, of grades 2 and 1; at random ranks, or first if ``good``."""
    chance = Random(seed)
    judged_queries = []
    for q in range(queries):
        grades = [2, 1, *[0] * (candidates - 2)]
        if not good:
            chance.shuffle(grades)
        judged_queries.append(
            JudgedQuery(
                id=f"q{q}",
                text=f"question number {q}",
                candidates=tuple(Candidate(f"q{q}d{i}", f"text {q}.{i} of grade {g}") for i, g in enumerate(grades)),
                grades={f"q{q}d{i}": g for i, g in enumerate(grades)},
                metadata={"kind": "even" if q % 2 == 0 else "odd"},
            )
        )
    return Judged(name="made up", queries=tuple(judged_queries), fingerprint=f"{queries} {candidates} {seed} {good}")


def written(judged: Judged, file: Path) -> str:
    """Write a collection as JSON lines, and return the file's name."""
    rows = (
        {
            "id": query.id,
            "query": query.text,
            "candidates": [{"id": c.id, "text": c.text} for c in query.candidates],
            "relevant": dict(query.grades),
            **query.metadata,
        }
        for query in judged.queries
    )
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(file)


REGISTERED = {
    "oracle": "support.judged_data:Oracle",
    "contrary": "support.judged_data:Contrary",
    "chance": "support.judged_data:Chance",
    "moody": "support.judged_data:Moody",
}
"""Names that a test may add to the registry."""


@dataclass(frozen=True, kw_only=True)
class Oracle(PointwiseReranker):
    """Scores a text by the grade it names; ``asked`` lists the queries of all calls."""

    kind: ClassVar[str] = "oracle"
    asked: ClassVar[list[str]] = []

    @property
    def scale(self) -> Scale:
        return "unbounded"

    @property
    def why_not_cacheable(self) -> None:
        return None

    def score(self, query: str, texts: Sequence[str]) -> Scores:
        self.asked.append(query)
        return Scores([self.number(query, text) for text in texts], self.scale, Usage(texts=len(texts)))

    def number(self, query: str, text: str) -> float:
        return float(re.search(r"grade (\d)", text)[1])  # type: ignore[index]


@dataclass(frozen=True, kw_only=True)
class Contrary(Oracle):
    """Ranks the worst text first."""

    kind: ClassVar[str] = "contrary"

    def number(self, query: str, text: str) -> float:
        return -super().number(query, text)


@dataclass(frozen=True, kw_only=True)
class Chance(Oracle):
    """Scores at random."""

    kind: ClassVar[str] = "chance"
    seed: int = 0

    def number(self, query: str, text: str) -> float:
        return float(int.from_bytes(sha256(f"{self.seed} {query} {text}".encode()).digest()[:4], "big"))


@dataclass(frozen=True, kw_only=True)
class Moody(Oracle):
    """Raises an error for queries that begin with ``on``; by default for all."""

    kind: ClassVar[str] = "moody"
    raises: Exception = field(default=RuntimeError(), compare=False, metadata={"live": True})
    on: str = ""

    def number(self, query: str, text: str) -> float:
        if query.startswith(self.on):
            raise self.raises
        return super().number(query, text)
