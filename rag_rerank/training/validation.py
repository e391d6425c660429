"""Validate a model on held-out queries, with the measures of the evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rag_rerank.errors import InputError
from rag_rerank.evaluation import Judged, JudgedQuery
from rag_rerank.evaluation.data.first_stage import bm25
from rag_rerank.evaluation.data.judged import Problems, fingerprint, validate
from rag_rerank.evaluation.measures import TOP_3, per_query
from rag_rerank.records.record import digest
from rag_rerank.training.data.examples import Example, Examples
from rag_rerank.types import Candidate

__all__ = ["MEASURE", "VALIDATION_BATCH", "Quality", "Validation", "held_out_queries"]

MEASURE = "nDCG@10"
"""The measure by which the best step is chosen."""

VALIDATION_BATCH = 64
"""Pairs in one batch of a validation; it changes time and memory only."""

_NAME = "held-out queries"


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

    Every judged query counts, and a candidate without a judgment counts as not relevant, as in `rag_rerank.evaluation`.

    Args:
        data: Judged queries, or examples with whole grades, whose passages are in the incoming order.

    Raises:
        InputError: No query has a relevant candidate beside another one, or a grade is not a whole number.
        MissingExtraError: ir-measures is not installed.
    """

    def __init__(self, data: Judged | Examples) -> None:
        self._judged = data if isinstance(data, Judged) else _judged_examples(data)
        if not any(_has_both_classes(query, self._judged.relevant) for query in self._judged.queries):
            raise InputError(
                "nothing to validate on: no query has a relevant passage beside one that is not relevant; give judged "
                "queries with their candidates"
            )
        self._pairs = [(query.text, candidate.text) for query in self._judged.queries for candidate in query.candidates]
        self._incoming = self._means({query.id: [c.id for c in query.candidates] for query in self._judged.queries})
        self.name = self._judged.name
        self.fingerprint = fingerprint(self._judged.queries, self._judged.relevant)
        self.queries = len(self._judged.queries)

    @property
    def incoming(self) -> Quality:
        """Quality of the incoming order."""
        return self._quality(self._incoming)

    def quality(self, model: Any, *, batch: int) -> Quality:
        """Return the quality of a model's order; equal logits keep the incoming order."""
        import torch

        logits = model.predict(
            self._pairs, batch_size=batch, show_progress_bar=False, activation_fn=torch.nn.Identity()
        ).tolist()
        scores = iter(logits)
        orders = {}
        for query in self._judged.queries:
            scored = [(next(scores), candidate.id) for candidate in query.candidates]
            orders[query.id] = [id for _, id in sorted(scored, key=lambda pair: -pair[0])]
        return self._quality(self._means(orders))

    def _quality(self, means: Mapping[str, float]) -> Quality:
        return Quality(ndcg=means[MEASURE], top3=means[TOP_3], lift=means[TOP_3] - self._incoming[TOP_3])

    def _means(self, orders: Mapping[str, Sequence[str]]) -> dict[str, float]:
        by_query = per_query(self._judged, orders, (MEASURE, TOP_3))
        return {name: sum(values.values()) / len(values) for name, values in by_query.items()}


def held_out_queries(examples: Examples, *, among: Examples | None = None, depth: int) -> Judged:
    """Return examples as judged queries whose candidates BM25 finds among the passages of all examples.

    Examples hold their relevant passages first, so their own order is no baseline for a reranker; BM25's is.

    Args:
        examples: The held-out examples.
        among: Further examples whose passages are searched too: those of the training, if both share a corpus.
        depth: Maximum number of candidates per query.

    Raises:
        InputError: A grade is not a whole number, or nothing is relevant.
    """
    searched = (*examples.examples, *(among.examples if among else ()))
    corpus = {digest(passage.text): passage.text for example in searched for passage in example.passages}
    problems = Problems()
    texts = {str(i): example.query for i, example in enumerate(examples.examples)}
    run = bm25(corpus.items(), texts, depth, problems)
    queries = []
    for id, example in zip(texts, examples.examples, strict=True):
        hits = run.best(id, depth)
        candidates = tuple(Candidate(id=document, text=corpus[document], score=score) for document, score, _ in hits)
        queries += _judged_query(id, example, [digest(passage.text) for passage in example.passages], candidates)
    return validate(_NAME, queries, 1, ("candidates: BM25 over the passages of the examples",), problems)


def _judged_examples(examples: Examples) -> Judged:
    """Return examples as judged queries whose candidates are their own passages, in their order."""
    queries = []
    for number, example in enumerate(examples.examples):
        candidates = tuple(Candidate(id=str(i), text=passage.text) for i, passage in enumerate(example.passages))
        queries += _judged_query(str(number), example, [candidate.id for candidate in candidates], candidates)
    return Judged(name=_NAME, queries=tuple(queries))


def _judged_query(
    id: str, example: Example, passage_ids: Sequence[str], candidates: tuple[Candidate, ...]
) -> list[JudgedQuery]:
    """Return the query of an example with its grades; nothing if no passage has one."""
    grades = {}
    for passage_id, passage in zip(passage_ids, example.passages, strict=True):
        if passage.grade is None:
            continue
        if passage.grade != int(passage.grade):
            raise InputError(f"held-out query {example.query!r}: grade {passage.grade} is not a whole number")
        grades[passage_id] = int(passage.grade)
    return [JudgedQuery(id=id, text=example.query, candidates=candidates, grades=grades)] if grades else []


def _has_both_classes(query: JudgedQuery, relevant: int) -> bool:
    return len({query.grades.get(candidate.id, 0) >= relevant for candidate in query.candidates}) == 2
