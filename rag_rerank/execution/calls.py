"""One call, from checked candidates to a ranking with its trace: of a pointwise reranker, and of a composite."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, ParamSpec, TypeVar

from rag_rerank._checks import check_values
from rag_rerank.errors import (
    BadResponse,
    InputError,
    InputTooLong,
    QueryTruncationWarning,
    RerankError,
    TruncationWarning,
    caller_stacklevel,
)
from rag_rerank.execution.candidate_advice import advice_on_candidate, advice_on_candidates
from rag_rerank.execution.clock import now
from rag_rerank.execution.deadline import PartialTrace, arun_in_thread, or_deadline_error, publish_partial_trace
from rag_rerank.execution.instruction import notes_on_instruction
from rag_rerank.execution.plan import Call, PlanResult
from rag_rerank.execution.protocols import PointwiseRanker, Ranker, ScoresCandidates
from rag_rerank.execution.ranking import keep_first_stage, ranked_hits
from rag_rerank.text.unicode import is_blank, places_before_repair, valid_unicode
from rag_rerank.trace import Trace, Usage
from rag_rerank.types import BLANK, Candidate, Hit, Ranking, RelevantSpan, Scores

__all__ = [
    "CallLog",
    "CompositeCall",
    "PointwiseCall",
    "as_candidates",
    "check_scores",
    "error_text",
    "map_error_position",
    "offloaded_if_many",
    "redacted_error_text",
    "scores_of",
    "warn_once",
]

P = ParamSpec("P")
T = TypeVar("T")

_MANY = 500
"""Candidates whose checks and sorting together take two milliseconds or more."""


def as_candidates(query: str, candidates: Iterable[Candidate | str]) -> tuple[Candidate, ...]:
    """Check query and candidates of a call, and give plain strings their position as id.

    Raises:
        InputError: See `Reranker.rerank`.
    """
    if not isinstance(query, str):
        raise InputError(f"the query must be a string, got {type(query).__name__}")
    if is_blank(query):
        raise InputError("the query is blank; there is nothing to be relevant to")
    if (advice := advice_on_candidates(candidates)) is not None:
        raise InputError(f"candidates must be a sequence of texts or Candidates; {advice}")
    checked = []
    position_of: dict[str, int] = {}
    for i, item in enumerate(candidates):
        candidate = Candidate(str(i), item) if isinstance(item, str) else item
        if not isinstance(candidate, Candidate):
            raise InputError(f"candidates[{i}] must be a string or a Candidate, {advice_on_candidate(item)}")
        if candidate.id in position_of:
            raise InputError(
                f"candidates[{position_of[candidate.id]}] and candidates[{i}] have the same id {candidate.id!r}; "
                "ids must be unique within a request"
            )
        position_of[candidate.id] = i
        checked.append(candidate)
    return tuple(checked)


class PointwiseCall:
    """One call of a pointwise reranker."""

    def __init__(self, reranker: PointwiseRanker, query: str, candidates: tuple[Candidate, ...]) -> None:
        self.started = now()
        self.reranker = reranker
        self.query_as_given = query
        self.query = valid_unicode(query)
        self.candidates = candidates
        self.unscored = {i: BLANK for i, c in enumerate(candidates) if is_blank(c.text)}
        self.positions = [i for i in range(len(candidates)) if i not in self.unscored]
        self.texts = [valid_unicode(candidates[i].text) for i in self.positions]
        repaired = sum(text is not candidates[i].text for i, text in zip(self.positions, self.texts, strict=True))
        self.notes = ((f"{repaired} texts held lone surrogates, which were read as U+FFFD",) if repaired else ()) + (
            ("the query held lone surrogates, which were read as U+FFFD",) if self.query is not query else ()
        )
        self.notes += notes_on_instruction(reranker)
        self.partial_trace = PartialTrace()
        publish_partial_trace(self.unfinished_trace)

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
    def attach_trace(self) -> Iterator[None]:
        """Attach the trace of this call to an error that leaves it."""
        try:
            with self.partial_trace.published():
                yield
        except RerankError as failure:
            error = or_deadline_error(failure, self.reranker.label)
            if isinstance(error, InputTooLong) and error.position is not None:
                error.args = (f"candidate {self.candidates[self.positions[error.position]].id!r}: {error}",)
            error.trace = replace(self.unfinished_trace(failure.trace), error=error_text(error))
            if error is failure:
                raise
            raise error from failure

    def unfinished_trace(self, inner: Trace | None = None) -> Trace:
        """Return the trace node of this call without an answer; ``inner`` is the backend's trace so far, if any."""
        inner = inner or self.partial_trace.trace or Trace(step="")
        return self.trace(
            notes=self.notes + inner.notes,
            attempts=inner.attempts,
            failures=inner.failures,
            usage=inner.usage,
            children=inner.children,
        )

    def ranking(self, scores: Scores | None) -> Ranking:
        """Rank by scores from `check`; ``None`` where there was nothing to score."""
        scores = Scores((), self.reranker.scale) if scores is None else keep_first_stage(scores)
        hits = ranked_hits(self.candidates, scores, self.positions, self.unscored)
        trace = self.trace(
            scale=scores.scale,
            **scores_of(hits),
            query_coverage=scores.query_coverage,
            cached=tuple(self.candidates[self.positions[i]].id for i in scores.cached),
            usage=scores.usage,
            attempts=sum(request.attempts for request in scores.requests),
            failures=tuple(failure for request in scores.requests for failure in request.failures),
            notes=self.notes + scores.notes,
            children=scores.requests if len(scores.requests) > 1 else (),
        )
        none_scored = bool(scores.unscored) and len(scores.unscored) == len(self.texts)
        return Ranking(self.query_as_given, hits, scores.scale, trace, scores.usage, scores.degraded, none_scored)

    def score(self) -> Scores:
        """Return the scores of the backend: of the texts, or of the candidates where it reads more of them."""
        if isinstance(self.reranker, ScoresCandidates):
            return self.reranker.score_candidates(self.query, self.texts, self._scored_candidates)
        return self.reranker.score(self.query, self.texts)

    async def ascore(self) -> Scores:
        """Do what `score` does without blocking the event loop."""
        if isinstance(self.reranker, ScoresCandidates):
            return await self.reranker.ascore_candidates(self.query, self.texts, self._scored_candidates)
        return await self.reranker.ascore(self.query, self.texts)

    @property
    def _scored_candidates(self) -> list[Candidate]:
        return [self.candidates[position] for position in self.positions]

    def check(self, scores: Scores | None) -> Scores:
        """Check what the backend returned, and warn where it cuts texts, once a reranker.

        How many texts of this call were cut, and by how much, is in the coverage of the hits and of the trace.
        """
        expected = len(self.texts)
        valid = check_scores(self.reranker, scores, expected)
        if valid.spans:
            valid = replace(valid, spans=self._checked_spans(valid.spans))
        if any(coverage.truncated and not coverage.estimated for coverage in valid.coverage):
            warn_once(
                self.reranker,
                f"{self.reranker.label} read only the beginning of texts that are longer than its window; hit.coverage "
                'says how much of each, and on_overflow="error" refuses instead',
                TruncationWarning,
            )
        if valid.query_coverage is not None:
            warn_once(
                self.reranker,
                f"{self.reranker.label} read only the beginning of a query, which is longer than its share of the "
                'window; the trace says how much, and on_long_query="error" refuses instead',
                QueryTruncationWarning,
            )
        return valid

    def _checked_spans(self, spans: Sequence[tuple[RelevantSpan, ...] | None]) -> list[tuple[RelevantSpan, ...] | None]:
        """Return spans at their places in the candidates' texts; a surrogate pair is one character for the backend.

        Raises:
            BadResponse: A span is not within its text, or begins before the end of the one before.
        """
        valid_spans: list[tuple[RelevantSpan, ...] | None] = []
        for position, text, of_text in zip(self.positions, self.texts, spans, strict=True):
            if of_text is None:
                valid_spans.append(None)
                continue
            ends = [0, *(span.end for span in of_text)]
            if ends[-1] > len(text) or any(span.start < end for span, end in zip(of_text, ends, strict=False)):
                raise _bad_response(self.reranker, f" gave spans that overlap or leave the text {len(valid_spans)}")
            original = self.candidates[position].text
            if len(original) > len(text):
                places = places_before_repair(original)
                of_text = tuple(replace(s, start=places[s.start], end=places[s.end]) for s in of_text)
            valid_spans.append(tuple(of_text))
        return valid_spans


