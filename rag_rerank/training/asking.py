"""Asking a teacher: priced before it is begun, kept answer by answer, never paid twice."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rag_rerank.base import Reranker
from rag_rerank.config import to_config
from rag_rerank.errors import BackendError, ConfigError, CostExceeded, InputError
from rag_rerank.evaluation import JudgedQuery
from rag_rerank.evaluation._answers import Answer
from rag_rerank.evaluation._asking import Asking
from rag_rerank.evaluation._keeping import asked
from rag_rerank.evaluation.data._problems import Problems
from rag_rerank.trace import Usage
from rag_rerank.training._purse import Purse
from rag_rerank.training.estimate import Estimate
from rag_rerank.training.examples import Example, Examples, Passage, Source

__all__ = ["Taught", "Teaching"]


@dataclass(frozen=True, kw_only=True)
class Taught:
    """What a teacher said.

    Args:
        examples: Queries with passages that have its raw score; what was left out stands under ``problems``.
        teacher: Who it is, for run record and card: label, kind, config without keys, scale, and a hash of all that
            decides its scores.
        usage: What all answers cost, those of earlier runs included.
    """

    examples: Examples
    teacher: Mapping[str, Any]
    usage: Usage


@dataclass(frozen=True, kw_only=True)
class Teaching:
    """A teacher and the questions that it is to be asked.

    Args:
        teacher: Any reranker; that of a config, so that its answers can be told from those of others.
        questions: What it is asked; see `proposing.proposed`.
        records: Folder in which every answer is kept as it comes, as `rag_rerank.evaluation.evaluate` keeps its own.
        ceiling: US dollars that all answers together may cost, those of earlier runs included.
        workers: Questions asked at a time; more than one is for providers.

    Raises:
        ConfigError: The teacher has no config, so that its answers could not be found again; or there is a ceiling, and
            the price of a provider is not known.
    """

    teacher: Reranker
    questions: Sequence[JudgedQuery]
    records: str | os.PathLike[str]
    ceiling: float | None = None
    workers: int = 1

    def estimate(self) -> Estimate:
        """Return what asking will cost; nothing is loaded and nothing is sent.

        Raises:
            AuthenticationError: A provider would be asked, and there is no key for it.
            CostExceeded: It would cost more than the ceiling.
            ConfigError: See the class; or the records cannot be read.
        """
        with self._kept() as kept:
            wanted = {asked(question.text, question.candidates): question for question in self.questions}
            found = {key for key, _ in kept.records(wanted)}
        missing = [question for key, question in wanted.items() if key not in found]
        estimate = Estimate(
            teacher=self.teacher.label,
            queries=len(self.questions),
            pairs=sum(len(question.candidates) for question in self.questions),
            answered=len(found),
            paid=kept.usage.cost or 0.0,
            ahead=Usage.total(map(self._estimate, missing)),
            unpriced=tuple(dict.fromkeys(self._unpriced(self.teacher, missing[0]))) if missing else (),
        )
        if self.ceiling is not None and estimate.unpriced:
            raise ConfigError(
                f"a ceiling needs a price, and none is known for {', '.join(estimate.unpriced)}; give 'price' in its "
                "config",
                path="ceiling",
            )
        if self.ceiling is not None and estimate.cost > self.ceiling * (1 + 1e-9):
            raise CostExceeded(
                f"nothing was asked: {estimate}, and the ceiling is ${self.ceiling:.4g}; raise it, or ask fewer pairs "
                "(max_pairs)"
            )
        return estimate

    def ask(self, source: Source, told: Callable[[int], None] = lambda done: None) -> Taught:
        """Ask what is not answered yet, and return all answers.

        A question on which the teacher fails is left out and counted, and asked again by the next run. A text without
        a score (a blank one) is left out of its question.

        Args:
            source: Where the passages come from.
            told: Is told how many questions are answered.

        Raises:
            CostExceeded: The next answer would pass the ceiling, since reality is dearer than the estimate.
            AuthenticationError: The provider does not accept the key; so does any other error of the teacher that would
                come of every question, or that came of ten in a row. The message says how many answers are kept.
            InputError: No question was answered by the teacher itself.
        """
        with self._kept() as kept:
            asking = Asking(self.teacher, self.questions, _DEEP, kept, self.workers, told, self._affordable(kept))
            try:
                answers = asking.answers()
            except BackendError as error:
                raise self._stopped(error, len(kept.answered)) from error
        problems = Problems()
        examples = [example for answer in answers if (example := self._example(answer, source.name, problems))]
        if not examples:
            raise InputError(f"{self.teacher.label} scored nothing to learn from; {problems.told()}")
        read = Examples(examples=tuple(examples), sources=(source,), problems=problems.listed())
        return Taught(examples=read, teacher=self._identity(), usage=kept.usage)

    def _kept(self) -> Purse:
        kept = Purse.under(self.records, self.teacher, _DEEP)
        if kept.file is None:
            raise ConfigError(
                f"{self.teacher.label} holds what no config can express, so that its answers could not be found again, "
                "and would be paid twice; give it as a config",
                path="teacher",
            )
        return kept

    def _estimate(self, question: JudgedQuery) -> Usage:
        return self.teacher.estimate(question.text, [candidate.text for candidate in question.candidates])

    def _affordable(self, kept: Purse) -> Callable[[JudgedQuery], None]:
        """Return what lets a question be asked, unless that would pass the ceiling."""

        def admit(question: JudgedQuery) -> None:
            if self.ceiling is not None:
                kept.reserve(question.id, self._estimate(question).cost or 0.0, self.ceiling)

        return admit

    def _unpriced(self, reranker: Reranker, question: JudgedQuery) -> Iterator[str]:
        """Yield the rerankers that would send a request at a price nobody knows."""
        for part in reranker.parts:
            yield from self._unpriced(part, question)
        if not reranker.parts:
            told = reranker.estimate(question.text, [candidate.text for candidate in question.candidates])
            if told.requests and told.cost is None:
                yield reranker.label

    def _example(self, answer: Answer, source: str, problems: Problems) -> Example | None:
        place = f"query {answer.query.id[:12]}"
        if answer.error is not None:
            problems.note("queries on which the teacher failed, left out", f"{place}: {answer.error}")
        elif answer.substituted:
            why = "; ".join(answer.degraded)
            problems.note("queries that another reranker answered for the teacher, left out", f"{place}: {why}")
        elif answer.scale != self.teacher.scale:
            why = f"{place}: {answer.scale!r}, not {self.teacher.scale!r}"
            problems.note("queries answered on another scale than the teacher's, left out", why)
        else:
            passages = []
            for candidate, score in zip(answer.query.candidates, answer.raw, strict=True):
                if score is None:
                    problems.note("passages that the teacher gave no score, left out", f"{place}: {candidate.id!r}")
                    continue
                origin = candidate.metadata["origin"]
                passages.append(Passage(text=candidate.text, id=candidate.id, grade=None, teacher=score, origin=origin))
            if len({passage.teacher for passage in passages}) > 1:
                return Example(query=answer.query.text, passages=tuple(passages), source=source)
            problems.note("queries whose passages all have one score, left out", place)
        return None

    def _identity(self) -> dict[str, Any]:
        try:
            config = to_config(self.teacher)
        except ConfigError:  # a class without a name in the registry, which its identity describes
            config = None
        teacher = self.teacher
        return {
            "label": teacher.label,
            "kind": teacher.kind,
            "scale": teacher.scale,
            "config": config,
            "identity": teacher.identity,
        }

    def _stopped(self, error: BackendError, answered: int) -> BackendError:
        """Return the same error, which also tells what is kept."""
        told = copy.copy(error)
        told.args = (
            f"{error}. {answered} of {len(self.questions)} queries are answered and kept in {self.records}; the same "
            "command goes on there, and asks only for the others",
        )
        return told


_DEEP = 1_000_000
"""All candidates of a question enter; it is cut before."""
