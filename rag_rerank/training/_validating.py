"""How well a model orders held-out passages, in the figures of the evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rag_rerank.errors import InputError
from rag_rerank.evaluation import Judged, JudgedQuery
from rag_rerank.evaluation.measures import TOP_3, per_query
from rag_rerank.training.examples import Example, Examples
from rag_rerank.types import Candidate

__all__ = ["MEASURE", "Quality", "Validation"]

MEASURE = "nDCG@10"
"""The measure by which the best step is chosen."""


@dataclass(frozen=True, kw_only=True)
class Quality:
    """How good an order is; means over the queries.

    Args:
        ndcg: nDCG@10.
        top3: nDCG@3.
        lift: nDCG@3 less that of the incoming order: the lift at top-3.
    """

    ndcg: float
    top3: float
    lift: float


class Validation:
    """Judged examples that are not trained on.

    The order in which an example's passages stand is the incoming one. What is not judged counts as not relevant.

    Args:
        examples: Grades are whole numbers.

    Raises:
        InputError: No example has a relevant passage beside another one, or a grade is no whole number.
        MissingExtraError: ir-measures is not installed.
    """

    def __init__(self, examples: Examples) -> None:
        telling = [example for example in examples.examples if _telling(example)]
        if not telling:
            raise InputError(
                "nothing to validate on: no query has a relevant passage beside one that is not relevant; give judged "
                "queries with their candidates"
            )
        self._judged = Judged(name="validation", queries=tuple(_query(i, one) for i, one in enumerate(telling)))
        self._pairs = [(query.text, found.text) for query in self._judged.queries for found in query.candidates]
        self._incoming = self._figures({query.id: [c.id for c in query.candidates] for query in self._judged.queries})
        self.queries = len(telling)

    @property
    def incoming(self) -> Quality:
        """How good the incoming order is."""
        return self._quality(self._incoming)

    def quality(self, model: Any, *, batch: int) -> Quality:
        """Return how good the order is that a model gives; equal logits keep the incoming order."""
        import torch

        logits = model.predict(
            self._pairs, batch_size=batch, show_progress_bar=False, activation_fn=torch.nn.Identity()
        ).tolist()
        scores = iter(logits)
        orders = {}
        for query in self._judged.queries:
            scored = [(next(scores), candidate.id) for candidate in query.candidates]
            orders[query.id] = [id for _, id in sorted(scored, key=lambda pair: -pair[0])]
        return self._quality(self._figures(orders))

    def _quality(self, found: Mapping[str, float]) -> Quality:
        return Quality(ndcg=found[MEASURE], top3=found[TOP_3], lift=found[TOP_3] - self._incoming[TOP_3])

    def _figures(self, orders: Mapping[str, Sequence[str]]) -> dict[str, float]:
        by_query = per_query(self._judged, orders, (MEASURE, TOP_3))
        return {name: sum(values.values()) / len(values) for name, values in by_query.items()}


def _telling(example: Example) -> bool:
    return len({(passage.grade or 0) > 0 for passage in example.passages}) == 2


def _query(number: int, example: Example) -> JudgedQuery:
    grades = {}
    for position, passage in enumerate(example.passages):
        if passage.grade is None:
            continue
        if passage.grade != int(passage.grade):
            raise InputError(f"validation query {example.query!r}: grade {passage.grade} is no whole number")
        grades[str(position)] = int(passage.grade)
    candidates = tuple(Candidate(id=str(i), text=passage.text) for i, passage in enumerate(example.passages))
    return JudgedQuery(id=str(number), text=example.query, candidates=candidates, grades=grades)
