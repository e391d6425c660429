"""Relevant spans: how relevant each sentence of the best hits is by itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import ClassVar, NamedTuple

from rag_rerank._checks import at_least
from rag_rerank.base import Reranker
from rag_rerank.compose.wrapper import Wrapper, check_reranker
from rag_rerank.documentation import SCORES
from rag_rerank.errors import ConfigError, TransientError
from rag_rerank.execution.plan import Call, InThread, Plan, PlanResult
from rag_rerank.text.sentences import Span, sentences
from rag_rerank.text.unicode import is_blank
from rag_rerank.trace import Usage
from rag_rerank.types import Candidate, Hit, Ranking, RelevantSpan

__all__ = ["RelevantSpans"]


@dataclass(frozen=True, kw_only=True)
class RelevantSpans(Wrapper):
    """A reranker whose best hits say which of their sentences answer the query.

    The reranker ranks as before. Then the sentences of its best hits are scored, all in one call, and ``hit.spans``
    has the place and the score of each sentence. Order and scores of the ranking stay. `pack` with
    ``trim="relevant"`` keeps the sentences that answer.

    Hits without a score have no spans, and blank sentences are left out. If the call for the sentences fails with a
    `TransientError` (a timeout, a rate limit), the ranking comes without new spans, and ``ranking.degraded`` says so.

    Put this around a `Cached`, and not into one: the cache keeps scores and no spans, those of sentences too.

    Args:
        reranker: The reranker that ranks the texts.
        by: The reranker that scores the sentences. By default the same one. Name a cheaper one if sentences cost too
            much.
        top_k: How many hits get spans at most, from the best one on. Each costs as many texts as it has sentences.

    Raises:
        ConfigError: One of the two is no reranker, the sentences would get places and no scores, or ``top_k`` is below
            1.
    """

    kind: ClassVar[str] = "spans"

    by: Reranker | None = None
    top_k: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.by is not None:
            check_reranker(self.by, "by")
        if (self.by or self.reranker).scale == "rank":
            raise ConfigError(
                f"{(self.by or self.reranker).label} gives places and no scores, so that half of the sentences would "
                "count as relevant whatever they say; name a reranker with scores",
                path="by",
                page=SCORES,
            )
        at_least(self.top_k, 1, "top_k")

    def estimate(self, query: str, texts: Sequence[str]) -> Usage:
        """Estimate the cost of the texts, and of the sentences of the first ones: the best ones are not known."""
        first = islice((text for text in texts if not is_blank(text)), self.top_k)
        parts = [text[start:end] for text in first for start, end in _sentence_spans(text)]
        return self.reranker.estimate(query, texts) + self._by.estimate(query, parts)

    def texts_within(self, query: str, texts: Sequence[str], seconds: float) -> None:
        """Return ``None``: which sentences will be scored is not known before the ranking."""

    @property
    def _by(self) -> Reranker:
        return self.reranker if self.by is None else self.by

    def _plan(self, query: str, candidates: tuple[Candidate, ...]) -> Plan:
        ranking: Ranking = yield Call(self.reranker, query, candidates)
        answer = PlanResult(ranking.hits, ranking.scale, substituted=ranking.substituted)
        best = [hit for hit in ranking if hit.raw_score is not None][: self.top_k]
        parts: list[_Sentence] = yield InThread(partial(_split, best, candidates))
        if not parts:
            return answer
        try:
            scored: Ranking = yield Call(self._by, query, tuple(part.candidate for part in parts))
        except TransientError as error:
            reason = f"without relevant spans: {self._by.label} failed ({type(error).__name__})"
            return replace(answer, degraded=(reason,))
        spans = _spans_by_hit(parts, scored)
        hits = tuple(replace(hit, spans=spans[hit.id]) if hit.id in spans else hit for hit in ranking)
        without = sum(hit.raw_score is None for hit in scored)
        note = f"{len(parts)} sentences of {len(spans)} hits were scored by {self._by.label}"
        return replace(answer, hits=hits, notes=(f"{note}, {without} of which got no score" if without else note,))


class _Sentence(NamedTuple):
    """A sentence of a hit: its place in the text, and the candidate that it goes to the reranker as."""

    hit: Hit
    place: Span
    candidate: Candidate


def _split(hits: Sequence[Hit], candidates: Sequence[Candidate]) -> list[_Sentence]:
    """Return the sentences of the hits. Takes some time: texts are split."""
    mark = "#"
    while any(mark in candidate.id for candidate in candidates):  # so that no sentence's id is a candidate's
        mark += "#"
    return [
        _Sentence(hit, (a, b), replace(hit.candidate, id=f"{hit.id}{mark}{i}", text=hit.text[a:b]))
        for hit in hits
        for i, (a, b) in enumerate(_sentence_spans(hit.text), start=1)
    ]


def _sentence_spans(text: str) -> Iterator[Span]:
    """Yield the sentences that are not blank, without the white space around them."""
    for start, end in sentences(text):
        sentence = text[start:end]
        if not is_blank(sentence):
            yield end - len(sentence.lstrip()), start + len(sentence.rstrip())


def _spans_by_hit(parts: Sequence[_Sentence], scored: Ranking) -> dict[str, tuple[RelevantSpan, ...]]:
    """Return the spans of each hit whose sentences were scored; a sentence without a score is left out."""
    scores = {hit.id: (hit.score, hit.raw_score) for hit in scored}
    spans: dict[str, list[RelevantSpan]] = {part.hit.id: [] for part in parts}
    for part in parts:
        score, raw = scores[part.candidate.id]
        if score is not None and raw is not None:
            spans[part.hit.id].append(RelevantSpan(*part.place, score, raw))
    return {id: tuple(of_hit) for id, of_hit in spans.items()}
