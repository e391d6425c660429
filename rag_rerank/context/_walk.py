"""One walk over the hits, most wanted first: each is kept, kept in part, or dropped for a reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING

from rag_rerank.context._arranging import Arrangement, Place
from rag_rerank.context._budget import Budget
from rag_rerank.context._likeness import same
from rag_rerank.context._queue import Queue
from rag_rerank.context._sentences import part
from rag_rerank.context.report import Dropped, Piece
from rag_rerank.types import Hit

if TYPE_CHECKING:
    from rag_rerank.context.packing import Packing


class Walk:
    """What is kept and what is dropped of some hits.

    A hit is compared with what is kept, never with what was dropped, so that a duplicate always stands for something
    that is in the context, and only kept hits count for the caps.

    Args:
        packing: The options.
        hits: In the order of the ranking.
        shown: Hit's id -> what is read of it, where that is not its text.
        queue: In which order they are looked at.
        places: Hit's id -> its place.
        arrangement: How kept hits are read.
        budget: What they must fit into, or ``None``.
    """

    def __init__(
        self,
        packing: Packing,
        hits: Sequence[Hit],
        shown: Mapping[str, str],
        queue: Queue,
        places: dict[str, Place],
        arrangement: Arrangement,
        budget: Budget | None,
    ) -> None:
        self._packing = packing
        self._hits = hits
        self._shown = shown
        self._queue = queue
        self._places = places
        self._arrangement = arrangement
        self._budget = budget
        self._texts: dict[str, Hit] = {}
        self._sources: Counter[Hashable] = Counter()
        self.kept: list[Piece] = []
        self.dropped: list[Dropped] = []
        for position in queue:
            self._look_at(position)

    def _look_at(self, position: int) -> None:
        hit = self._hits[position]
        refused = self._refused(position)
        piece = self._fitting(hit) if refused is None else None
        if piece is not None:
            self.kept.append(piece)
            self._queue.kept(position)
            self._texts.setdefault(same(hit.text), hit)
            self._sources[self._places[hit.id].source] += 1
        else:
            self.dropped.append(refused or self._too_long(hit))

    def _refused(self, position: int) -> Dropped | None:
        hit, packing = self._hits[position], self._packing
        if packing.duplicates is not None:
            twin = self._texts.get(same(hit.text))
            similarity, other = self._queue.nearest(position)
            detail = "the same text as"
            if twin is None and packing.duplicates != "exact" and similarity >= packing.duplicates:
                twin, detail = self._hits[other], f"similarity {similarity:.2f} to"
            if twin is not None:
                return Dropped(
                    hit=hit, reason="duplicates", detail=f"{detail} candidate {twin.id!r}", duplicate_of=twin.id
                )
        source = self._places[hit.id].source
        if packing.per_source is not None and source is not None and self._sources[source] >= packing.per_source:
            detail = f"{packing.per_source} hits of the source {source!r:.80} are kept"
            return Dropped(hit=hit, reason="per_source", detail=detail)
        if len(self.kept) == packing.top_k:
            return Dropped(hit=hit, reason="top_k", detail=f"{packing.top_k} hits are kept")
        return None

    def _fitting(self, hit: Hit) -> Piece | None:
        text = self._shown.get(hit.id, hit.text)
        whole = Piece(text=text, hits=(hit,))
        if self._fits(whole):
            return whole
        if self._packing.trim is None or any(piece.trimmed for piece in self.kept):
            return None

        def trimmed(span: tuple[int, int]) -> Piece:
            return Piece(text=text[slice(*span)], hits=(hit,), trimmed=span)

        window = hit.window if text == hit.text else None
        span = part(text, window, lambda span: self._fits(trimmed(span)))
        return None if span is None else trimmed(span)

    def _fits(self, piece: Piece) -> bool:
        if self._budget is None:
            return True
        return self._budget.fits([piece.text for piece in self._arrangement.of([*self.kept, piece])])

    def _too_long(self, hit: Hit) -> Dropped:
        detail = f"the context would be over {self._packing.max_tokens} tokens with it"
        return Dropped(hit=hit, reason="max_tokens", detail=detail)
