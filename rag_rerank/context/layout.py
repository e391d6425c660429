"""The layout of a context: merges neighbouring pieces, and puts all in the order of reading."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Literal

from rag_rerank.context.result import Piece
from rag_rerank.documentation import BUDGET
from rag_rerank.errors import ConfigError, InputError
from rag_rerank.types import Candidate, Hit

Merge = Literal["chunks", "characters"]
Order = Literal["relevance", "edges", "source"]
Source = str | Callable[[Candidate], Hashable]

_GAP = 2
"""Characters that may be between two neighbours: white space that the splitter removed."""

_OVERLAP = 20
"""Least length of an overlap, where positions do not give it."""


@dataclass(frozen=True, slots=True)
class HitPlace:
    """The source of a hit's text, and its position there; ``None`` where it is not known."""

    source: Hashable = None
    position: int | None = None


def place(hit: Hit, source: Source | None, position: str | None) -> HitPlace:
    """Read a hit's place from its metadata.

    Raises:
        ConfigError: The function raised.
        InputError: The source cannot be hashed, such as a list.
    """
    metadata = hit.candidate.metadata
    origin = _call_source(hit.candidate, source) if callable(source) else metadata.get(source) if source else None
    try:
        hash(origin)
    except TypeError as error:
        raise InputError(f"candidate {hit.id!r}: a source must be hashable, got {type(origin).__name__}") from error
    return HitPlace(origin, _as_int(metadata.get(position)) if position else None)


def _call_source(candidate: Candidate, source: Callable[[Candidate], Hashable]) -> Hashable:
    try:
        return source(candidate)
    except Exception as error:  # the caller's own code may raise anything
        raise ConfigError(f"the function raised {type(error).__name__}", path="source", page=BUDGET) from error


def _as_int(value: object) -> int | None:
    """Return a whole number as an int, else ``None``; some vector stores return numpy integers, or floats only."""
    if isinstance(value, Integral) and not isinstance(value, bool):
        return int(value)
    return int(value) if isinstance(value, float) and value.is_integer() else None


class Arrangement:
    """The rules that turn selected hits into the pieces of a context.

    Args:
        places: Hit's id -> its place.
        merge: Which neighbours of one source become one piece; see `Packing`.
        order: The order of the pieces; see `Packing`.
    """

    def __init__(self, places: Mapping[str, HitPlace], merge: Merge | None, order: Order) -> None:
        self._places = places
        self._merge = merge
        self._order = order

    def arrange(self, pieces: Iterable[Piece]) -> list[Piece]:
        """Return pieces of one hit each, merged, in the order of reading."""
        return self._sort(self._merge_all(pieces) if self._merge else list(pieces))

    def _sort(self, pieces: list[Piece]) -> list[Piece]:
        by_rank = sorted(pieces, key=lambda piece: piece.best.rank)
        if self._order == "edges":
            return by_rank[::2] + by_rank[1::2][::-1]
        if self._order == "source":
            firsts: dict[Hashable, int] = {}
            for piece in by_rank:
                firsts.setdefault(self._source(piece), len(firsts))
            return sorted(by_rank, key=lambda piece: (firsts[self._source(piece)], self._position(piece)))
        return by_rank

    def _merge_all(self, pieces: Iterable[Piece]) -> list[Piece]:
        merged: list[Piece] = []
        by_source: dict[Hashable, list[Piece]] = {}
        for piece in pieces:
            hit_place = self._places[piece.best.id]
            if piece.trimmed is None and hit_place.source is not None and hit_place.position is not None:
                by_source.setdefault(self._source(piece), []).append(piece)
            else:
                merged.append(piece)
        for source_pieces in by_source.values():
            source_pieces.sort(key=lambda piece: (self._position(piece), piece.best.rank))
            merged += self._chains(source_pieces)
        return merged

    def _chains(self, pieces: Sequence[Piece]) -> list[Piece]:
        """Merge the neighbours among pieces of one source, which come in the order of their positions."""
        chains: list[Piece] = []
        chain_end = 0  # the last chunk of the chain, or the character after it
        for piece in pieces:
            position = self._position(piece)
            text = _join(chains[-1].text, piece.text, position - chain_end, self._merge) if chains else None
            if text is None:
                chains.append(piece)
            else:
                chains[-1] = Piece(text=text, hits=chains[-1].hits + piece.hits)
            end = position if self._merge == "chunks" else position + len(piece.text)
            chain_end = end if text is None else max(chain_end, end)
        return chains

    def _source(self, piece: Piece) -> Hashable:
        source = self._places[piece.best.id].source
        return ("of", source) if source is not None else ("alone", piece.best.id)

    def _position(self, piece: Piece) -> int:
        positions = (self._places[hit.id].position for hit in piece.hits)
        return min((position for position in positions if position is not None), default=0)


def _join(before: str, text: str, distance: int, merge: Merge | None) -> str | None:
    """Return two neighbours as one text without their overlap; ``None`` if they are no neighbours."""
    if merge == "chunks":
        return before + _without_overlap(before, text) if distance == 1 else None
    if distance >= 0:
        return before + ("\n" if distance else "") + text if distance <= _GAP else None
    overlap = before[distance:]  # in both by their positions; the texts must agree
    if text.startswith(overlap) or overlap.startswith(text):
        return before + text[len(overlap) :]
    return None


def _without_overlap(before: str, text: str) -> str:
    """Return a text without its longest beginning that ends the other one; without one, all of it on a new line."""
    at = before.find(text[:_OVERLAP], max(0, len(before) - len(text))) if len(text) >= _OVERLAP else -1
    while at >= 0:
        if text.startswith(before[at:]):
            return text[len(before) - at :]
        at = before.find(text[:_OVERLAP], at + 1)
    return f"\n{text}"


def notes_on_absent_keys(places: Mapping[str, HitPlace], source: Source | None, position: str | None) -> list[str]:
    """Return notes on metadata keys that no hit has: they are probably misspelt."""
    notes = []
    if places and source is not None and all(at.source is None for at in places.values()):
        notes.append("no hit has a source" + (f" under {source!r}" if isinstance(source, str) else ""))
    if places and position is not None and all(at.position is None for at in places.values()):
        notes.append(f"no hit has a whole number under {position!r}")
    return notes