def _bad_response(reranker: PointwiseRanker, problem: str) -> BadResponse:
    return BadResponse(f"{reranker.label}{problem}", backend=reranker.kind, model=getattr(reranker, "model", None))


def check_scores(reranker: PointwiseRanker, scores: Scores | None, expected: int) -> Scores:
    """Return the scores in plain floats: as many as texts, and each finite.

    Raises:
        BadResponse: The backend returned something else.
    """
    bad_response = partial(_bad_response, reranker)
    if not isinstance(scores, Scores):
        raise bad_response(f" gave {type(scores).__name__} instead of Scores")
    if len(scores.values) != expected or (scores.coverage and len(scores.coverage) != expected):
        counts = f"{len(scores.values)} scores and {len(scores.coverage)} coverages"
        raise bad_response(f" gave {counts} for {expected} texts")
    if scores.spans and len(scores.spans) != expected:
        raise bad_response(f" gave the spans of {len(scores.spans)} texts for {expected} texts")
    if not all(position in range(expected) and reason for position, reason in scores.unscored.items()):
        raise bad_response(f" left texts at positions {sorted(scores.unscored)} of {expected} without a score")
    try:
        values = [0.0 if i in scores.unscored else value for i, value in enumerate(scores.values)]
        return replace(scores, values=check_values(values))
    except InputError as error:
        raise bad_response(f": {error}") from error


