"""One call of a pointwise reranker: what comes in is checked and repaired, what comes out is checked and ranked."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from rag_rerank._clock import now
from rag_rerank._deadline import timely
from rag_rerank._progress import Progress, tells
from rag_rerank._run import describe, scores_of
from rag_rerank.errors import BadResponse, InputError, InputTooLong, RerankError, TruncationWarning
from rag_rerank.trace import Trace
from rag_rerank.types import BLANK, Candidate, Ranking, Scores, blank, check_top_k, checked_values, ranked

if TYPE_CHECKING:
    from rag_rerank.base import PointwiseReranker

__all__ = ["Request", "as_candidates", "levels_to_the_caller", "readable"]


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
