"""Ask a teacher for scores: the cost is estimated first, every answer is stored, and none is paid twice."""

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

_DEPTH = 1_000_000
"""All candidates of a question are scored; there are no more than the plan chose."""


@dataclass(frozen=True, kw_only=True)
class TeacherEstimate:
    """The estimated cost of a teacher's answers.

    Args:
        teacher: Its label.
        queries: Number of queries.
        pairs: Number of (query, passage) pairs.
        stored: Number of queries whose answers are stored, which cost nothing now.
        stored_cost: US dollars that those answers cost.
        ahead: Estimated usage of the other queries: texts, requests, tokens, search units, money.
        unpriced: Labels of providers that would be called and whose price is not known.
    """

    teacher: str
    queries: int
    pairs: int
    stored: int
    stored_cost: float
    ahead: Usage
    unpriced: tuple[str, ...]

    @property
    def cost(self) -> float:
        """US dollars in all, stored answers included, as far as prices are known."""
        return self.stored_cost + (self.ahead.cost or 0.0)

    def __str__(self) -> str:
        """Return one line."""
        parts = [f"{self.teacher} scores {self.pairs:,} pairs of {self.queries:,} queries"]
        if self.stored:
            parts.append(f"answers to {self.stored:,} queries are stored already, for ${self.stored_cost:.4g}")
        ahead = self.ahead
        counts = (
            *((ahead.texts, "texts"), (ahead.requests, "requests")),
            *((ahead.tokens, "tokens"), (ahead.search_units, "search units")),
        )
        rest = [f"{count:,.0f} {name}" for count, name in counts if count]
        if rest:
            parts.append(f"ahead by estimate: {', '.join(rest)}")
        if ahead.cost is not None:
            parts.append(f"by known prices ${ahead.cost:.4g}, so ${self.cost:.4g} in all")
        elif not self.unpriced:
            parts.append("no provider is asked, so it costs no money")
        if self.unpriced:
            parts.append(f"the price of {', '.join(self.unpriced)} is not known here")
        return "; ".join(parts)


@dataclass(frozen=True, kw_only=True)
class TeacherScores:
    """A teacher's scores.

    Args:
        examples: Queries with passages that have the teacher's raw score; ``problems`` counts what was left out.
        teacher: The teacher, for run record and card: label, kind, config without keys, scale, and a hash of all that
            decides its scores.
        usage: Usage of all answers, those of earlier runs included.
    """

    examples: Examples
    teacher: Mapping[str, Any]
    usage: Usage


