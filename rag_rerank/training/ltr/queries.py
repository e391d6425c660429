"""Judged queries as rows of features with grades, and their split by query."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from random import Random

from rag_rerank.base import Reranker
from rag_rerank.compose.ltr.features import Features
from rag_rerank.errors import ConfigError, InputError
from rag_rerank.evaluation.answer_store import AnswerStore
from rag_rerank.evaluation.data.judged import Judged, JudgedQuery, fingerprint
from rag_rerank.evaluation.runner import QueryAnswer, QueryRunner
from rag_rerank.training.data.examples import Example, Examples, Passage, Source
from rag_rerank.training.data.passages import text_key
from rag_rerank.training.data.split import split

__all__ = ["QueryRows", "answers_of", "fold_numbers", "hold_out", "join_collections", "rows_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryRows:
    """The features and grades of one query's candidates.

    Args:
        query: The query.
        where: Positions of the candidates with a row.
        rows: The features of each.
        grades: The grade of each, at least 0; without a judgment 0, as in nDCG.
        notes: What of the metadata could not be read.
    """

    query: JudgedQuery
    where: Sequence[int]
    rows: Sequence[Sequence[float]]
    grades: Sequence[int]
    notes: tuple[str, ...] = ()

    @property
    def teaches(self) -> bool:
        """Whether two candidates differ in their grade, so that there is an order to learn."""
        return len(set(self.grades)) > 1


def join_collections(collections: Sequence[Judged]) -> Judged:
    """Return the queries of all collections as one, with ids that tell them apart.

    Raises:
        InputError: There is no collection, or they differ in the lowest grade of a relevant document.
    """
    if not collections:
        raise InputError("there are no judged queries to train on")
    if len(collections) == 1:
        return collections[0]
    if len({judged.relevant for judged in collections}) > 1:
        raise InputError("the collections differ in the lowest relevant grade; read all with the same one")
    queries = tuple(
        replace(query, id=f"{i}/{query.id}") for i, judged in enumerate(collections) for query in judged.queries
    )
    relevant = collections[0].relevant
    return Judged(
        name=" + ".join(judged.name for judged in collections),
        queries=queries,
        relevant=relevant,
        problems=tuple(problem for judged in collections for problem in judged.problems),
        sources=tuple(source for judged in collections for source in judged.sources),
        fingerprint=fingerprint(queries, relevant),
    )


def answers_of(
    reranker: Reranker,
    queries: Sequence[JudgedQuery],
    depth: int,
    records: str | None,
    workers: int,
    progress: Callable[[int], None],
) -> list[dict[str, float] | None]:
    """Return a reranker's raw score by candidate id, for each query; ``None`` where another reranker answered.

    Raises:
        ConfigError: The reranker failed on a query: a model that is trained on gaps learns the gaps.
        RerankError: Whatever would fail on every query.
    """
    with AnswerStore.under(records, reranker, depth) as store:
        answers = QueryRunner(reranker, queries, depth, store, workers, progress).answers()
    if failed := [answer for answer in answers if answer.error is not None]:
        raise ConfigError(
            f"{reranker.label} failed on {len(failed)} of {len(queries)} queries, such as {failed[0].query.id!r}: "
            f"{failed[0].error}; run the training again with records, which keep the other answers"
        )
    return [_raw_scores(answer, reranker) for answer in answers]


def _raw_scores(answer: QueryAnswer, reranker: Reranker) -> dict[str, float] | None:
    if answer.substituted or (answer.scale is not None and answer.scale != reranker.scale):
        return None
    return {id: raw for id, raw in answer.by_id(answer.raw).items() if raw is not None} if answer.scale else {}


def rows_of(
    features: Features,
    query: JudgedQuery,
    answers: Sequence[Mapping[str, float] | None],
    depth: int,
    now: datetime,
) -> QueryRows:
    """Return the features and grades of the first ``depth`` candidates of a query."""
    table = features.table(query.text, query.candidates[:depth], answers, now)
    grades = [max(0, query.grades.get(query.candidates[i].id, 0)) for i in table.where]
    return QueryRows(query=query, where=table.where, rows=table.rows, grades=grades, notes=table.notes)


def hold_out(queries: Sequence[QueryRows], share: float, seed: int) -> tuple[list[QueryRows], list[QueryRows]]:
    """Return the queries to train on and those to stop by; the same words are never in both.

    Raises:
        InputError: One side would be empty.
    """
    source = Source(name="judged", licence=None, path="", sha256="", queries=len(queries), pairs=0)
    examples = tuple(
        Example(
            query=one.query.text,
            passages=(Passage(text="", id=one.query.id, grade=None, origin="judged"),),
            source=source.name,
            id=str(i),
        )
        for i, one in enumerate(queries)
    )
    sides = split(Examples(examples=examples, sources=(source,)), share=share, seed=seed, shared_corpus=True)
    training, validation = ([queries[int(example.id or 0)] for example in side.examples] for side in sides)
    return training, validation


def fold_numbers(queries: Sequence[JudgedQuery], folds: int, seed: int) -> list[int]:
    """Return the number of the fold of each query; queries with the same words are in one fold."""
    keys = [text_key(query.text) for query in queries]
    order = list(dict.fromkeys(keys))
    Random(seed).shuffle(order)
    number_of = {key: i % folds for i, key in enumerate(order)}
    return [number_of[key] for key in keys]
