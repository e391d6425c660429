"""Asking one reranker all judged queries, and keeping what it says, so that nothing is asked twice."""

from __future__ import annotations

import contextvars
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from uuid import uuid4

from rag_rerank import _clock, _watching
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
from rag_rerank.evaluation._answers import Answer
from rag_rerank.evaluation._keeping import Kept, Key, asked
from rag_rerank.evaluation.data.judged import JudgedQuery
from rag_rerank.records.making import record_of

__all__ = ["PATIENCE", "Asking"]

PATIENCE = 10
"""Queries in a row on which a backend may fail before it is left alone; what it answered until then is kept."""

Asked = tuple[int, Answer, RerankError | None]
"""Position of a query, the answer to it, and why it failed."""

Running = dict[int, Future[tuple[Answer, RerankError | None]]]
"""Calls by the position of their query."""


def _anything(query: JudgedQuery) -> None:
    """Let every query be asked."""


_OUTRIGHT = (ConfigError, MissingExtraError, ModelLoadError, AuthenticationError, BillingError)
"""What would come of every other query, too."""


@dataclass(frozen=True)
class Asking:
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
    kept: Kept
    workers: int
    told: Callable[[int], None]
    admit: Callable[[JudgedQuery], None] = _anything

    def answers(self) -> list[Answer]:
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

    def _found(self) -> dict[int, Answer]:
        """Return what earlier runs left, by position of the query; without candidates there is nothing to ask."""
        wanted: dict[Key, list[int]] = {}
        found = {}
        for i, query in enumerate(self.queries):
            if query.candidates:
                wanted.setdefault(asked(query.text, query.candidates[: self.depth]), []).append(i)
            else:
                found[i] = Answer.unchanged(query)
        for key, record in self.kept.records(wanted):
            found |= {i: Answer.of(self.queries[i], record) for i in wanted[key]}
        return found

    def _asked(self, missing: Sequence[int]) -> Generator[Asked, None, None]:
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
                running[i] = _clock.start(partial(contextvars.copy_context().run, ask))
            while running:
                yield from _done(running)
        finally:  # where the config is stopped, what it is answering now is paid for, and kept
            while running:
                _ended(running)

    def _ask(self, query: JudgedQuery, *, cold: bool) -> tuple[Answer, RerankError | None]:
        candidates = query.candidates[: self.depth]
        ranking = error = None
        with _watching.tagged(query_id=query.id, cold=cold, workers=self.workers):
            call = _watching.Asked(self.reranker, query.text, candidates)
            time, started = datetime.now(timezone.utc).isoformat(timespec="milliseconds"), _clock.now()
            try:
                ranking = self.reranker.rerank(query.text, candidates)
            except RerankError as raised:
                error = raised
        seconds = _clock.now() - started
        record = record_of(call, ranking, error, id=uuid4().hex, time=time, seconds=seconds)
        self.kept.keep(record)
        return Answer.of(query, record), error


def _done(running: Running) -> Iterator[Asked]:
    """Wait until a call has ended, and yield what came of those that have."""
    for i, future in _ended(running).items():
        yield (i, *future.result())


def _ended(running: Running) -> Running:
    """Wait until a call has ended, and return those that have; they run no more."""
    _clock.first_of(running.values())
    return {i: running.pop(i) for i in [i for i, future in running.items() if future.done()]}