@dataclass(slots=True)
class CallLog:
    """The log that a driver keeps of a plan: the trace of every call, and why rankings were degraded."""

    traces: list[Trace] = field(default_factory=list)
    degraded: list[str] = field(default_factory=list)
    running: list[PartialTrace] = field(default_factory=list)

    @property
    def children(self) -> tuple[Trace, ...]:
        """The traces of all calls, with the partial traces of those that still run."""
        running = [partial_trace.trace for partial_trace in self.running]
        return (*self.traces, *(trace for trace in running if trace is not None))

    @contextmanager
    def one_call(self) -> Iterator[PartialTrace]:
        """Hold the partial trace of one call while it runs."""
        self.running = [PartialTrace()]
        try:
            yield self.running[0]
        finally:
            self.running = []

    def add_answer(self, ranking: Ranking) -> Ranking:
        """Log a call that returned a ranking; return the ranking."""
        self.traces.append(ranking.trace)
        self.degraded += ranking.degraded
        return ranking

    def add_failure(self, call: Call, error: RerankError) -> RerankError:
        """Log a call that failed; return the error."""
        self.traces.append(error.trace or Trace(step=call.reranker.label, error=error_text(error)))
        return error


class CompositeCall:
    """One call of a composite."""

    def __init__(self, reranker: Ranker, query: str) -> None:
        self.started = now()
        self.reranker = reranker
        self.query = query
        self.log = CallLog()
        publish_partial_trace(self.trace)

    def trace(self, **facts: Any) -> Trace:
        """Return the trace node of this call, as of now, with all calls so far inside."""
        children = self.log.children
        return Trace(
            step=self.reranker.label,
            kind=self.reranker.kind,
            seconds=now() - self.started,
            usage=Usage.total(child.usage for child in children),
            children=children,
            **facts,
        )

    @contextmanager
    def attach_trace(self) -> Iterator[None]:
        """Attach the trace of this call to an error that leaves it."""
        try:
            yield
        except RerankError as error:
            error.trace = self.trace(error=error_text(error))
            raise

    def ranking(self, result: PlanResult) -> Ranking:
        """Return the ranking of a plan's result."""
        facts = scores_of(result.hits) if result.own_scores else {}
        trace = self.trace(scale=result.scale, notes=result.notes, contributions=result.contributions, **facts)
        degraded = tuple(dict.fromkeys((*self.log.degraded, *result.degraded)))
        return Ranking(
            self.query,
            result.hits,
            result.scale,
            trace,
            trace.usage,
            degraded,
            result.substituted,
            answerable=result.answerable,
        )


def scores_of(hits: Sequence[Hit]) -> dict[str, Any]:
    """Return the facts of a trace node about hits: scores, reasons for no score, and how much of each text was read."""
    return {
        "scores": {hit.candidate.id: hit.raw_score for hit in hits if hit.raw_score is not None},
        "unscored": {hit.candidate.id: hit.unscored for hit in hits if hit.unscored is not None},
        "coverage": {hit.candidate.id: hit.coverage for hit in hits if hit.coverage is not None},
    }


def error_text(error: BaseException) -> str:
    """Return an error as one line of a trace: its class and its message."""
    return f"{type(error).__name__}: {error}"


def redacted_error_text(error: BaseException | None) -> str:
    """Return an error as a record may keep it: only the class of a foreign one, whose message may hold anything."""
    return error_text(error) if isinstance(error, RerankError) else type(error).__name__


@contextmanager
def map_error_position(positions: Sequence[int]) -> Iterator[None]:
    """Turn the position in an `InputTooLong`, one among the texts that were passed on, into that among all texts.

    Args:
        positions: The positions of the texts that were passed on, among all texts.
    """
    try:
        yield
    except InputTooLong as error:
        if error.position is not None:
            error.position = positions[error.position]
        raise


def warn_once(reranker: Ranker, message: str, category: type[Warning]) -> None:
    """Warn of a reranker at its first occasion in this process; the warning names the caller's line.

    Python's own filter shows a text once a place, and would show it again wherever the reranker is called.
    """
    if vars(reranker).setdefault(f"warned of {category.__name__} by process {os.getpid()}", message) is message:
        warnings.warn(message, category, stacklevel=caller_stacklevel())


async def offloaded_if_many(candidates: object, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Do work of some microseconds a candidate; on a thread if it would block the event loop for too long."""
    if not (isinstance(candidates, tuple) and len(candidates) > _MANY):
        return work(*args, **kwargs)
    return await arun_in_thread(partial(work, *args, **kwargs))
