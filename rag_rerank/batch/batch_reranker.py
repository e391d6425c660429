"""The callable that answers a batch of rows: the same for files, Ray, Spark, Dask and Polars."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass, field, fields
from functools import lru_cache
from threading import Lock
from typing import Any, Literal, get_args

from rag_rerank._checks import check_top_k, plain_fields, whole_number
from rag_rerank.base import Reranker
from rag_rerank.batch.answers import answer_of, error_answer, read_row
from rag_rerank.batch.frames import check_columns, read_column, with_answers
from rag_rerank.config import Spec, build
from rag_rerank.errors import BackendError, ConfigError, InputError, RerankError, UnreadableText
from rag_rerank.evaluation.runner import ERRORS_OF_EVERY_QUERY, PATIENCE
from rag_rerank.execution.deadline import check_timeout

__all__ = ["BatchReranker", "OnError"]

OnError = Literal["keep", "raise"]

_SHARED = 8
"""Rerankers that a process keeps for copies that come by pickle."""


@dataclass(frozen=True)
class BatchReranker:
    """Rerank many queries: called with a batch of rows, it returns the batch with a ranking in each row.

    A row is a query with its candidates. A batch is a list of rows, a mapping of columns, or a table of pandas, polars
    or Arrow; the answer is of the same kind, with the rows in the same order. All columns stay as they are, except the
    candidates, in whose place come:

    - ``hits``: a list, best first, of ``rank``, ``id``, ``first_rank`` (the place among the candidates, from 1),
      ``score``, ``raw_score``, ``coverage``, ``unscored``, ``window`` and ``spans``, as in `Hit`
    - ``scale``, ``degraded``, ``substituted`` and ``answerable``, as in `Ranking`
    - ``warnings``: which texts were cut or have no score
    - ``usage``: what the call cost, as in `Usage`, without its time
    - ``error``: ``None``, or ``type`` and ``message`` of why the row has no hits

    It pickles as its config, and copies that arrive in one process share the loaded model. So a cluster loads a model
    once for each worker process.

    Args:
        config: The reranker: a name, a config, a config file, or a reranker that a config can express.
        top_k: How many hits a row gets; ``None`` for all.
        instruction: What relevance means here, in words, for a reranker that follows instructions.
        timeout: Seconds for each row; ``None`` for no limit.
        keep_candidates: Whether each hit also holds its candidate as it stands in the row.
        query: The column with the query.
        candidates: The column with the candidates: each a text, or an object with ``text`` and perhaps ``id``,
            ``score`` and ``metadata``.
        on_error: What a row that fails does: ``"keep"`` writes the error into the row, ``"raise"`` raises it.
        workers: How many rows run at the same time. More than 1 helps only with providers.

    Raises:
        ConfigError: The config is wrong, or another argument.
        InputError: In a call: a column is missing, or has the name of one that the answer adds.
        BackendError: In a call: the backend failed on ten rows in a row, so that it would fail on the others, too.
        RerankError: In a call: with ``on_error="raise"``, the error of a row; in any case one that every row would
            have: `ConfigError`, `MissingExtraError`, `ModelLoadError`, `AuthenticationError`, `BillingError`.
    """

    config: Spec
    top_k: int | None = field(default=None, kw_only=True)
    instruction: str | None = field(default=None, kw_only=True)
    timeout: float | None = field(default=None, kw_only=True)
    keep_candidates: bool = field(default=False, kw_only=True)
    query: str = field(default="query", kw_only=True)
    candidates: str = field(default="candidates", kw_only=True)
    on_error: OnError = field(default="keep", kw_only=True)
    workers: int = field(default=1, kw_only=True)
    _failures: _FailureCount = field(default_factory=lambda: _FailureCount(), init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        plain_fields(self)
        object.__setattr__(self, "config", build(self.config))
        try:
            check_top_k(self.top_k)
            check_timeout(self.timeout)
        except InputError as error:
            raise ConfigError(str(error)) from error
        whole_number(self.workers, 1, "workers")
        if self.on_error not in get_args(OnError):
            raise ConfigError(f"must be one of {get_args(OnError)}, got {self.on_error!r}", path="on_error")

    @property
    def reranker(self) -> Reranker:
        """The reranker."""
        assert isinstance(self.config, Reranker)
        return self.config

    def __call__(self, batch: Any) -> Any:
        """Return the batch with the answers; see the class."""
        check_columns(batch, self.query, self.candidates)
        rows = list(zip(read_column(batch, self.query), read_column(batch, self.candidates), strict=True))
        return with_answers(batch, self.candidates, self._answers(rows), with_candidates=self.keep_candidates)

    def warm_up(self) -> None:
        """Load now what the first row would load."""
        self.reranker.warm_up()

    def close(self) -> None:
        """Release weights and connections; a later call loads them again."""
        self.reranker.close()

    def _answers(self, rows: Sequence[tuple[Any, Any]]) -> list[dict[str, Any]]:
        if self.workers == 1:
            return [self._answer(query, items) for query, items in rows]
        with ThreadPoolExecutor(self.workers) as pool:
            try:
                tasks = [pool.submit(copy_context().run, self._answer, query, items) for query, items in rows]
                return [task.result() for task in tasks]
            finally:
                pool.shutdown(cancel_futures=True)  # after an error, rows that run are waited for, and others dropped

    def _answer(self, query: Any, items: Any) -> dict[str, Any]:
        try:
            query, values, candidates = read_row(query, items)
            ranking = self.reranker.rerank(
                query, candidates, top_k=self.top_k, timeout=self.timeout, instruction=self.instruction
            )
        except RerankError as error:
            if self.on_error == "raise" or isinstance(error, ERRORS_OF_EVERY_QUERY) or self._failures.add(error):
                raise
            return error_answer(error)
        self._failures.forget()
        return answer_of(ranking, values if self.keep_candidates else None)

    def __reduce__(self) -> tuple[Any, ...]:
        return (_shared_copy, (self.__dask_tokenize__(),))

    def __dask_tokenize__(self) -> bytes:
        """Return what tells it from others; Dask asks for it."""
        return pickle.dumps({f.name: getattr(self, f.name) for f in fields(self) if f.init})


@lru_cache(maxsize=_SHARED)
def _shared_copy(state: bytes) -> BatchReranker:
    """Return the one copy of this process."""
    return BatchReranker(**pickle.loads(state))


class _FailureCount:
    """How many calls of the backend failed in a row."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._count = 0

    def add(self, error: RerankError) -> bool:
        """Count an error, if it is the backend's, and return whether the patience is over."""
        if not isinstance(error, BackendError) or isinstance(error, UnreadableText):  # a text of another language
            return False
        with self._lock:
            self._count += 1
            return self._count >= PATIENCE

    def forget(self) -> None:
        """Start anew, after a success."""
        with self._lock:
            self._count = 0
