"""Run one reranker over judged queries, and store each answer, so that no query is scored twice."""

from __future__ import annotations

import contextvars
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import partial
from typing import TypeVar
from uuid import uuid4

from rag_rerank.base import Reranker
from rag_rerank.errors import (
    AuthenticationError,
    BackendError,
    BillingError,
    ConfigError,
    MissingExtraError,
    ModelLoadError,
    RerankError,
    TruncationWarning,
)
from rag_rerank.evaluation.answer_store import AnswerStore, Key, request_key
from rag_rerank.evaluation.data.judged import JudgedQuery
from rag_rerank.execution import clock, observers
from rag_rerank.execution.protocols import CallStarted
from rag_rerank.records.build import record_of
from rag_rerank.records.record import Record
from rag_rerank.trace import Coverage, Usage

__all__ = ["ERRORS_OF_EVERY_QUERY", "PATIENCE", "QueryAnswer", "QueryRunner"]

T = TypeVar("T")

PATIENCE = 10
"""Queries in a row on which a backend may fail before the run stops; earlier answers are stored."""

ERRORS_OF_EVERY_QUERY = (ConfigError, MissingExtraError, ModelLoadError, AuthenticationError, BillingError)
"""Errors that would repeat on every other query."""


@dataclass(frozen=True, kw_only=True, slots=True)
class QueryAnswer:
    """What a reranker answered for one query.

    Sequences are by position in ``query.candidates``, and as long as the number of candidates that entered.

    Args:
        query: The query.
        order: Positions of all candidates, best first; those that did not enter follow in the first stage's order.
        raw: The raw scores that decide the order; ``None`` where a candidate has none.
        scores: The scores on ``scale``.
        coverage: How much of each text was read, where that is known.
        scale: Scale of the scores; ``None`` where the call failed.
        seconds: Wall time of the call; ``None`` if there were no candidates, and so no call.
        warm: Whether ``seconds`` is typical of a call: the call succeeded, and was not the first of its run.
        workers: How many calls ran at a time.
        usage: What the call cost.
        degraded: Why the answer is not quite what was asked for.
        substituted: Whether the scores are another reranker's.
        error: Why the call failed; the order is then the first stage's.
    """

    query: JudgedQuery
    order: tuple[int, ...]
    raw: tuple[float | None, ...] = ()
    scores: tuple[float | None, ...] = ()
    coverage: tuple[Coverage | None, ...] = ()
    scale: str | None = None
    seconds: float | None = None
    warm: bool = False
    workers: int = 1
    usage: Usage = field(default_factory=Usage)
    degraded: tuple[str, ...] = ()
    substituted: bool = False
    error: str | None = None

    @property
    def ids(self) -> list[str]:
        """Ids of all candidates, best first."""
        return [self.query.candidates[position].id for position in self.order]

    def by_id(self, values: Sequence[T]) -> dict[str, T]:
        """Return values by position as values by candidate id."""
        return {candidate.id: value for candidate, value in zip(self.query.candidates, values, strict=False)}

    @classmethod
    def of_first_stage(cls, query: JudgedQuery) -> QueryAnswer:
        """Return the first stage's own order and scores."""
        return cls(
            query=query,
            order=tuple(range(len(query.candidates))),
            raw=tuple(candidate.score for candidate in query.candidates),
        )

    @classmethod
    def of(cls, query: JudgedQuery, record: Record) -> QueryAnswer:
        """Return the answer in the record of a call with this query and its candidates."""
        entries = sorted(record.candidates, key=lambda entry: entry.first_rank)
        positions = [entry.first_rank - 1 for entry in record.candidates]
        return cls(
            query=query,
            order=(*positions, *range(len(positions), len(query.candidates))),
            raw=tuple(entry.raw_score for entry in entries),
            scores=tuple(entry.score for entry in entries),
            coverage=tuple(entry.coverage for entry in entries),
            scale=record.scale,
            seconds=record.seconds,
            warm=record.error is None and not record.tags.get("cold", False),
            workers=record.tags.get("workers", 1),
            usage=record.usage,
            degraded=record.degraded,
            substituted=record.substituted,
            error=record.error,
        )


_Result = tuple[QueryAnswer, RerankError | None]
"""The answer to a query, and its error."""

_Running = dict[int, Future[_Result]]
"""Calls by the position of their query."""


def _admit_all(query: JudgedQuery) -> None:
    """Admit every query."""


