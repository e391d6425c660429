"""Relevant spans: how relevant each sentence of the best hits is by itself."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Any, ClassVar, NamedTuple

from rag_rerank._checks import at_least
from rag_rerank.base import Reranker
from rag_rerank.compose.wrapper import Wrapper, check_reranker
from rag_rerank.documentation import SCORES
from rag_rerank.errors import ConfigError, TransientError
from rag_rerank.execution.plan import Call, InThread, Plan, PlanResult, PlanStep, ScoresSentences
from rag_rerank.text.sentences import Span, sentence_places
from rag_rerank.text.unicode import is_blank
from rag_rerank.trace import Usage
from rag_rerank.types import Candidate, Hit, Ranking, RelevantSpan

__all__ = ["RelevantSpans"]

Spans = tuple[RelevantSpan, ...]


@dataclass(frozen=True, kw_only=True)
class RelevantSpans(Wrapper):
    """A reranker whose best hits say which of their sentences answer the query.

    Order and scores of the ranking stay as they are. ``hit.spans`` has the place and the score of each sentence, and
    `pack` with ``trim="relevant"`` keeps the sentences that answer. Where the scores come from depends on the reranker:

    - A `LateInteractionReranker` compares the query with the token vectors of each sentence, which it has at hand from
      the whole text, kept or new. Nothing is encoded twice. Sentences behind the cut of a long text, and all sentences
      where ``pool`` is above 1 (several tokens then share a vector), are scored as texts.
    - A `TorchReranker` with an OpenProvence model has a second head, which scores sentences while the first scores the
      text. It decides itself which ones are relevant.
    - A `CohereReranker` with ``relevant_spans`` returns relevant spans with its scores.
    - For any other reranker, all sentences of the best hits go in one further call, each as a text of its own.

    Hits without a score have no spans, and blank sentences are left out. If the call for the sentences fails with a
    `TransientError` (a timeout, a rate limit), the ranking comes without new spans, and ``ranking.degraded`` says so.

    Put this around a `Cached`, and not into one.

    Args:
        reranker: The reranker that ranks the texts.
        by: The reranker that scores the sentences. By default the same one. Name a cheaper one if sentences cost too
            much.
        top_k: How many hits get spans at most, from the best one on. Where sentences are texts of their own, each hit
            costs as many texts as it has sentences.

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
        first = list(islice((text for text in texts if not is_blank(text)), self.top_k))
        cost = self.reranker.estimate(query, texts)
        if not _gives_spans(self._by):
            parts = [text[start:end] for text in first for start, end in sentence_places(text)]
            return cost + self._by.estimate(query, parts)
        return cost if self.by is None else cost + self.by.estimate(query, first)

    def texts_within(self, query: str, texts: Sequence[str], seconds: float) -> None:
        """Return ``None``: which sentences will be scored is not known before the ranking."""

    @property
    def _by(self) -> Reranker:
        return self.reranker if self.by is None else self.by

    def _plan(self, query: str, candidates: tuple[Candidate, ...]) -> Plan:
        ranking: Ranking = yield Call(self.reranker, query, candidates, spans=self.by is None)
        answer = PlanResult(ranking.hits, ranking.scale, substituted=ranking.substituted, answerable=ranking.answerable)
        best = [hit for hit in ranking if hit.raw_score is not None][: self.top_k]
        notes: list[str] = []
        try:
            if self.by is not None and _gives_spans(self.by) and best:
                of_whole_texts: Ranking = yield Call(self.by, query, tuple(hit.candidate for hit in best), spans=True)
                best = [hit for hit in of_whole_texts if hit.raw_score is not None]
            elif self.by is not None:
                best = [replace(hit, spans=None) for hit in best]  # those of the reranker that ranks
            spans = yield from self._complete(query, candidates, best, notes)
        except TransientError as error:
            reason = f"without relevant spans: {self._by.label} failed ({type(error).__name__})"
            return replace(answer, degraded=(reason,))
        hits = tuple(replace(hit, spans=spans.get(hit.id)) for hit in ranking)
        return replace(answer, hits=hits, notes=tuple(notes))

    def _complete(
        self, query: str, candidates: tuple[Candidate, ...], best: Sequence[Hit], notes: list[str]
    ) -> Generator[PlanStep, Any, dict[str, Spans]]:
        """Return the spans of hits: those that came with scores, and the other sentences as texts of their own.

        All others are scored in one call. A sentence at a cut is among them, because only a part of it was read.
        """
        with_scores = {hit.id: _spans_read_whole(hit) for hit in best if hit.spans is not None}
        if with_scores:
            notes.append(f"{self._by.label} gave the relevant spans of {len(with_scores)} hits with their scores")
        parts: list[_Sentence] = yield InThread(partial(_split, best, candidates, with_scores))
        if not parts:
            return with_scores
        scored: Ranking = yield Call(self._by, query, tuple(part.candidate for part in parts), spans=False)
        without = sum(hit.raw_score is None for hit in scored)
        note = f"{len(parts)} sentences of {len({part.hit.id for part in parts})} hits were scored by {self._by.label}"
        notes.append(f"{note}, {without} of which got no score" if without else note)
        more = _spans_by_hit(parts, scored)
        return {
            hit.id: spans
            for hit in best
            if (spans := with_scores.get(hit.id, ()) + more.get(hit.id, ())) or hit.spans == ()
        }


def _gives_spans(reranker: Reranker) -> bool:
    """Whether a reranker returns spans with its scores where they are wanted."""
    return isinstance(reranker, ScoresSentences) and reranker.scores_sentences


def _spans_read_whole(hit: Hit) -> Spans:
    """Return the spans that a hit has, without the last one if the text was cut."""
    spans = hit.spans or ()
    return spans[:-1] if _is_cut(hit) else spans


def _is_cut(hit: Hit) -> bool:
    return hit.coverage is not None and hit.coverage.truncated and all(s.is_relevant is None for s in hit.spans or ())


class _Sentence(NamedTuple):
    """A sentence of a hit: its place in the text, and the candidate that it goes to the reranker as."""

    hit: Hit
    place: Span
    candidate: Candidate


def _split(hits: Sequence[Hit], candidates: Sequence[Candidate], with_scores: Mapping[str, Spans]) -> list[_Sentence]:
    """Return the sentences of the hits that have no score yet. Takes some time: texts are split."""
    mark = "#"
    while any(mark in candidate.id for candidate in candidates):  # so that no sentence's id is a candidate's
        mark += "#"
    parts = []
    for hit in hits:
        if hit.id in with_scores and not _is_cut(hit):
            continue
        scored_up_to = max((span.end for span in with_scores.get(hit.id, ())), default=0)
        parts += [
            _Sentence(hit, (a, b), replace(hit.candidate, id=f"{hit.id}{mark}{i}", text=hit.text[a:b], vector=None))
            for i, (a, b) in enumerate(sentence_places(hit.text), start=1)
            if a >= scored_up_to
        ]
    return parts


def _spans_by_hit(parts: Sequence[_Sentence], scored: Ranking) -> dict[str, Spans]:
    """Return the spans of each hit with sentences that got a score; a sentence without one is left out."""
    scores = {hit.id: (hit.score, hit.raw_score) for hit in scored}
    spans: dict[str, list[RelevantSpan]] = {part.hit.id: [] for part in parts}
    for part in parts:
        score, raw = scores[part.candidate.id]
        if score is not None and raw is not None:
            spans[part.hit.id].append(RelevantSpan(*part.place, score, raw))
    return {id: tuple(of_hit) for id, of_hit in spans.items() if of_hit}
