"""From the hits that are kept to pieces: neighbours merged, and all in the order of reading."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Literal

from rag_rerank.context.result import Piece
from rag_rerank.errors import ConfigError, InputError
from rag_rerank.types import Candidate, Hit

Merge = Literal["chunks", "characters"]
Order = Literal["relevance", "edges", "source"]
Source = str | Callable[[Candidate], Hashable]

_GAP = 2
"""Characters that may lie between two neighbours: white space that the splitter took away."""

_OVERLAP = 20
"""Characters that an overlap has at least, where positions do not tell how long it is."""


@dataclass(frozen=True, slots=True)
class HitPlace:
    """Where a hit's text comes from: its source, and where in it; ``None`` where nobody said."""

    source: Hashable = None
    position: int | None = None


def place(hit: Hit, source: Source | None, position: str | None) -> HitPlace:
    """Read a hit's place from its metadata.

    Raises:
        ConfigError: The function raised.
        InputError: The source is a list or a mapping, which cannot be compared.
    """
    found = _told(hit.candidate, source) if callable(source) else hit.candidate.metadata.get(source) if source else None
    try:
        hash(found)
    except TypeError as error:
        raise InputError(f"candidate {hit.id!r}: a source must be hashable, got {type(found).__name__}") from error
    return HitPlace(found, _whole(hit.candidate.metadata.get(position)) if position else None)


def _told(candidate: Candidate, source: Callable[[Candidate], Hashable]) -> Hashable:
    try:
        return source(candidate)
    except Exception as error:  # the caller's own code raises whatever it likes
        raise ConfigError(f"the function raised {type(error).__name__}", path="source") from error


def _whole(value: object) -> int | None:
    """Return a whole number as an int; some vector stores give numpy's back, or floats for all numbers."""
    if isinstance(value, Integral) and not isinstance(value, bool):
        return int(value)
    return int(value) if isinstance(value, float) and value.is_integer() else None


class Arrangement:
    """How kept hits become pieces.

    Args:
        places: Hit's id -> its place.
        merge: Which neighbours of one source become one piece; see `Packing`.
        order: In which order the pieces stand.
    """

    def __init__(self, places: dict[str, HitPlace], merge: Merge | None, order: Order) -> None:
        self._places = places
        self._merge = merge
        self._order = order

    def of(self, kept: Iterable[Piece]) -> list[Piece]:
        """Return the pieces in the order of reading."""
        return self._ordered(self._merged(kept) if self._merge else list(kept))

    def _ordered(self, pieces: list[Piece]) -> list[Piece]:
        by_rank = sorted(pieces, key=lambda piece: piece.best.rank)
        if self._order == "edges":
            return by_rank[::2] + by_rank[1::2][::-1]
        if self._order == "source":
            firsts: dict[Hashable, int] = {}
            for piece in by_rank:
                firsts.setdefault(self._source(piece), len(firsts))
            return sorted(by_rank, key=lambda piece: (firsts[self._source(piece)], self._position(piece)))
        return by_rank

    def _merged(self, kept: Iterable[Piece]) -> list[Piece]:
        pieces: list[Piece] = []
        mergeable: list[Piece] = []
        for piece in kept:
            at = self._places[piece.best.id]
            whole = piece.trimmed is None and at.source is not None and at.position is not None
            (mergeable if whole else pieces).append(piece)
        firsts: dict[Hashable, list[Piece]] = {}
        for piece in mergeable:
            firsts.setdefault(self._source(piece), []).append(piece)
        for same_source in firsts.values():
            same_source.sort(key=lambda piece: (self._position(piece), piece.best.rank))
            pieces += self._chains(same_source)
        return pieces

    def _chains(self, pieces: Sequence[Piece]) -> list[Piece]:
        """Merge neighbours, first to last, of one source in the order of their positions."""
        chains: list[Piece] = []
        reached = 0  # the last chunk of the chain, or the character behind it
        for piece in pieces:
            at = self._position(piece)
            text = _joined(chains[-1].text, piece.text, at - reached, self._merge) if chains else None
            if text is None:
                chains.append(piece)
            else:
                chains[-1] = Piece(text=text, hits=chains[-1].hits + piece.hits)
            end = at if self._merge == "chunks" else at + len(piece.text)
            reached = end if text is None else max(reached, end)
        return chains

    def _source(self, piece: Piece) -> Hashable:
        source = self._places[piece.best.id].source
        return ("of", source) if source is not None else ("alone", piece.best.id)

    def _position(self, piece: Piece) -> int:
        positions = (self._places[hit.id].position for hit in piece.hits)
        return min((at for at in positions if at is not None), default=0)


def _joined(before: str, text: str, distance: int, merge: Merge | None) -> str | None:
    """Return two neighbours as one text with nothing said twice, or ``None`` if they are none."""
    if merge == "chunks":
        return before + _rest(before, text) if distance == 1 else None
    if distance >= 0:
        return before + ("\n" if distance else "") + text if distance <= _GAP else None
    overlap = before[distance:]  # what the positions say is in both; the texts must agree
    if text.startswith(overlap) or overlap.startswith(text):
        return before + text[len(overlap) :]
    return None


def _rest(before: str, text: str) -> str:
    """Return what a text adds behind the other: all but the longest end of that one that begins this one."""
    at = before.find(text[:_OVERLAP], max(0, len(before) - len(text))) if len(text) >= _OVERLAP else -1
    while at >= 0:
        if text.startswith(before[at:]):
            return text[len(before) - at :]
        at = before.find(text[:_OVERLAP], at + 1)
    return f"\n{text}"
