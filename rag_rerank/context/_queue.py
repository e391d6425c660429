"""Which hit is looked at next: the next in rank, or by maximal marginal relevance."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rag_rerank.context._likeness import Likeness
from rag_rerank.types import Hit


class Queue:
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

    def __init__(self, hits: Sequence[Hit], diversity: float, likeness: Likeness | None) -> None:
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
