"""The three classes behind every reranker: what users hold, what backend authors write, what combinators are."""

from __future__ import annotations

import sys
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack, contextmanager
from dataclasses import dataclass, fields, is_dataclass
from time import perf_counter
from types import TracebackType
from typing import Any, ClassVar, final
from unicodedata import category

from rag_rerank._plan import Decision, Journal, Plan, adrive, describe, drive
from rag_rerank.errors import BadResponse, ConfigError, InputError, InputTooLong, RerankError, TruncationWarning
from rag_rerank.trace import Trace, Usage
from rag_rerank.types import Candidate, Ranking, Scale, Scores, check_top_k, checked_values, ranked

__all__ = ["Composite", "PointwiseReranker", "Reranker"]


@dataclass(frozen=True, kw_only=True)
class Reranker(ABC):
    """Orders candidates by their relevance to a query.

    Every reranker is a frozen dataclass whose fields are its config: ``build(to_config(r)) == r``. Constructing
    one loads nothing; weights and connections come at the first call or at `warm_up`. One instance may be shared
    by threads and by event loops, and pickles as its config.

    Args:
        name: Label in traces; by default the registry name and the model.
    """

    kind: ClassVar[str]
    """Name in the registry, and ``type`` in a config."""

    name: str | None = None

    @property
    @abstractmethod
    def scale(self) -> Scale:
        """What the scores of a normal answer mean."""

    @property
    def label(self) -> str:
        """How traces call this reranker."""
        model = getattr(self, "model", None)
        return self.name or (f"{self.kind}:{model}" if model else self.kind)

    @final
    def rerank(self, query: str, candidates: Sequence[Candidate | str], *, top_k: int | None = None) -> Ranking:
        """Order candidates by relevance, best first.

        Args:
            query: What the user wants to know; must not be blank.
            candidates: Candidates with unique ids, or plain strings (their ids are then their positions).
            top_k: How many hits to return; ``None`` for all.

        Returns:
            A ranking of new hits around the caller's own candidate objects. No candidates give an empty ranking
            without a call to the backend; blank texts are not scored and stand last.

        Raises:
            InputError: The query is blank, ids occur twice, something is not a string, or ``top_k`` is below 1.
            RerankError: Whatever else went wrong; see `rag_rerank.errors`.
        """
        prepared = as_candidates(query, candidates, top_k)
        return self._rank(query, prepared).top(top_k)

    @final
    async def arerank(self, query: str, candidates: Sequence[Candidate | str], *, top_k: int | None = None) -> Ranking:
        """Do what `rerank` does without blocking the event loop."""
        prepared = as_candidates(query, candidates, top_k)
        return (await self._arank(query, prepared)).top(top_k)

    @abstractmethod
    def _rank(self, query: str, candidates: tuple[Candidate, ...]) -> Ranking:
        """Rank checked candidates; errors carry their trace."""

    @abstractmethod
    async def _arank(self, query: str, candidates: tuple[Candidate, ...]) -> Ranking:
        """Rank checked candidates without blocking the event loop."""

    def warm_up(self) -> None:
        """Load now what would be loaded at the first call. May be called again at no cost."""

    def close(self) -> None:
        """Release weights and connections. A later call loads them anew."""

    async def aclose(self) -> None:
        """Release weights and connections, those of the running event loop included."""
        import asyncio

        await asyncio.to_thread(self.close)

    def __enter__(self) -> Any:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Any:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return self  # frozen: a copy could only load the same weights twice, or fail on an injected client

    def __getstate__(self) -> dict[str, Any]:
        return {f.name: getattr(self, f.name) for f in fields(self)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)


@dataclass(frozen=True, kw_only=True)
class PointwiseReranker(Reranker):
    """Scores each text on its own: what a backend author writes.

    Give `score` (and `ascore` where the backend is natively async); sorting, ties, ids, blank texts, checks and
    the trace are done here.
    """

    @abstractmethod
    def score(self, query: str, texts: Sequence[str]) -> Scores:
        """Score each text for the query: as many values as texts, in the same order.

        The texts are valid Unicode, none is blank, and there is at least one.
        """

    async def ascore(self, query: str, texts: Sequence[str]) -> Scores:
        """Do what `score` does without blocking the event loop; by default on a worker thread."""
        import asyncio

        return await asyncio.to_thread(self.score, query, texts)

    @property
    def model_id(self) -> str | None:
        """Model with its revision for the trace, ``"org/name@revision"``."""
        return getattr(self, "model", None)

    @final
    def _rank(self, query: str, candidates: tuple[Candidate, ...]) -> Ranking:
        request = _Request(self, query, candidates)
        with request.watched():
            return request.ranking(self.score(request.query, request.texts) if request.texts else None)

    @final
    async def _arank(self, query: str, candidates: tuple[Candidate, ...]) -> Ranking:
        request = _Request(self, query, candidates)
        with request.watched():
            return request.ranking(await self.ascore(request.query, request.texts) if request.texts else None)


