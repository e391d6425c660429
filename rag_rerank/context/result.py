"""The result of packing: the pieces of a context, and the hits that are not in it, with reasons."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, overload

from rag_rerank.text.short_repr import short_repr
from rag_rerank.types import Hit, Scale

__all__ = ["MARK", "Context", "Dropped", "Piece", "Reason"]

Reason = Literal[
    "blank",
    "answerable",
    "min_score",
    "unscored",
    "no_relevant_span",
    "duplicates",
    "per_source",
    "top_k",
    "max_tokens",
]
"""Why a hit is not in the context: the option that excludes it, or what it lacks.

- ``blank``: it has no text.
- ``answerable``: it is too improbable that any text answers the query.
- ``min_score``: its score is below ``min_score``.
- ``unscored``: it has no score that ``min_score`` could be compared with.
- ``no_relevant_span``: with ``trim="relevant"``, the reranker says that nothing in it is relevant.
- ``duplicates``: it duplicates a hit in the context; ``Dropped.duplicate_of`` is that hit's id.
- ``per_source``: as many hits of its source are in the context already.
- ``top_k``: as many hits are in the context already.
- ``max_tokens``: the context would be over the budget with it.
"""


MARK = " … "
"""What stands in a piece in place of sentences that were left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """One text of the context, as the LLM reads it.

    Args:
        text: The text.
        hits: The hits that it is made of, in the order of reading; several where neighbours were merged.
        tokens: How many tokens the text has by itself; ``None`` without a tokenizer and ``max_tokens``.
        trimmed: The characters (first, after the last) that are left of the hit's text, or of its ``display_text``;
            ``None`` for all.
        parts: With ``trim="relevant"``, the parts within ``trimmed`` that are left, in text order; ``text`` joins them
            with ``" … "``. Empty where all between the two ends is left.
    """

    text: str
    hits: tuple[Hit, ...]
    tokens: int | None = None
    trimmed: tuple[int, int] | None = None
    parts: tuple[tuple[int, int], ...] = ()

    __repr__ = short_repr

    @property
    def best(self) -> Hit:
        """The hit with the best rank."""
        return min(self.hits, key=lambda hit: hit.rank)

    @property
    def trimmed_text(self) -> str:
        """In words, which characters are left; empty for all."""
        if self.trimmed is None:
            return ""
        return "characters " + ", ".join(f"{first:,} to {end:,}" for first, end in self.parts or (self.trimmed,))

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON-ready values; hits are named by their ids."""
        return {
            "text": self.text,
            "ids": [hit.id for hit in self.hits],
            "tokens": self.tokens,
            "trimmed": None if self.trimmed is None else list(self.trimmed),
            "parts": [list(part) for part in self.parts],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Dropped:
    """A hit that is not in the context.

    Args:
        hit: The hit.
        reason: Why, as one of a closed set.
        detail: The same as a sentence, with the numbers.
        duplicate_of: Id of the hit in the context that this one duplicates.
    """

    hit: Hit
    reason: Reason
    detail: str
    duplicate_of: str | None = None

    __repr__ = short_repr

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON-ready values; the hit is named by its id."""
        return {
            "id": self.hit.id,
            "rank": self.hit.rank,
            "reason": self.reason,
            "detail": self.detail,
            "duplicate_of": self.duplicate_of,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Context(Sequence[Hit]):
    """The text for the LLM, with a report on every hit of the ranking; a sequence of the hits in the context.

    The hits are in the order of reading and keep their rank and score. Each hit of the ranking is in exactly one of
    ``pieces`` and ``dropped``.

    Args:
        pieces: The texts, in the order of reading.
        dropped: The other hits, in the order of the ranking.
        separator: The text between two pieces.
        scale: The scale of the hits' scores.
        tokens_before: Tokens of the texts of all hits, joined by the separator; ``None`` where nothing is counted.
        tokens: Tokens of ``text``; ``None`` where nothing is counted.
        tokens_estimated: Whether all these are estimates, because ``max_tokens`` was set without a tokenizer.
        notes: What a reader must know of the context, one sentence each: an option that was not applied and why, a best
            hit that was trimmed or did not fit, counts that are estimates.
        degraded: ``degraded`` of the ranking: why it is not quite what was asked for.
    """

    pieces: tuple[Piece, ...]
    dropped: tuple[Dropped, ...]
    separator: str
    scale: Scale
    tokens_before: int | None = None
    tokens: int | None = None
    tokens_estimated: bool = False
    notes: tuple[str, ...] = ()
    degraded: tuple[str, ...] = ()

    __repr__ = short_repr

    def __str__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        """Return tables for notebooks: the pieces with what was trimmed or merged, and the other hits with reasons."""
        from rag_rerank.text.html import section, table

        pieces = (
            (
                ", ".join(str(hit.rank) for hit in piece.hits),
                ", ".join(hit.id for hit in piece.hits),
                "" if piece.tokens is None else f"{piece.tokens:,}",
                piece.trimmed_text,
                piece.text,
            )
            for piece in self.pieces
        )
        dropped = ((str(drop.hit.rank), drop.hit.id, drop.reason, drop.detail, drop.hit.text) for drop in self.dropped)
        return section(
            f"Context of {len(self):,} {'hit' if len(self) == 1 else 'hits'}{self._size_text}",
            (*(f"Degraded: {reason}" for reason in self.degraded), *(f"Note: {note}" for note in self.notes)),
            table(("#rank", "id", "#tokens", "trimmed to", "text"), pieces, len(self.pieces), "pieces"),
            table(("#rank", "id", "dropped by", "because", "text"), dropped, len(self.dropped), "dropped hits"),
        )

    @property
    def _size_text(self) -> str:
        if self.tokens is None:
            return ""
        tokens = "estimated tokens" if self.tokens_estimated else "tokens"
        return f": {self.tokens:,} {tokens}, of {self.tokens_before or 0:,} in all hits"

    @property
    def text(self) -> str:
        """The pieces, joined by the separator; ``max_tokens`` limits this text."""
        return self.separator.join(piece.text for piece in self.pieces)

    @property
    def hits(self) -> tuple[Hit, ...]:
        """The hits in the context, in the order of reading."""
        return tuple(hit for piece in self.pieces for hit in piece.hits)

    @overload
    def __getitem__(self, index: int) -> Hit: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Hit, ...]: ...
    def __getitem__(self, index: int | slice) -> Hit | tuple[Hit, ...]:
        return self.hits[index]

    def __len__(self) -> int:
        return sum(len(piece.hits) for piece in self.pieces)

    def __iter__(self) -> Iterator[Hit]:
        return iter(self.hits)

    def to_dict(self) -> dict[str, Any]:
        """Return the text and the report as plain JSON-ready values; hits are named by their ids."""
        return {
            "text": self.text,
            "pieces": [piece.to_dict() for piece in self.pieces],
            "dropped": [dropped.to_dict() for dropped in self.dropped],
            "separator": self.separator,
            "scale": self.scale,
            "tokens_before": self.tokens_before,
            "tokens": self.tokens,
            "tokens_estimated": self.tokens_estimated,
            "notes": list(self.notes),
            "degraded": list(self.degraded),
        }
