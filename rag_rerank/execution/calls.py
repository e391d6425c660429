"""One call from checked candidates to a ranking with its trace: of a pointwise reranker, and of a composite."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from rag_rerank.errors import BadResponse, InputError, InputTooLong, RerankError, TruncationWarning
from rag_rerank.execution.clock import now
from rag_rerank.execution.deadline import Progress, tells, timely
from rag_rerank.execution.plan import Call, Decision
from rag_rerank.trace import Trace, Usage
from rag_rerank.types import BLANK, Candidate, Hit, Ranking, Scores, blank, check_top_k, checked_values, ranked

if TYPE_CHECKING:
    from rag_rerank.base import Composite, PointwiseReranker

__all__ = [
    "Journal",
    "Request",
    "Run",
    "as_candidates",
    "describe",
    "disclosed",
    "levels_to_the_caller",
    "readable",
    "scores_of",
]


@dataclass(slots=True)
class Journal:
    """What the drivers note while a plan runs: the trace of every call, and why rankings were degraded."""

    traces: list[Trace] = field(default_factory=list)
    degraded: list[str] = field(default_factory=list)
    under_way: list[Progress] = field(default_factory=list)

    @property
    def children(self) -> tuple[Trace, ...]:
        """The traces of all calls, also, as far as they have come, of those that run."""
        running = [progress.trace for progress in self.under_way]
        return (*self.traces, *(trace for trace in running if trace is not None))

    @contextmanager
    def asked(self) -> Iterator[Progress]:
        """Watch a call while it runs."""
        self.under_way = [Progress()]
        try:
            yield self.under_way[0]
        finally:
            self.under_way = []

    def answered(self, ranking: Ranking) -> Ranking:
        """Note a call that gave a ranking."""
        self.traces.append(ranking.trace)
        self.degraded += ranking.degraded
        return ranking

    def failed(self, call: Call, error: RerankError) -> RerankError:
        """Note a call that failed."""
        self.traces.append(error.trace or Trace(step=call.reranker.label, error=describe(error)))
        return error


class Run:
    """One call of a composite, from plan to ranking."""

    def __init__(self, reranker: Composite, query: str) -> None:
        self.started = now()
        self.reranker = reranker
        self.query = query
        self.journal = Journal()
        tells(self.trace)

    def trace(self, **facts: Any) -> Trace:
        """Return the trace node of this call, as of now, with all calls so far inside."""
        children = self.journal.children
        return Trace(
            step=self.reranker.label,
            kind=self.reranker.kind,
            seconds=now() - self.started,
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
        """Return the ranking that a plan decided on."""
        facts = scores_of(decision.hits) if decision.own_scores else {}
        trace = self.trace(scale=decision.scale, notes=decision.notes, **facts)
        degraded = tuple(dict.fromkeys((*self.journal.degraded, *decision.degraded)))
        return Ranking(self.query, decision.hits, decision.scale, trace, trace.usage, degraded, decision.substituted)


def scores_of(hits: Sequence[Hit]) -> dict[str, Any]:
    """Return what a trace node says of hits: their scores, why some have none, and how much of each was read."""
    return {
        "scores": {hit.id: hit.raw_score for hit in hits if hit.raw_score is not None},
        "unscored": {hit.id: hit.unscored for hit in hits if hit.unscored is not None},
        "coverage": {hit.id: hit.coverage for hit in hits if hit.coverage is not None},
    }


def describe(error: BaseException) -> str:
    """Return an error as one line of a trace: its class and its message."""
    return f"{type(error).__name__}: {error}"


def disclosed(error: BaseException | None) -> str:
    """Return what may be kept of an error: the words of one that is not ours may hold anything, so only its class."""
    return describe(error) if isinstance(error, RerankError) else type(error).__name__


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


def readable(text: str) -> str:
    """Return valid Unicode: surrogate pairs joined, lone surrogates as U+FFFD. Valid text is returned as it is."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