@dataclass(frozen=True, kw_only=True)
class Composite(Reranker):
    """A reranker made of rerankers: give `_plan`, a flow written once for both worlds (see `rag_rerank._plan`)."""

    @abstractmethod
    def _plan(self, query: str, candidates: tuple[Candidate, ...]) -> Plan:
        """Yield a `Call` for each ranking wanted, be sent it, and return a `Decision`."""

    @property
    def parts(self) -> tuple[Reranker, ...]:
        """The rerankers directly inside, found in the fields (also inside field values that are dataclasses)."""
        return tuple(_rerankers(getattr(self, f.name) for f in fields(self)))

    @final
    def _rank(self, query: str, candidates: tuple[Candidate, ...]) -> Ranking:
        run = _Run(self, query)
        with run.watched():
            return run.ranking(drive(self._plan(query, candidates), run.journal))

    @final
    async def _arank(self, query: str, candidates: tuple[Candidate, ...]) -> Ranking:
        run = _Run(self, query)
        with run.watched():
            return run.ranking(await adrive(self._plan(query, candidates), run.journal))

    def warm_up(self) -> None:
        """Warm up all members."""
        for part in self.parts:
            part.warm_up()

    def close(self) -> None:
        """Close all members, also when one of them raises."""
        with ExitStack() as stack:
            for part in reversed(self.parts):
                stack.callback(part.close)

    async def aclose(self) -> None:
        """Close all members, those of the running event loop included, also when one of them raises."""
        async with AsyncExitStack() as stack:
            for part in reversed(self.parts):
                stack.push_async_callback(part.aclose)


def check_reranker(value: object, path: str) -> None:
    """Raise `ConfigError` unless a field of a composite holds a reranker."""
    if not isinstance(value, Reranker):
        raise ConfigError(
            f"expected a Reranker, got {type(value).__name__}; rag_rerank.build makes one from a name or a config",
            path=path,
        )


def as_candidates(query: str, candidates: Sequence[Candidate | str], top_k: int | None = None) -> tuple[Candidate, ...]:
    """Check a request and give plain strings their position as id.

    Raises:
        InputError: See `Reranker.rerank`.
    """
    if not isinstance(query, str):
        raise InputError(f"the query must be a string, got {type(query).__name__}")
    if blank(query):
        raise InputError("the query is blank; there is nothing to be relevant to")
    check_top_k(top_k)
    if not isinstance(candidates, Iterable) or isinstance(candidates, Mapping):
        raise InputError(f"candidates must be a sequence of texts or Candidates, got {type(candidates).__name__}")
    if isinstance(candidates, (str, bytes)):
        raise InputError("candidates must be a sequence of texts; got one text, put it into a list")
    prepared = []
    seen: dict[str, int] = {}
    for i, item in enumerate(candidates):
        candidate = Candidate(str(i), item) if isinstance(item, str) else item
        if not isinstance(candidate, Candidate):
            raise InputError(f"candidates[{i}] must be a string or a Candidate, got {type(item).__name__}")
        if candidate.id in seen:
            raise InputError(
                f"candidates[{seen[candidate.id]}] and candidates[{i}] have the same id {candidate.id!r}; "
                "ids must be unique within a request"
            )
        seen[candidate.id] = i
        prepared.append(candidate)
    return tuple(prepared)


def blank(text: str) -> bool:
    """Whether a text has nothing to read: only spaces, control and format characters (zero-width space, BOM ...)."""
    return all(char.isspace() or category(char) in ("Cc", "Cf") for char in text)


