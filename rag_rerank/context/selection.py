"""Which hits enter the context: threshold, order (rank or marginal relevance), and one decision a hit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Literal

from rag_rerank.context.layout import Arrangement, HitPlace
from rag_rerank.context.result import Dropped, Piece
from rag_rerank.context.similarity import SimilarityMeasure, same
from rag_rerank.context.token_budget import Budget
from rag_rerank.text.sentences import trimmed_span
from rag_rerank.text.unicode import is_blank
from rag_rerank.types import Hit, Ranking, Scale


class HitOrder:
    """The hits, most wanted first; what is wanted depends on what was kept.

    Maximal marginal relevance (Carbonell and Goldstein, SIGIR 1998): the next hit is the one with the greatest
    ``(1 - diversity) * relevance - diversity * (greatest similarity to what is kept)``. Relevance is the raw score,
    moved to 0..1 by the least and the greatest one in the queue, because similarities lie there too. (Sigmoids crowd at
    1, where any similarity outweighs them: on trec-dl19 that cost a tenth of the relevant texts.) Hits without a score
    keep their place, before or behind all that are scored.

    Args:
        hits: In the order of the ranking.
        diversity: Weight of the similarity, 0..1.
        likeness: Of the hits' texts, in their order; ``None`` where nobody asks for similarities.
    """

    def __init__(self, hits: Sequence[Hit], diversity: float, likeness: SimilarityMeasure | None) -> None:
        import numpy as np

        self._diversity = diversity
        self._likeness = likeness
        scored = [i for i, hit in enumerate(hits) if hit.raw_score is not None]
        first = scored[0] if scored else len(hits)
        halves = (0.0 if hit.raw_score is None else hit.raw_score / 2 for hit in hits)  # no difference overflows
        scores = np.fromiter(halves, dtype=np.float64, count=len(hits))
        low, high = (scores[scored].min(), scores[scored].max()) if scored else (0.0, 0.0)
        self._relevance = (scores - low) / (high - low or 1.0)
        self._sections = [[*range(first)], scored, [i for i in range(first, len(hits)) if hits[i].raw_score is None]]
        self._similarity = np.zeros(len(hits))
        self._to = np.zeros(len(hits), dtype=int)

    def __iter__(self) -> Iterator[int]:
        """Yield positions of hits, each once."""
        before, scored, behind = self._sections
        yield from before
        if self._diversity:
            yield from self._by_marginal_relevance(scored)
        else:
            yield from scored
        yield from behind

    def _by_marginal_relevance(self, positions: Sequence[int]) -> Iterator[int]:
        left = list(positions)
        while left:
            marginal = (1 - self._diversity) * self._relevance[left] - self._diversity * self._similarity[left]
            yield left.pop(int(marginal.argmax()))  # the first of equals, which is the higher in rank

    def kept(self, position: int) -> None:
        """Take note that a hit is kept."""
        if self._likeness is not None:
            similarity = self._likeness.to_all(position)
            nearer = similarity > self._similarity
            self._similarity[nearer] = similarity[nearer]
            self._to[nearer] = position

    def nearest(self, position: int) -> tuple[float, int]:
        """Return the greatest similarity to a hit that is kept, and that one's position; 0 where nothing is alike."""
        return float(self._similarity[position]), int(self._to[position])