class Request:
    """One call, from candidates to ranking."""

    def __init__(self, reranker: PointwiseReranker, query: str, candidates: tuple[Candidate, ...]) -> None:
        self.started = now()
        self.reranker = reranker
        self.asked = query
        self.query = readable(query)
        self.candidates = candidates
        self.unscored = {i: BLANK for i, c in enumerate(candidates) if blank(c.text)}
        self.where = [i for i in range(len(candidates)) if i not in self.unscored]
        self.texts = [readable(candidates[i].text) for i in self.where]
        repaired = sum(text is not candidates[i].text for i, text in zip(self.where, self.texts, strict=True))
        self.notes = ((f"{repaired} texts held lone surrogates, which were read as U+FFFD",) if repaired else ()) + (
            ("the query held lone surrogates, which were read as U+FFFD",) if self.query is not query else ()
        )
        self.progress = Progress()
        tells(self.unfinished)

    def trace(self, **facts: Any) -> Trace:
        """Return the trace node of this call, as of now."""
        reranker, seconds = self.reranker, now() - self.started
        return Trace(
            step=reranker.label,
            kind=reranker.kind,
            model=reranker.model_id,
            template=reranker.template_id,
            seconds=seconds,
            **facts,
        )

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Give an error that leaves this call its trace."""
        try:
            with self.progress.opened():
                yield
        except RerankError as failure:
            error = timely(failure, self.reranker.label)
            if isinstance(error, InputTooLong) and error.position is not None:
                error.args = (f"candidate {self.candidates[self.where[error.position]].id!r}: {error}",)
            error.trace = replace(self.unfinished(failure.trace), error=describe(error))
            if error is failure:
                raise
            raise error from failure

    def unfinished(self, done: Trace | None = None) -> Trace:
        """Return the trace node of this call without an answer; without ``done``, with what it tells of itself."""
        inner = done or self.progress.trace or Trace(step="")
        return self.trace(
            notes=self.notes + inner.notes,
            attempts=inner.attempts,
            failures=inner.failures,
            usage=inner.usage,
            children=inner.children,
        )

    def ranking(self, scores: Scores | None) -> Ranking:
        """Rank by `checked` scores; ``None`` where there was nothing to score."""
        scores = Scores((), self.reranker.scale) if scores is None else scores
        hits = ranked(self.candidates, scores, self.where, self.unscored)
        trace = self.trace(
            scale=scores.scale,
            **scores_of(hits),
            cached=tuple(self.candidates[self.where[i]].id for i in scores.cached),
            usage=scores.usage,
            attempts=sum(request.attempts for request in scores.requests),
            failures=tuple(failure for request in scores.requests for failure in request.failures),
            notes=self.notes + scores.notes,
            children=scores.requests if len(scores.requests) > 1 else (),
        )
        return Ranking(self.asked, hits, scores.scale, trace, scores.usage)

    def checked(self, scores: Scores | None) -> Scores:
        """Hold the backend to its word, and warn where it cut texts: the caller is looked for on the stack."""
        expected = len(self.texts)
        sound = checked(self.reranker, scores, expected)
        cut = sum(coverage.truncated for coverage in sound.coverage)
        if cut:
            warnings.warn(
                f"{self.reranker.label} read only the beginning of {cut} of {expected} texts; hit.coverage says how "
                'much, and on_overflow="error" refuses instead',
                TruncationWarning,
                stacklevel=levels_to_the_caller(),
            )
        return sound


def checked(reranker: PointwiseReranker, scores: Scores | None, expected: int) -> Scores:
    """Hold a backend to its word: as many finite scores as texts, in plain floats.

    Raises:
        BadResponse: It gave something else.
    """

    def bad(what: str) -> BadResponse:
        return BadResponse(f"{reranker.label}{what}", backend=reranker.kind, model=getattr(reranker, "model", None))

    if not isinstance(scores, Scores):
        raise bad(f" gave {type(scores).__name__} instead of Scores")
    if len(scores.values) != expected or (scores.coverage and len(scores.coverage) != expected):
        raise bad(f" gave {len(scores.values)} scores and {len(scores.coverage)} coverages for {expected} texts")
    try:
        return replace(scores, values=checked_values(scores.values))
    except InputError as error:
        raise bad(f": {error}") from error


def levels_to_the_caller() -> int:
    """Return how many frames lie between the one that asks and the first outside this package: composites nest."""
    package, levels = __name__.partition(".")[0], 0
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == package:
        frame, levels = frame.f_back, levels + 1
    return levels + 1
