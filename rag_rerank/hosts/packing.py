"""Packing for a host: what the reranker read is not always what the LLM will read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from rag_rerank.context import Context, Packing, Piece
from rag_rerank.errors import ConfigError
from rag_rerank.execution.ranking import place_in_part
from rag_rerank.types import Hit, Ranking

__all__ = ["describe_changes", "pack_hits", "with_text"]


def with_text(hit: Hit, text: str, start: int | None, metadata: Mapping[str, Any] | None = None) -> Hit:
    """Return a hit with the text that the host returns, in place of the text that was scored.

    Args:
        hit: The hit.
        text: The other text.
        start: The character of the scored text at which the other one begins; ``None`` if it is not in there. With it,
            the best window of a long text and the relevant spans stay where they are.
        metadata: Other metadata; ``None`` for the hit's own.
    """
    candidate = hit.candidate
    candidate = replace(candidate, text=text, metadata=candidate.metadata if metadata is None else metadata)
    if text == hit.text:
        return replace(hit, candidate=candidate)
    # coverage counts the tokens of the scored text
    return replace(place_in_part(hit, candidate, start), coverage=None)


def pack_hits(
    packing: Packing, ranking: Ranking, hits: Sequence[Hit], display_text: Mapping[str, str] | None = None
) -> Context:
    """Pack a ranking with these hits in place of its own; see `Packing.pack`.

    Raises:
        ConfigError: As `Packing.pack`, with the path of the option ``context``.
    """
    try:
        return packing.pack(replace(ranking, hits=tuple(hits)), display_text=display_text)
    except ConfigError as error:
        raise error.under("context") from error.__cause__


def describe_changes(piece: Piece, own_ids: Sequence[str | None]) -> dict[str, Any]:
    """Return the metadata of a piece that say why its text is not that of its best hit; empty where it is.

    Args:
        piece: The piece.
        own_ids: The host's own id of each of its hits.
    """
    marks: dict[str, Any] = {}
    if len(piece.hits) > 1:
        marks["merged_ids"] = list(own_ids)
    if piece.trimmed is not None:
        marks["trimmed"] = list(piece.trimmed)
    if piece.parts:
        marks["trimmed_parts"] = [list(part) for part in piece.parts]
    return marks
