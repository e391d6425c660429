"""Run one reranker over judged queries, and keep each answer, so that no query is scored twice."""

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
from rag_rerank.evaluation.answer_store import AnswerStore, Key, request_of
from rag_rerank.evaluation.data.judged import JudgedQuery
from rag_rerank.execution import clock, observers
from rag_rerank.execution.protocols import CallStarted
from rag_rerank.records.build import record_of
from rag_rerank.records.record import Record
from rag_rerank.trace import Coverage, Usage

__all__ = ["PATIENCE", "QueryAnswer", "QueryRunner"]

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class QueryAnswer:
    """What a reranker made of one query; sequences are by position in ``query.candidates``, as far as they entered.

    Args:
        query: The query.
        order: Positions of all candidates, best first; those that did not enter follow in the first stage's order.
        raw: The numbers that were ranked by; ``None`` where a candidate has none.
        scores: The numbers that people use.
        coverage: How much of each text was read, where that is known.
        scale: Scale of the scores; ``None`` where the call failed.
        seconds: Wall time of the call; ``None`` where there was none, since there was no candidate.
        warm: Whether it tells how long a call takes: it succeeded, and was not the first of its run.
        workers: How many calls ran at a time.
        usage: What the call cost.
        degraded: Why it is not quite what was asked.
        substituted: Whether the scores are another reranker's.
        error: Why it failed; the order is then the first stage's.
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
        """Return what stands by position, by id."""
        return {candidate.id: value for candidate, value in zip(self.query.candidates, values, strict=False)}

    @classmethod
    def unchanged(cls, query: JudgedQuery) -> QueryAnswer:
        """Return the first stage's own order and scores."""
        return cls(
            query=query,
            order=tuple(range(len(query.candidates))),
            raw=tuple(candidate.score for candidate in query.candidates),
        )

    @classmethod
    def of(cls, query: JudgedQuery, record: Record) -> QueryAnswer:
        """Return what a record says of the query whose candidates it holds."""
        entries = sorted(record.candidates, key=lambda entry: entry.first_rank)
        entered = [entry.first_rank - 1 for entry in record.candidates]
        return cls(
            query=query,
            order=(*entered, *range(len(entered), len(query.candidates))),
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


PATIENCE = 10
"""Queries in a row on which a backend may fail before it is left alone; what it answered until then is kept."""

OnAnswer = tuple[int, QueryAnswer, RerankError | None]
"""Position of a query, the answer to it, and why it failed."""

Running = dict[int, Future[tuple[QueryAnswer, RerankError | None]]]
"""Calls by the position of their query."""


def _anything(query: JudgedQuery) -> None:
    """Let every query be asked."""


_OUTRIGHT = (ConfigError, MissingExtraError, ModelLoadError, AuthenticationError, BillingError)
"""What would come of every other query, too."""


@dataclass(frozen=True)
class QueryRunner:
    """One reranker and the queries it is to be asked.

    Args:
        reranker: Who is asked.
        queries: What.
        depth: How many candidates of each query enter.
        kept: Where records are; open.
        workers: How many queries are asked at a time.
        told: Is told how many queries are done.
        admit: Sees each query before it is asked, and may raise to end the asking; what is being answered is kept.
    """

    reranker: Reranker
    queries: Sequence[JudgedQuery]
    depth: int
    kept: AnswerStore
    workers: int
    told: Callable[[int], None]
    admit: Callable[[JudgedQuery], None] = _anything

    def answers(self) -> list[QueryAnswer]:
        """Return the answer to each query, in their order; one of a failed call has the first stage's order.

        Raises:
            ConfigError: What fails here would fail for every query; so do the next four.
            MissingExtraError: An optional package is absent.
            ModelLoadError: A model cannot be loaded.
            AuthenticationError: The provider does not accept the key.
            BillingError: No credit is left.
            BackendError: The backend failed on `PATIENCE` queries in a row: the last failure.
        """
        found = self._found()
        self.told(len(found))
        missing = [i for i in range(len(self.queries)) if i not in found]
        if missing:
            self.reranker.warm_up()
        in_a_row = 0
        with warnings.catch_warnings(), closing(self._asked(missing)) as coming:
            warnings.simplefilter("ignore", TruncationWarning)  # the share of truncated texts is reported
            for i, answer, error in coming:
                found[i] = answer
                self.told(len(found))
                in_a_row = in_a_row + 1 if isinstance(error, BackendError) else 0
                if error is not None and (isinstance(error, _OUTRIGHT) or in_a_row == PATIENCE):
                    raise error
        return [found[i] for i in range(len(self.queries))]

    def _found(self) -> dict[int, QueryAnswer]:
        """Return what earlier runs left, by position of the query; without candidates there is nothing to ask."""
        wanted: dict[Key, list[int]] = {}
        found = {}
        for i, query in enumerate(self.queries):
            if query.candidates:
                wanted.setdefault(request_of(query.text, query.candidates[: self.depth]), []).append(i)
            else:
                found[i] = QueryAnswer.unchanged(query)
        for key, record in self.kept.records(wanted):
            found |= {i: QueryAnswer.of(self.queries[i], record) for i in wanted[key]}
        return found

    def _asked(self, missing: Sequence[int]) -> Generator[OnAnswer, None, None]:
        """Yield what comes of each query, as it comes."""
        running: Running = {}
        try:
            for nth, i in enumerate(missing):
                self.admit(self.queries[i])
                ask = partial(self._ask, self.queries[i], cold=nth < self.workers)
                if self.workers == 1:
                    yield (i, *ask())
                    continue
                if len(running) == self.workers:
                    yield from _done(running)
                running[i] = clock.start_thread(partial(contextvars.copy_context().run, ask))
            while running:
                yield from _done(running)
        finally:  # where the config is stopped, what it is answering now is paid for, and kept
            while running:
                _ended(running)

    def _ask(self, query: JudgedQuery, *, cold: bool) -> tuple[QueryAnswer, RerankError | None]:
        candidates = query.candidates[: self.depth]
        ranking = error = None
        with observers.tagged(query_id=query.id, cold=cold, workers=self.workers):
            call = CallStarted(self.reranker, query.text, candidates, tags=observers.current_tags())
            time, started = datetime.now(timezone.utc).isoformat(timespec="milliseconds"), clock.now()
            try:
                ranking = self.reranker.rerank(query.text, candidates)
            except RerankError as raised:
                error = raised
        seconds = clock.now() - started
        record = record_of(call, ranking, error, id=uuid4().hex, time=time, seconds=seconds)
        self.kept.keep(record)
        return QueryAnswer.of(query, record), error


def _done(running: Running) -> Iterator[OnAnswer]:
    """Wait until a call has ended, and yield what came of those that have."""
    for i, future in _ended(running).items():
        yield (i, *future.result())


def _ended(running: Running) -> Running:
    """Wait until a call has ended, and return those that have; they run no more."""
    clock.wait_for_any(running.values())
    return {i: running.pop(i) for i in [i for i, future in running.items() if future.done()]}