@dataclass(frozen=True)
class QueryRunner:
    """One reranker, and the queries to run it on.

    Args:
        reranker: The reranker.
        queries: The queries.
        depth: How many candidates of each query enter.
        store: Where answers are stored; open.
        workers: How many queries run at a time.
        progress: Called with the number of queries that are done.
        admit: Called with each query before its call; it may raise to end the run. Calls that still run are stored.
    """

    reranker: Reranker
    queries: Sequence[JudgedQuery]
    depth: int
    store: AnswerStore
    workers: int
    progress: Callable[[int], None]
    admit: Callable[[JudgedQuery], None] = _admit_all

    def answers(self) -> list[QueryAnswer]:
        """Return the answer to each query, in their order; a failed call keeps the first stage's order.

        Raises:
            ConfigError: This error and the next four would repeat on every query.
            MissingExtraError: An optional package is absent.
            ModelLoadError: A model cannot be loaded.
            AuthenticationError: The provider does not accept the key.
            BillingError: No credit is left.
            BackendError: The backend failed on `PATIENCE` queries in a row: the last failure.
        """
        answers = self._stored_answers()
        self.progress(len(answers))
        missing = [i for i in range(len(self.queries)) if i not in answers]
        if missing:
            self.reranker.warm_up()
        failures_in_a_row = 0
        with warnings.catch_warnings(), closing(self._run(missing)) as results:
            warnings.simplefilter("ignore", TruncationWarning)  # the share of truncated texts is reported
            for i, (answer, error) in results:
                answers[i] = answer
                self.progress(len(answers))
                failures_in_a_row = failures_in_a_row + 1 if isinstance(error, BackendError) else 0
                if error is not None and (isinstance(error, ERRORS_OF_EVERY_QUERY) or failures_in_a_row == PATIENCE):
                    raise error
        return [answers[i] for i in range(len(self.queries))]

    def _stored_answers(self) -> dict[int, QueryAnswer]:
        """Return the answers of earlier runs by position of the query; a query without candidates needs no call."""
        positions: dict[Key, list[int]] = {}
        answers = {}
        for i, query in enumerate(self.queries):
            if query.candidates:
                positions.setdefault(request_key(query.text, query.candidates[: self.depth]), []).append(i)
            else:
                answers[i] = QueryAnswer.of_first_stage(query)
        for key, record in self.store.records(positions):
            answers |= {i: QueryAnswer.of(self.queries[i], record) for i in positions[key]}
        return answers

    def _run(self, positions: Sequence[int]) -> Generator[tuple[int, _Result], None, None]:
        """Run the queries at these positions; yield the position and the result of each as it ends."""
        running: _Running = {}
        try:
            for nth, i in enumerate(positions):
                self.admit(self.queries[i])
                call = partial(self._call, self.queries[i], cold=nth < self.workers)
                if self.workers == 1:
                    yield i, call()
                    continue
                if len(running) == self.workers:
                    yield from _wait_for_results(running)
                running[i] = clock.start_thread(partial(contextvars.copy_context().run, call))
            while running:
                yield from _wait_for_results(running)
        finally:  # if the run stops early, the calls that still run are paid for, so wait until they are stored
            while running:
                _pop_done(running)

    def _call(self, query: JudgedQuery, *, cold: bool) -> _Result:
        candidates = query.candidates[: self.depth]
        ranking = error = None
        with observers.tagged(query_id=query.id, cold=cold, workers=self.workers):
            call = CallStarted(self.reranker, query.text, candidates, tags=observers.current_tags())
            time, started = datetime.now(timezone.utc).isoformat(timespec="milliseconds"), clock.now()
            try:
                ranking = self.reranker.rerank(query.text, candidates)
            except RerankError as failure:
                error = failure
        seconds = clock.now() - started
        record = record_of(call, ranking, error, id=uuid4().hex, time=time, seconds=seconds)
        self.store.keep(record)
        return QueryAnswer.of(query, record), error


def _wait_for_results(running: _Running) -> Iterator[tuple[int, _Result]]:
    """Wait until a call has ended; yield position and result of each that has."""
    for i, future in _pop_done(running).items():
        yield i, future.result()


def _pop_done(running: _Running) -> _Running:
    """Wait until a call has ended; remove and return those that have."""
    clock.wait_for_any(running.values())
    return {i: running.pop(i) for i in [i for i, future in running.items() if future.done()]}
