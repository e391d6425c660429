"""Held-out examples as an evaluation: queries whose candidates a first stage found, in its order."""

from __future__ import annotations

from rag_rerank.errors import InputError
from rag_rerank.evaluation import Judged, JudgedQuery
from rag_rerank.evaluation.data._first_stage import bm25
from rag_rerank.evaluation.data._problems import Problems
from rag_rerank.evaluation.data._sealing import sealed
from rag_rerank.records.record import digest
from rag_rerank.training.examples import Examples
from rag_rerank.types import Candidate

__all__ = ["searched"]


def searched(examples: Examples, *, among: Examples | None = None, depth: int) -> Judged:
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
    return sealed("held-out queries", queries, 1, ("candidates: BM25 over the passages of the examples",), problems)
