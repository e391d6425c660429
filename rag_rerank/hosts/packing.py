"""Packing for a host: what the reranker read is not always what the LLM will read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from rag_rerank.context import Context, Packing
from rag_rerank.errors import ConfigError
from rag_rerank.execution.ranking import shift_spans
from rag_rerank.types import Hit, Ranking, RelevantSpan

__all__ = ["pack_hits", "with_text"]


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
    window = None
    spans: tuple[RelevantSpan, ...] | None = None
    if start is not None and hit.window is not None:
        first, last = (min(max(end - start, 0), len(text)) for end in hit.window)
        window = (first, last) if first < last else None
    if start is not None and hit.spans is not None:
        in_text = tuple(shift_spans(hit.spans, -start, len(text)))
        spans = in_text if in_text or not hit.spans else None  # what is relevant may all be outside of the other text
    # coverage counts the tokens of the scored text
    return replace(hit, candidate=candidate, coverage=None, window=window, spans=spans)


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
