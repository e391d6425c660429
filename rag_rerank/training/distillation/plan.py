"""The plan of a distillation, made before the teacher is called."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rag_rerank.base import Reranker
from rag_rerank.errors import ConfigError, InputError
from rag_rerank.evaluation import JudgedQuery
from rag_rerank.training.data.examples import Example, Examples, Source
from rag_rerank.training.data.split import split
from rag_rerank.training.distillation.corpus import Corpus, read_questions
from rag_rerank.training.distillation.pseudo_queries import Queries, make_pseudo_queries, own_queries
from rag_rerank.training.distillation.student import Student
from rag_rerank.training.distillation.targets import default_loss
from rag_rerank.training.distillation.teacher import TeacherEstimate
from rag_rerank.training.settings import TrainingSettings

__all__ = [
    "Plan",
    "QuerySource",
    "check_question_count",
    "default_settings",
    "limit_pairs",
    "load_queries",
    "source_of",
]

QuerySource = str | os.PathLike[str] | Sequence[str] | None
"""A file of queries, the queries themselves, or none."""

_RATES = {False: 5e-5, True: 5e-4}
"""Learning rate of a student with layers of its base, the largest that BERT is fine-tuned with, and of a random one,
which has everything to learn."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a distillation will do.

    Args:
        corpus: The passages.
        queries: All queries; the teacher gets the first ``question_count`` of them.
        question_count: Number of queries for the teacher: all, or as many as ``max_pairs`` allows.
        estimate: The cost of its answers.
        student: The student.
        settings: The settings of its training.
    """

    corpus: Corpus
    queries: Queries
    question_count: int
    estimate: TeacherEstimate
    student: Student
    settings: TrainingSettings


def default_settings(teacher: Reranker, student: Student, depth: int) -> TrainingSettings:
    """Return the default settings for a student's training.

    The loss fits the teacher's scale (`targets.default_loss`), the learning rate is 5e-5, or 5e-4 for random weights,
    and all passages of a query are in one step.
    """
    return TrainingSettings(loss=default_loss(teacher.scale), learning_rate=_RATES[student.random], passages=depth)


def load_queries(corpus: Corpus, source: QuerySource, seed: int, note: Callable[[str], None]) -> Queries:
    """Return a user's queries, or pseudo-queries if there are none.

    Raises:
        InputError: There are no queries.
    """
    if source is None:
        queries = make_pseudo_queries(corpus.documents, seed=seed)
        if not queries.queries:
            raise InputError(f"no pseudo-query can be made from {corpus.path} ({dict(queries.left_out)}); give queries")
        return queries
    if not isinstance(source, (str, os.PathLike)):
        return own_queries(source, seed=seed)
    texts, problems = read_questions(source)
    for problem in problems:
        note(str(problem))
    return own_queries(texts, seed=seed)


def limit_pairs(questions: list[JudgedQuery], max_pairs: int | None) -> list[JudgedQuery]:
    """Return as many of the first questions as have at most ``max_pairs`` pairs together.

    Raises:
        ConfigError: The first one has more.
    """
    if max_pairs is None:
        return questions
    pairs = 0
    for count, question in enumerate(questions):
        pairs += len(question.candidates)
        if pairs > max_pairs:
            if count == 0:
                raise ConfigError(f"{max_pairs} pairs are fewer than those of one query", path="max_pairs")
            return questions[:count]
    return questions


def check_question_count(questions: Sequence[JudgedQuery], share: float, seed: int) -> None:
    """Raise an error unless some queries can be held out and others trained on; call it before paying the teacher.

    Raises:
        InputError: There are too few.
    """
    examples = tuple(Example(query=question.text, passages=(), source="") for question in questions)
    try:
        split(Examples(examples=examples, sources=()), share=share, seed=seed, shared_corpus=True)
    except InputError as error:
        raise InputError(
            f"{len(questions)} queries are too few to hold out {share:.0%} of them: give more queries, passages or "
            "pairs (max_pairs)"
        ) from error


def source_of(corpus: Corpus, questions: Sequence[JudgedQuery]) -> Source:
    """Return the source of the examples, for the model card."""
    return Source(
        name=corpus.name,
        licence=corpus.licence,
        path=corpus.path,
        sha256=corpus.sha256,
        queries=len(questions),
        pairs=sum(len(question.candidates) for question in questions),
    )
