"""Which hits enter the context: the order of the hits, and one decision for each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Literal

from rag_rerank.context.layout import Arrangement, HitPlace
from rag_rerank.context.relevant_parts import piece_of
from rag_rerank.context.result import Dropped, Piece
from rag_rerank.context.similarity import SimilarityMeasure, normalised_text
from rag_rerank.context.token_budget import Budget
from rag_rerank.text.sentences import Span, largest, sentences, trimmed_span
from rag_rerank.types import Hit, RelevantSpan


class HitOrder:
    """The order in which hits are considered: by rank, or by maximal marginal relevance.

    Maximal marginal relevance (Carbonell and Goldstein, SIGIR 1998): the next hit is the one with the greatest
    ``(1 - diversity) * relevance - diversity * (greatest similarity to a selected hit)``. Relevance is the raw score,
    mapped to 0..1 by the least and the greatest raw score, because similarities have that range too. (Sigmoids crowd
    at 1, where any similarity outweighs them: on trec-dl19 that cost a tenth of the relevant texts.) Hits without a
    score come last.

    Args:
        hits: In the order of the ranking.
        diversity: Weight of the similarity, 0..1.
        similarity: Of the hits' texts, in their order; ``None`` where no similarities are needed.
    """

    def __init__(self, hits: Sequence[Hit], diversity: float, similarity: SimilarityMeasure | None) -> None:
        import numpy as np

        self._diversity = diversity
        self._measure = similarity
        self._scored = [i for i, hit in enumerate(hits) if hit.raw_score is not None]
        self._unscored = [i for i, hit in enumerate(hits) if hit.raw_score is None]
        halves = (0.0 if hit.raw_score is None else hit.raw_score / 2 for hit in hits)  # no difference overflows
        scores = np.fromiter(halves, dtype=np.float64, count=len(hits))
        low, high = (scores[self._scored].min(), scores[self._scored].max()) if self._scored else (0.0, 0.0)
        self._relevance = (scores - low) / (high - low or 1.0)
        self._similarity = np.zeros(len(hits))  # of each hit, to the nearest selected one
        self._nearest = np.zeros(len(hits), dtype=int)

    def __iter__(self) -> Iterator[int]:
        """Yield positions of hits, each once; the order depends on the hits selected so far."""
        if self._diversity:
            yield from self._by_marginal_relevance()
        else:
            yield from self._scored
        yield from self._unscored

    def _by_marginal_relevance(self) -> Iterator[int]:
        remaining = list(self._scored)
        while remaining:
            relevance = (1 - self._diversity) * self._relevance[remaining]
            marginal = relevance - self._diversity * self._similarity[remaining]
            yield remaining.pop(int(marginal.argmax()))  # the first of equal ones, which has the better rank

    def select(self, position: int) -> None:
        """Note that a hit is selected."""
        if self._measure is not None:
            similarity = self._measure.to_all(position)
            nearer = similarity > self._similarity
            self._similarity[nearer] = similarity[nearer]
            self._nearest[nearer] = position

    def nearest(self, position: int) -> tuple[float, int]:
        """Return the greatest similarity to a selected hit, and that hit's position; 0 if none is similar."""
        return float(self._similarity[position]), int(self._nearest[position])


