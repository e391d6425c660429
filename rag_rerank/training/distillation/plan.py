"""What a distillation will do, told before anything is asked."""

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
from rag_rerank.training.distillation.pseudo_queries import Queries, own, pseudo
from rag_rerank.training.distillation.student import Student
from rag_rerank.training.distillation.targets import loss_for
from rag_rerank.training.distillation.teacher import TeacherEstimate
from rag_rerank.training.settings import TrainingSettings

__all__ = ["Plan", "QuerySource", "check_enough", "first_questions", "queries_for", "settings_for", "source_of"]

QuerySource = str | os.PathLike[str] | Sequence[str] | None
"""A file of queries, the queries, or none."""

_RATES = {False: 5e-5, True: 5e-4}
"""Step size for a student with layers of its base, the largest that BERT is fine-tuned with, and for a random one,
which has everything to learn."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a distillation will do.

    Args:
        corpus: The passages.
        queries: What the teacher can be asked with.
        asked: How many of the queries it is asked with: all, or as many as ``max_pairs`` allows.
        estimate: What that costs.
        student: What is to learn.
        settings: How.
    """

    corpus: Corpus
    queries: Queries
    asked: int
    estimate: TeacherEstimate
    student: Student
    settings: TrainingSettings


def settings_for(teacher: Reranker, student: Student, depth: int) -> TrainingSettings:
    """Return how a student is trained unless a user says otherwise.

    The loss fits the teacher's scale (`imitating.loss_for`), the step size is 5e-5, or 5e-4 for random weights, and all
    passages of a query are in one step.
    """
    return TrainingSettings(loss=loss_for(teacher.scale), learning_rate=_RATES[student.random], passages=depth)


def queries_for(corpus: Corpus, given: QuerySource, seed: int, note: Callable[[str], None]) -> Queries:
    """Return a user's queries, or pseudo-queries where there are none.

    Raises:
        InputError: There are no queries.
    """
    if given is None:
        found = pseudo(corpus.documents, seed=seed)
        if not found.queries:
            raise InputError(f"no pseudo-query can be made from {corpus.path} ({dict(found.left_out)}); give queries")
        return found
    if not isinstance(given, (str, os.PathLike)):
        return own(given, seed=seed)
    texts, problems = read_questions(given)
    for problem in problems:
        note(str(problem))
    return own(texts, seed=seed)


def first_questions(questions: list[JudgedQuery], max_pairs: int | None) -> list[JudgedQuery]:
    """Return the first questions, as many as have no more pairs than that together.

    Raises:
        ConfigError: That is none.
    """
    if max_pairs is None:
        return questions
    pairs, kept = 0, list[JudgedQuery]()
    for question in questions:
        pairs += len(question.candidates)
        if pairs > max_pairs:
            break
        kept.append(question)
    if not kept:
        raise ConfigError(f"{max_pairs} pairs are fewer than those of one query", path="max_pairs")
    return kept


def check_enough(questions: Sequence[JudgedQuery], share: float, seed: int) -> None:
    """Find out before a teacher is paid, not after it, that some queries can be held out and others learnt from.

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
    """Return where the examples come from, as the model card tells it."""
    return Source(
        name=corpus.name,
        licence=corpus.licence,
        path=corpus.path,
        sha256=corpus.sha256,
        queries=len(questions),
        pairs=sum(len(question.candidates) for question in questions),
    )