def readable(text: str) -> str:
    """Return valid Unicode: surrogate pairs joined, lone surrogates as U+FFFD. Valid text is returned as it is."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


class _Request:
    """One call of a pointwise reranker, from candidates to ranking."""

    def __init__(self, reranker: PointwiseReranker, query: str, candidates: tuple[Candidate, ...]) -> None:
        self.started = perf_counter()
        self.reranker = reranker
        self.asked = query
        self.query = readable(query)
        self.candidates = candidates
        self.unscored = {i: "blank text" for i, c in enumerate(candidates) if blank(c.text)}
        self.where = [i for i in range(len(candidates)) if i not in self.unscored]
        self.texts = [readable(candidates[i].text) for i in self.where]
        repaired = sum(text is not candidates[i].text for i, text in zip(self.where, self.texts, strict=True))
        self.notes = ((f"{repaired} texts held lone surrogates, which were read as U+FFFD",) if repaired else ()) + (
            ("the query held lone surrogates, which were read as U+FFFD",) if self.query is not query else ()
        )

    def trace(self, **facts: Any) -> Trace:
        return Trace(
            step=self.reranker.label, model=self.reranker.model_id, seconds=perf_counter() - self.started, **facts
        )

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Give an error that leaves this call its trace."""
        try:
            yield
        except RerankError as error:
            if isinstance(error, InputTooLong) and error.position is not None:
                error.args = (f"candidate {self.candidates[self.where[error.position]].id!r}: {error}",)
            inner = error.trace
            error.trace = self.trace(
                error=describe(error),
                notes=self.notes,
                attempts=inner.attempts if inner else 0,
                failures=inner.failures if inner else (),
                usage=inner.usage if inner else Usage(),
                children=inner.children if inner else (),
            )
            raise

    def ranking(self, scores: Scores | None) -> Ranking:
        scores = self.checked(scores) if self.texts else Scores((), self.reranker.scale)
        hits = ranked(self.candidates, scores, self.where, self.unscored)
        trace = self.trace(
            scale=scores.scale,
            scores={hit.id: hit.raw_score for hit in hits if hit.raw_score is not None},
            unscored={hit.id: hit.unscored for hit in hits if hit.unscored is not None},
            coverage={hit.id: hit.coverage for hit in hits if hit.coverage is not None},
            usage=scores.usage,
            attempts=sum(request.attempts for request in scores.requests),
            failures=tuple(failure for request in scores.requests for failure in request.failures),
            notes=self.notes + scores.notes,
            children=scores.requests if len(scores.requests) > 1 else (),
        )
        return Ranking(self.asked, hits, scores.scale, trace, scores.usage)

    def checked(self, scores: Scores | None) -> Scores:
        """Hold a backend to its word: as many finite scores as texts, in plain floats."""
        backend, model = self.reranker.kind, getattr(self.reranker, "model", None)
        expected = len(self.texts)
        if not isinstance(scores, Scores):
            raise BadResponse(
                f"{self.reranker.label} gave {type(scores).__name__} instead of Scores", backend=backend, model=model
            )
        if len(scores.values) != expected or (scores.coverage and len(scores.coverage) != expected):
            raise BadResponse(
                f"{self.reranker.label} gave {len(scores.values)} scores and {len(scores.coverage)} coverages "
                f"for {expected} texts",
                backend=backend,
                model=model,
            )
        try:
            values = checked_values(scores.values)
        except InputError as error:
            raise BadResponse(f"{self.reranker.label}: {error}", backend=backend, model=model) from error
        cut = sum(coverage.truncated for coverage in scores.coverage)
        if cut:
            warnings.warn(
                f"{self.reranker.label} read only the beginning of {cut} of {expected} texts; hit.coverage says how "
                'much, and on_overflow="error" refuses instead',
                TruncationWarning,
                stacklevel=_levels_to_the_caller(),
            )
        return Scores(values, scores.scale, scores.usage, scores.coverage, scores.requests, scores.notes)


class _Run:
    """One call of a composite, from plan to ranking."""

    def __init__(self, reranker: Composite, query: str) -> None:
        self.started = perf_counter()
        self.reranker = reranker
        self.query = query
        self.journal = Journal()

    def trace(self, **facts: Any) -> Trace:
        children = tuple(self.journal.traces)
        return Trace(
            step=self.reranker.label,
            seconds=perf_counter() - self.started,
            usage=Usage.total(child.usage for child in children),
            children=children,
            **facts,
        )

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Give an error that leaves this call its trace."""
        try:
            yield
        except RerankError as error:
            error.trace = self.trace(error=describe(error))
            raise

    def ranking(self, decision: Decision) -> Ranking:
        trace = self.trace(scale=decision.scale, notes=decision.notes)
        degraded = tuple(dict.fromkeys((*self.journal.degraded, *decision.degraded)))
        return Ranking(self.query, decision.hits, decision.scale, trace, trace.usage, degraded)


def _levels_to_the_caller() -> int:
    """Return how many frames lie between the one that asks and the first outside this package: composites nest."""
    package, levels = __name__.partition(".")[0], 0
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == package:
        frame, levels = frame.f_back, levels + 1
    return levels + 1


def _rerankers(values: Any) -> Iterator[Reranker]:
    for value in values:
        if isinstance(value, Reranker):
            yield value
        elif isinstance(value, tuple):
            yield from _rerankers(value)
        elif is_dataclass(value) and not isinstance(value, type):
            yield from _rerankers(getattr(value, f.name) for f in fields(value))