class Selection:
    """Which hits are kept and which are dropped.

    A hit is compared with the kept hits, never with dropped ones. So a duplicate always stands for something in the
    context, and only kept hits count for the limits.

    Args:
        hits: In the order of the ranking.
        display_text: Hit's id -> what the LLM reads of it, where that is not its text.
        order: In which order the hits are looked at.
        places: Hit's id -> its place.
        arrangement: How kept hits become pieces.
        budget: What they must fit into, or ``None``.
        duplicates: This and the following: see `Packing`.
        per_source: See `Packing`.
        top_k: See `Packing`.
        max_tokens: See `Packing`.
        trim: See `Packing`.
    """

    def __init__(
        self,
        hits: Sequence[Hit],
        display_text: Mapping[str, str],
        order: HitOrder,
        places: dict[str, HitPlace],
        arrangement: Arrangement,
        budget: Budget | None,
        *,
        duplicates: Literal["exact"] | float | None,
        per_source: int | None,
        top_k: int | None,
        max_tokens: int | None,
        trim: Literal["sentences"] | None,
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
        self._texts: dict[str, Hit] = {}
        self._sources: Counter[Hashable] = Counter()
        self.kept: list[Piece] = []
        self.dropped: list[Dropped] = []
        for position in order:
            self._look_at(position)

    def _look_at(self, position: int) -> None:
        hit = self._hits[position]
        refused = self._refused(position)
        piece = self._fitting(hit) if refused is None else None
        if piece is not None:
            self.kept.append(piece)
            self._order.kept(position)
            self._texts.setdefault(same(hit.text), hit)
            self._sources[self._places[hit.id].source] += 1
        else:
            self.dropped.append(refused or self._too_long(hit))

    def _refused(self, position: int) -> Dropped | None:
        hit = self._hits[position]
        if self._duplicates is not None:
            twin = self._texts.get(same(hit.text))
            similarity, other = self._order.nearest(position)
            detail = "the same text as"
            if twin is None and self._duplicates != "exact" and similarity >= self._duplicates:
                twin, detail = self._hits[other], f"similarity {similarity:.2f} to"
            if twin is not None:
                return Dropped(
                    hit=hit, reason="duplicates", detail=f"{detail} candidate {twin.id!r}", duplicate_of=twin.id
                )
        source = self._places[hit.id].source
        if self._per_source is not None and source is not None and self._sources[source] >= self._per_source:
            detail = f"{self._per_source} hits of the source {source!r:.80} are kept"
            return Dropped(hit=hit, reason="per_source", detail=detail)
        if len(self.kept) == self._top_k:
            return Dropped(hit=hit, reason="top_k", detail=f"{self._top_k} hits are kept")
        return None

    def _fitting(self, hit: Hit) -> Piece | None:
        text = self._display_text.get(hit.id, hit.text)
        whole = Piece(text=text, hits=(hit,))
        if self._fits(whole):
            return whole
        if self._trim is None or any(piece.trimmed for piece in self.kept):
            return None

        def trimmed(span: tuple[int, int]) -> Piece:
            return Piece(text=text[slice(*span)], hits=(hit,), trimmed=span)

        window = hit.window if text == hit.text else None
        span = trimmed_span(text, window, lambda span: self._fits(trimmed(span)))
        return None if span is None else trimmed(span)

    def _fits(self, piece: Piece) -> bool:
        if self._budget is None:
            return True
        return self._budget.fits([piece.text for piece in self._arrangement.of([*self.kept, piece])])

    def _too_long(self, hit: Hit) -> Dropped:
        detail = f"the context would be over {self._max_tokens} tokens with it"
        return Dropped(hit=hit, reason="max_tokens", detail=detail)


def apply_threshold(
    ranking: Ranking, min_score: float | None, scale: Scale | None
) -> tuple[list[Hit], list[Dropped], list[str]]:
    """Return the hits that pass, those that do not, and why a threshold was not applied.

    A threshold means something on its own scale only, and for the reranker that it was written for. Hits without a
    score that stand before scored ones were found surely in by a cascade's ``border_only`` stage; they pass.
    """
    hits = [hit for hit in ranking if not is_blank(hit.text)]
    dropped = [Dropped(hit=hit, reason="blank", detail="it has no text") for hit in ranking if is_blank(hit.text)]
    if min_score is None:
        return hits, dropped, []
    why_not = _why_not(ranking, hits, scale)
    if why_not is not None:
        return hits, dropped, [f"min_score={min_score:g} was not applied: {why_not}"] if hits else []
    first = next(i for i, hit in enumerate(hits) if hit.score is not None)
    passed = hits[:first]
    for hit in hits[first:]:
        if hit.score is None:
            why = f"no score to compare with min_score={min_score:g} ({hit.unscored or 'not scored'})"
            dropped.append(Dropped(hit=hit, reason="unscored", detail=why))
        elif hit.score < min_score:
            why = f"score {hit.score:.4g} is below min_score={min_score:g}"
            dropped.append(Dropped(hit=hit, reason="min_score", detail=why))
        else:
            passed.append(hit)
    return passed, dropped, []


def _why_not(ranking: Ranking, hits: list[Hit], scale: Scale | None) -> str | None:
    if ranking.scale != scale:
        return f"it was written for {scale} scores, and these are {ranking.scale}"
    if ranking.substituted and scale != "calibrated":
        return f"another reranker answered than the one that it was written for ({'; '.join(ranking.degraded)})"
    if all(hit.score is None for hit in hits):
        return "no hit has a score"
    return None
