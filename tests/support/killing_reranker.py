"""A reranker whose process dies, for tests of what survives that."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from rag_rerank import PointwiseReranker, Scores, Usage


@dataclass(frozen=True, kw_only=True)
class KillingReranker(PointwiseReranker):
    """Scores a text by its length; at some queries, the first process that gets there kills itself.

    Args:
        queries: These queries.
        marks: A folder; a file in it says that the process of a query has died already.
    """

    kind: ClassVar[str] = "killing"
    scale = "unbounded"

    queries: tuple[str, ...]
    marks: str

    def score(self, query: str, texts: Sequence[str]) -> Scores:
        """Return the lengths, or die."""
        if query in self.queries:
            mark = Path(self.marks, str(self.queries.index(query)))
            if not mark.exists():
                mark.touch()
                os.kill(os.getpid(), signal.SIGKILL)
        return Scores([float(len(text)) for text in texts], "unbounded", Usage(texts=len(texts)))


def longest(candidates: Sequence[dict[str, str]], count: int) -> list[tuple[str, float]]:
    """Return id and length of the longest texts, in the order of the candidates where lengths are equal."""
    ordered = sorted(candidates, key=lambda row: -len(row["text"]))
    return [(row["id"], float(len(row["text"]))) for row in ordered[:count]]
