"""Validate a model on held-out examples, with the measures of the evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rag_rerank.errors import InputError
from rag_rerank.evaluation import Judged, JudgedQuery
from rag_rerank.evaluation.data.first_stage import bm25
from rag_rerank.evaluation.data.judged import Problems, fingerprint, validated
from rag_rerank.evaluation.measures import TOP_3, per_query
from rag_rerank.records.record import digest
from rag_rerank.training.data.examples import Example, Examples
from rag_rerank.types import Candidate

__all__ = ["MEASURE", "Quality", "Validation", "first_stage_of"]

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
    """Judged queries that are not trained on, with their candidates in the incoming order.

    Every judged query counts, and what is not judged counts as not relevant, as in `rag_rerank.evaluation`.

    Args:
        given: Judged queries, or examples, whose passages stand in the incoming order and have whole grades.

    Raises:
        InputError: No query has a relevant candidate beside another one, or a grade is no whole number.
        MissingExtraError: ir-measures is not installed.
    """

    def __init__(self, given: Judged | Examples) -> None:
        self._judged = given if isinstance(given, Judged) else _judged(given)
        if not any(_telling(query, self._judged.relevant) for query in self._judged.queries):
            raise InputError(
                "nothing to validate on: no query has a relevant passage beside one that is not relevant; give judged "
                "queries with their candidates"
            )
        self._pairs = [(query.text, found.text) for query in self._judged.queries for found in query.candidates]
        self._incoming = self._figures({query.id: [c.id for c in query.candidates] for query in self._judged.queries})
        self.name = self._judged.name
        self.fingerprint = fingerprint(self._judged.queries, self._judged.relevant)
        self.queries = len(self._judged.queries)

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


def _telling(query: JudgedQuery, relevant: int) -> bool:
    return len({query.grades.get(candidate.id, 0) >= relevant for candidate in query.candidates}) == 2


def _judged(examples: Examples) -> Judged:
    queries = tuple(_query(i, example) for i, example in enumerate(examples.examples))
    return Judged(name="held-out queries", queries=tuple(query for query in queries if query.grades))


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


def first_stage_of(examples: Examples, *, among: Examples | None = None, depth: int) -> Judged:
    """Return judged queries whose candidates BM25 finds among the passages of all examples.

    The order in which examples hold their passages says nothing, since the relevant ones come first; so it is no order
    that a reranker could be compared with.

    Args:
        examples: What was held out.
        among: Further examples, whose passages are searched too: of the training, where both sides share a corpus.
        depth: Candidates of a query at most.

    Raises:
        InputError: A grade is no whole number, or nothing is relevant.
    """
    every = (*examples.examples, *(among.examples if among else ()))
    corpus = {digest(passage.text): passage.text for example in every for passage in example.passages}
    problems = Problems()
    texts = {str(i): example.query for i, example in enumerate(examples.examples)}
    run = bm25(corpus.items(), texts, depth, problems)
    queries = []
    for i, example in enumerate(examples.examples):
        grades = {}
        for passage in example.passages:
            if passage.grade is None:
                continue
            if passage.grade != int(passage.grade):
                raise InputError(f"held-out query {example.query!r}: grade {passage.grade} is no whole number")
            grades[digest(passage.text)] = int(passage.grade)
        candidates = tuple(Candidate(id=id, text=corpus[id], score=score) for id, score, _ in run.best(str(i), depth))
        if grades:
            queries.append(JudgedQuery(id=str(i), text=example.query, candidates=candidates, grades=grades))
    return validated("held-out queries", queries, 1, ("candidates: BM25 over the passages of the examples",), problems)
