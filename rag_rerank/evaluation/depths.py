"""How many candidates should enter a reranker, and how many hits should be kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from rag_rerank.evaluation.judged import Judged, JudgedQuery
from rag_rerank.evaluation.measures import per_query
from rag_rerank.evaluation.report import Depth
from rag_rerank.evaluation.statistics import SAMPLES, SEED, estimate, upper_bound
from rag_rerank.types import best_first

__all__ = ["TOLERANCE", "Curve", "curve", "order_at", "smallest_top_k"]

TOLERANCE = 0.01
"""A loss of the measure that is small enough not to matter: one point of a hundred."""

_STEPS = (5, 10, 20, 30, 50, 75, 100, 150, 200, 300, 500, 1000)


@dataclass(frozen=True, kw_only=True, slots=True)
class Curve:
    """What a system gives by how many candidates enter it.

    Args:
        depths: The points, by rising depth; the last one is all candidates.
        enough: The smallest depth whose loss against all candidates is surely below `TOLERANCE`, in the first
            measure.
    """

    depths: tuple[Depth, ...]
    enough: int


Scored = Mapping[str, float | None]
"""Raw scores of a query's candidates by id; ``None`` or missing for what has none."""