class Selection:
    """The pieces that enter the context, and the hits that do not, with reasons.

    A hit is compared with selected hits, never with dropped ones. So a duplicate always repeats a text in the context,
    and only selected hits count for the limits.

    Args:
        hits: In the order of the ranking.
        display_text: Hit's id -> what the LLM reads of it, where that is not its text.
        order: The order in which the hits are considered.
        places: Hit's id -> its place.
        arrangement: How selected hits become pieces.
        budget: The token budget, or ``None``.
        duplicates: For this and the following see `Packing`.
        per_source: See `Packing`.
        top_k: See `Packing`.
        max_tokens: See `Packing`.
        trim: See `Packing`.
        relevant: Hit's id -> its relevant sentences, the most relevant first; empty for all other values of ``trim``. A
            hit without one is dropped.
    """

    def __init__(
        self,
        hits: Sequence[Hit],
        display_text: Mapping[str, str],
        order: HitOrder,
        places: Mapping[str, HitPlace],
        arrangement: Arrangement,
        budget: Budget | None,
        *,
        duplicates: Literal["exact"] | float | None,
        per_source: int | None,
        top_k: int | None,
        max_tokens: int | None,
        trim: Literal["best", "sentences", "relevant"] | None,
        relevant: Mapping[str, Sequence[RelevantSpan]],
    ) -> None:
        self._hits = hits
        self._display_text = display_text
        self._order = order
        self._places = places
        self._arrangement = arrangement
        self._budget = budget
        self._duplicates = duplicates
        self._per_source = per_source
        self._top_k = top_k
        self._max_tokens = max_tokens
        self._trim = trim
        self._relevant = relevant
        self._texts: dict[str, Hit] = {}
        self._sources: Counter[Hashable] = Counter()
        self.pieces: list[Piece] = []  # one a hit, in the order of selection
        self.dropped: list[Dropped] = []
        self.notes: list[str] = []
        self.best_is_out = False  # the first hit is over the budget by itself, and nothing of it is kept
        for position in order:
            self._consider(position)

    def _consider(self, position: int) -> None:
        """Select or drop a hit."""
        hit = self._hits[position]
        drop = self._without_relevant_span(hit) or self._duplicate(position) or self._over_a_limit(hit)
        piece = self._piece_within_budget(hit) if drop is None else None
        if piece is not None:
            self.pieces.append(piece)
            self._order.select(position)
            self._texts.setdefault(normalised_text(hit.text), hit)
            self._sources[self._places[hit.id].source] += 1
        else:
            self.dropped.append(drop or self._over_budget(hit))

    def _without_relevant_span(self, hit: Hit) -> Dropped | None:
        """Return the hit as dropped if the reranker says that nothing in it is relevant; else ``None``."""
        if self._relevant.get(hit.id, True):
            return None
        detail = "the reranker says that nothing in its text is relevant"
        return Dropped(hit=hit, reason="no_relevant_span", detail=detail)

    def _duplicate(self, position: int) -> Dropped | None:
        """Return the hit as dropped if its text repeats, or is similar to, that of a selected hit; else ``None``."""
        if self._duplicates is None:
            return None
        hit = self._hits[position]
        twin = self._texts.get(normalised_text(hit.text))
        detail = "the same text as"
        if twin is None and self._duplicates != "exact":
            similarity, other = self._order.nearest(position)
            if similarity >= self._duplicates:
                twin, detail = self._hits[other], f"similarity {similarity:.2f} to"
        if twin is None:
            return None
        return Dropped(hit=hit, reason="duplicates", detail=f"{detail} candidate {twin.id!r}", duplicate_of=twin.id)

    def _over_a_limit(self, hit: Hit) -> Dropped | None:
        """Return the hit as dropped if its source, or the whole context, has its limit of hits; else ``None``."""
        source = self._places[hit.id].source
        if self._per_source is not None and source is not None and self._sources[source] >= self._per_source:
            detail = f"{self._per_source} hits of its source are kept"  # which is metadata, and no matter of records
            return Dropped(hit=hit, reason="per_source", detail=detail)
        if len(self.pieces) == self._top_k:
            return Dropped(hit=hit, reason="top_k", detail=f"{self._top_k} hits are kept")
        return None

    def _over_budget(self, hit: Hit) -> Dropped:
        detail = f"the context would be over {self._max_tokens} tokens with it"
        return Dropped(hit=hit, reason="max_tokens", detail=detail)

    def _piece_within_budget(self, hit: Hit) -> Piece | None:
        """Return a hit as a piece, trimmed if the options allow it and it is needed; ``None`` where it does not fit."""
        text = self._display_text.get(hit.id, hit.text)
        if relevant := self._relevant.get(hit.id):
            return self._relevant_piece(hit, text, relevant)
        whole = Piece(text=text, hits=(hit,))
        if self._fits(whole):
            return whole
        is_best = not self.pieces and not self.dropped
        others_too = self._trim == "sentences" and not any(piece.trimmed for piece in self.pieces)
        part = self._part_within_budget(hit, text) if others_too or (is_best and self._trim is not None) else None
        if is_best:
            self._note_best(hit, part, len(text))
        elif part is not None and len(sentences(text)) > 1 and not _are_sentences(text, part.trimmed):
            return None  # words of a lesser hit would only fill the budget
        return part

    def _relevant_piece(self, hit: Hit, text: str, spans: Sequence[RelevantSpan]) -> Piece | None:
        """Return the relevant sentences of a hit, or the most relevant ones that fit; ``None`` if none does."""
        places = [(span.start, span.end) for span in spans]
        count = largest(len(places), lambda count: self._fits(piece_of(hit, text, places[:count])))
        piece = piece_of(hit, text, places[:count]) if count else None
        if count == len(places) or self.pieces or self.dropped:
            return piece
        if piece is None:
            piece = self._words_of_best_sentence(hit, text, places[0])
        self.best_is_out = piece is None
        over = f"the relevant sentences of the best hit, candidate {hit.id!r}, are over max_tokens={self._max_tokens}"
        if piece is None:
            self.notes.append(f"{over}, and it is not in the context: nothing of them fits")
        else:
            self.notes.append(f"{over}: it was trimmed to {count or 'a part of one'} of {len(places)}")
        return piece

    def _words_of_best_sentence(self, hit: Hit, text: str, sentence: Span) -> Piece | None:
        start, end = sentence

        def part(span: Span) -> Piece:
            return piece_of(hit, text, [(start + span[0], start + span[1])])

        span = trimmed_span(hit.text[start:end], None, lambda span: self._fits(part(span)))
        return None if span is None else part(span)

    def _note_best(self, hit: Hit, piece: Piece | None, length: int) -> None:
        """Note what is left of the best hit, which is over the budget by itself."""
        self.best_is_out = piece is None
        over = f"the best hit, candidate {hit.id!r}, is over max_tokens={self._max_tokens} by itself"
        if piece is not None and piece.trimmed is not None:
            first, end = piece.trimmed
            self.notes.append(f"{over}: it was trimmed to characters {first} to {end} of {length}")
        else:
            why = "trim=None lets nothing be trimmed" if self._trim is None else "nothing of its text fits"
            self.notes.append(f"{over}, and is not in the context: {why}")

    def _part_within_budget(self, hit: Hit, text: str) -> Piece | None:
        """Return as much of a hit as fits, and a heading of its display text in any case; ``None`` if nothing fits."""
        start = max(0, text.find(hit.text))

        def part(span: Span) -> Piece:
            first, end = (0 if start else span[0]), start + span[1]
            return Piece(text=text[first:end], hits=(hit,), trimmed=(first, end))

        window = hit.window if text == hit.text else None
        everything = (0, len(text))  # may fit as a piece of its own where the merged one does not, and is not trimmed
        span = trimmed_span(
            text[start:],
            window,
            lambda span: part(span).trimmed != everything and self._fits(part(span)),
            may_part_words=not self.pieces,  # the end of a budget is no reason to keep a part of a word
        )
        return None if span is None else part(span)

    def _fits(self, piece: Piece) -> bool:
        if self._budget is None:
            return True
        return self._budget.fits([piece.text for piece in self._arrangement.arrange([*self.pieces, piece])])


def _are_sentences(text: str, span: Span | None) -> bool:
    """Whether a span begins where a sentence begins, and ends where one ends, white space aside."""
    spans = [(end - len(text[start:end].lstrip()), len(text[:end].rstrip())) for start, end in sentences(text)]
    return span is not None and any(span[0] == start for start, _ in spans) and any(span[1] == end for _, end in spans)