@dataclass(frozen=True, kw_only=True)
class Teacher:
    """A teacher and its questions.

    Args:
        reranker: Any reranker that a config can express, so that its stored answers can be found again.
        questions: The queries with their passages; see `candidates.propose`.
        records: Folder of the stored answers, as `rag_rerank.evaluation.evaluate` stores its own.
        ceiling: US dollars that all answers together may cost, those of earlier runs included.
        workers: Questions asked at a time; use more than one for providers only.

    Raises:
        ConfigError: The teacher has no config; or there is a ceiling, and the price of a provider is not known.
    """

    reranker: Reranker
    questions: Sequence[JudgedQuery]
    records: str | os.PathLike[str]
    ceiling: float | None = None
    workers: int = 1

    def estimate(self) -> TeacherEstimate:
        """Return the estimated cost; nothing is loaded and nothing is sent.

        Raises:
            AuthenticationError: A provider would be called, and there is no key for it.
            CostExceeded: It would cost more than the ceiling.
            ConfigError: See the class; or the records cannot be read.
        """
        with self._store() as store:
            by_key = {request_key(question.text, question.candidates): question for question in self.questions}
            stored = {key for key, _ in store.records(by_key)}
        missing = [question for key, question in by_key.items() if key not in stored]
        estimate = TeacherEstimate(
            teacher=self.reranker.label,
            queries=len(self.questions),
            pairs=sum(len(question.candidates) for question in self.questions),
            stored=len(stored),
            stored_cost=store.usage.cost or 0.0,
            ahead=Usage.total(map(self._usage, missing)),
            unpriced=tuple(dict.fromkeys(self._unpriced_rerankers(self.reranker, missing[0]))) if missing else (),
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

    def ask(self, source: Source, progress: Callable[[int], None] = lambda count: None) -> TeacherScores:
        """Ask the questions whose answers are not stored, and return all answers.

        A question on which the teacher fails is left out and counted, and asked again by the next run. A text without
        a score (a blank one) is left out of its question.

        Args:
            source: Where the passages come from.
            progress: Called with the number of answers so far.

        Raises:
            CostExceeded: The next answer would pass the ceiling, since answers cost more than estimated.
            AuthenticationError: The provider does not accept the key. This and any other error that every question
                would raise, or that ten in a row have raised, ends the call; the message says how many answers are
                stored.
            InputError: The teacher itself answered no question.
        """
        with self._store() as store:
            runner = QueryRunner(
                self.reranker, self.questions, _DEPTH, store, self.workers, progress, self._reserve_cost(store)
            )
            try:
                answers = runner.answers()
            except BackendError as error:
                raise self._with_count(error, len(store.answer_hashes)) from error
        problems = Problems()
        examples = [example for answer in answers if (example := self._example(answer, source.name, problems))]
        if not examples:
            raise InputError(f"{self.reranker.label} scored nothing to learn from; {problems.summary()}")
        data = Examples(examples=tuple(examples), sources=(source,), problems=problems.as_tuple())
        return TeacherScores(examples=data, teacher=self._identity(), usage=store.usage)

    def _store(self) -> CostLimitedStore:
        store = CostLimitedStore.under(self.records, self.reranker, _DEPTH)
        if store.file is None:
            raise ConfigError(
                f"no config can express {self.reranker.label}, so its stored answers could not be found again, and "
                "would be paid twice; give it as a config",
                path="teacher",
            )
        return store

    def _usage(self, question: JudgedQuery) -> Usage:
        return self.reranker.estimate(question.text, [candidate.text for candidate in question.candidates])

    def _reserve_cost(self, store: CostLimitedStore) -> Callable[[JudgedQuery], None]:
        """Return a function that reserves the cost of a question, and raises if that would pass the ceiling."""

        def reserve(question: JudgedQuery) -> None:
            if self.ceiling is not None:
                store.reserve(question.id, self._usage(question).cost or 0.0, self.ceiling)

        return reserve

    def _unpriced_rerankers(self, reranker: Reranker, question: JudgedQuery) -> Iterator[str]:
        """Yield the rerankers that would send a request at an unknown price."""
        for part in reranker.children:
            yield from self._unpriced_rerankers(part, question)
        if not reranker.children:
            usage = reranker.estimate(question.text, [candidate.text for candidate in question.candidates])
            if usage.requests and usage.cost is None:
                yield reranker.label

    def _example(self, answer: QueryAnswer, source: str, problems: Problems) -> Example | None:
        place = f"query {answer.query.id[:12]}"
        if answer.error is not None:
            problems.note("queries on which the teacher failed, left out", f"{place}: {answer.error}")
        elif answer.substituted:
            why = "; ".join(answer.degraded)
            problems.note("queries that another reranker answered for the teacher, left out", f"{place}: {why}")
        elif answer.scale != self.reranker.scale:
            why = f"{place}: {answer.scale!r}, not {self.reranker.scale!r}"
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
        reranker = self.reranker
        try:
            config = to_config(reranker)
        except ConfigError:  # a class without a name in the registry; its identity describes it
            config = None
        return {
            "label": reranker.label,
            "kind": reranker.kind,
            "scale": reranker.scale,
            "config": config,
            "identity": reranker.identity,
        }

    def _with_count(self, error: BackendError, count: int) -> BackendError:
        """Return the same error; its message also says how many answers are stored."""
        extended = copy.copy(error)
        extended.args = (
            f"{error}. {count} of {len(self.questions)} queries are answered and stored in {self.records}; the same "
            "command resumes there, and asks only for the others",
        )
        return extended


@dataclass
class CostLimitedStore(AnswerStore):
    """A store of a teacher's answers that counts their cost.

    Answers of a substitute are on another scale; their questions are asked again.

    Attributes:
        usage: Usage of all answers.
        answer_hashes: Hashes of the queries that the teacher itself answered.
    """

    usage: Usage = field(default_factory=Usage, init=False)
    answer_hashes: set[str] = field(default_factory=set, init=False)
    _reserved: dict[str, float] = field(default_factory=dict, init=False)
    _estimated_cost: float = field(default=0.0, init=False)
    _actual_cost: float = field(default=0.0, init=False)
    _cost_lock: Lock = field(default_factory=Lock, init=False)

    def records(self, keys: Container[Key]) -> Iterator[tuple[Key, Record]]:
        """Yield the records of those questions that the teacher itself answered."""
        for key, record in super().records(keys):
            self._count(record)
            if not record.substituted:
                yield key, record

    def keep(self, record: Record) -> None:
        """Append a record, and count it."""
        super().keep(record)
        with self._cost_lock:
            estimate = self._reserved.pop(record.tags["query_id"], 0.0)
            if record.error is None:
                self._estimated_cost += estimate
                self._actual_cost += record.usage.cost or 0.0
            self._count(record)

    def reserve(self, query: str, cost: float, ceiling: float) -> None:
        """Reserve money for a question until its answer is stored.

        If answers have cost more than their estimates, the estimates grow by the same factor.

        Args:
            query: Its id.
            cost: Its estimated cost in US dollars.
            ceiling: US dollars that all answers together may cost.

        Raises:
            CostExceeded: There is not enough left.
        """
        with self._cost_lock:
            factor = max(1.0, self._actual_cost / self._estimated_cost) if self._estimated_cost else 1.0
            total = self.usage.cost or 0.0
            if total + (sum(self._reserved.values()) + cost) * factor > ceiling * (1 + 1e-9):
                raise CostExceeded(
                    f"the next answer would pass the ceiling of ${ceiling:.4g}: ${total:.4g} is spent, and answers "
                    f"cost {factor:.3g} times their estimate; raise the ceiling, or ask fewer pairs (max_pairs)"
                )
            self._reserved[query] = cost

    def _count(self, record: Record) -> None:
        self.usage += record.usage
        if record.error is None and not record.substituted:
            self.answer_hashes.add(record.query_sha256)
