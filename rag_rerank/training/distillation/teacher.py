"""Ask a teacher for scores: estimated before, stored answer by answer, never paid twice."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

from rag_rerank.base import Reranker
from rag_rerank.config import to_config
from rag_rerank.errors import BackendError, ConfigError, CostExceeded, InputError
from rag_rerank.evaluation import JudgedQuery
from rag_rerank.evaluation.answer_store import AnswerStore, Key, request_key
from rag_rerank.evaluation.data.judged import Problems
from rag_rerank.evaluation.runner import QueryAnswer, QueryRunner
from rag_rerank.records.record import Record
from rag_rerank.trace import Usage
from rag_rerank.training.data.examples import Example, Examples, Passage, Source

__all__ = ["CostLimitedStore", "Teacher", "TeacherEstimate", "TeacherScores"]


@dataclass
class CostLimitedStore(AnswerStore):
    """A teacher's answers, counted as they are found or come.

    Those of a substitute are on another scale, so they are not found again but asked for anew.

    Attributes:
        usage: What all answers cost.
        answered: Hashes of the queries that the teacher itself answered.
    """

    usage: Usage = field(default_factory=Usage, init=False)
    answered: set[str] = field(default_factory=set, init=False)
    _reserved: dict[str, float] = field(default_factory=dict, init=False)
    _reckoned: float = field(default=0.0, init=False)
    _charged: float = field(default=0.0, init=False)
    _counting: Lock = field(default_factory=Lock, init=False)

    def records(self, wanted: Container[Key]) -> Iterator[tuple[Key, Record]]:
        """Yield the records of wanted questions that the teacher itself answered."""
        for key, record in super().records(wanted):
            self._count(record)
            if not record.substituted:
                yield key, record

    def keep(self, record: Record) -> None:
        """Append a record, and count it."""
        super().keep(record)
        with self._counting:
            reckoned = self._reserved.pop(record.tags["query_id"], 0.0)
            if record.error is None:
                self._reckoned += reckoned
                self._charged += record.usage.cost or 0.0
            self._count(record)

    def reserve(self, query: str, cost: float, ceiling: float) -> None:
        """Set money aside for a question, until its answer is kept.

        Where answers have turned out dearer than their estimates, the estimates grow by the same factor.

        Args:
            query: Its id.
            cost: What it will cost by estimate, in US dollars.
            ceiling: What all answers together may cost.

        Raises:
            CostExceeded: There is not enough left.
        """
        with self._counting:
            dearer = max(1.0, self._charged / self._reckoned) if self._reckoned else 1.0
            spent = self.usage.cost or 0.0
            if spent + (sum(self._reserved.values()) + cost) * dearer > ceiling * (1 + 1e-9):
                raise CostExceeded(
                    f"the next answer would pass the ceiling of ${ceiling:.4g}: ${spent:.4g} is spent, and answers "
                    f"cost {dearer:.3g} times their estimate; raise the ceiling, or ask fewer pairs (max_pairs)"
                )
            self._reserved[query] = cost

    def _count(self, record: Record) -> None:
        self.usage += record.usage
        if record.error is None and not record.substituted:
            self.answered.add(record.query_sha256)


@dataclass(frozen=True, kw_only=True)
class TeacherEstimate:
    """What asking a teacher will cost, told before anything is sent.

    Args:
        teacher: Its label.
        queries: How many queries there are.
        pairs: How many (query, passage) pairs.
        answered: How many of the queries it answered before, which costs nothing now.
        paid: US dollars that those answers cost.
        ahead: What the other queries will cost: texts, requests, tokens, search units, money; our estimates.
        unpriced: Labels of providers that would be asked and whose price is not known.
    """

    teacher: str
    queries: int
    pairs: int
    answered: int
    paid: float
    ahead: Usage
    unpriced: tuple[str, ...]

    @property
    def cost(self) -> float:
        """US dollars in all, those paid before included, as far as prices are known."""
        return self.paid + (self.ahead.cost or 0.0)

    def __str__(self) -> str:
        """Say it in words, one thing a sentence."""
        said = [f"{self.teacher} scores {self.pairs:,} pairs of {self.queries:,} queries"]
        if self.answered:
            said.append(f"{self.answered:,} queries were answered before, for ${self.paid:.4g}")
        ahead = self.ahead
        counts = (
            *((ahead.texts, "texts"), (ahead.requests, "requests")),
            *((ahead.tokens, "tokens"), (ahead.search_units, "search units")),
        )
        rest = [f"{count:,.0f} {name}" for count, name in counts if count]
        if rest:
            said.append(f"ahead by estimate: {', '.join(rest)}")
        if ahead.cost is not None:
            said.append(f"by known prices ${ahead.cost:.4g}, so ${self.cost:.4g} in all")
        elif not self.unpriced:
            said.append("no provider is asked, so it costs no money")
        if self.unpriced:
            said.append(f"the price of {', '.join(self.unpriced)} is not known here")
        return "; ".join(said)


@dataclass(frozen=True, kw_only=True)
class TeacherScores:
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
class Teacher:
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

    def estimate(self) -> TeacherEstimate:
        """Return what asking will cost; nothing is loaded and nothing is sent.

        Raises:
            AuthenticationError: A provider would be asked, and there is no key for it.
            CostExceeded: It would cost more than the ceiling.
            ConfigError: See the class; or the records cannot be read.
        """
        with self._kept() as kept:
            wanted = {request_key(question.text, question.candidates): question for question in self.questions}
            found = {key for key, _ in kept.records(wanted)}
        missing = [question for key, question in wanted.items() if key not in found]
        estimate = TeacherEstimate(
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

    def ask(self, source: Source, told: Callable[[int], None] = lambda done: None) -> TeacherScores:
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
            asking = QueryRunner(self.teacher, self.questions, _DEEP, kept, self.workers, told, self._affordable(kept))
            try:
                answers = asking.answers()
            except BackendError as error:
                raise self._stopped(error, len(kept.answered)) from error
        problems = Problems()
        examples = [example for answer in answers if (example := self._example(answer, source.name, problems))]
        if not examples:
            raise InputError(f"{self.teacher.label} scored nothing to learn from; {problems.summary()}")
        read = Examples(examples=tuple(examples), sources=(source,), problems=problems.as_tuple())
        return TeacherScores(examples=read, teacher=self._identity(), usage=kept.usage)

    def _kept(self) -> CostLimitedStore:
        kept = CostLimitedStore.under(self.records, self.teacher, _DEEP)
        if kept.file is None:
            raise ConfigError(
                f"{self.teacher.label} holds what no config can express, so that its answers could not be found again, "
                "and would be paid twice; give it as a config",
                path="teacher",
            )
        return kept

    def _estimate(self, question: JudgedQuery) -> Usage:
        return self.teacher.estimate(question.text, [candidate.text for candidate in question.candidates])

    def _affordable(self, kept: CostLimitedStore) -> Callable[[JudgedQuery], None]:
        """Return what lets a question be asked, unless that would pass the ceiling."""

        def admit(question: JudgedQuery) -> None:
            if self.ceiling is not None:
                kept.reserve(question.id, self._estimate(question).cost or 0.0, self.ceiling)

        return admit

    def _unpriced(self, reranker: Reranker, question: JudgedQuery) -> Iterator[str]:
        """Yield the rerankers that would send a request at a price nobody knows."""
        for part in reranker.children:
            yield from self._unpriced(part, question)
        if not reranker.children:
            told = reranker.estimate(question.text, [candidate.text for candidate in question.candidates])
            if told.requests and told.cost is None:
                yield reranker.label

    def _example(self, answer: QueryAnswer, source: str, problems: Problems) -> Example | None:
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
