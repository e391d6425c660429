"""The check of what `Packing.pack` is called with."""

from __future__ import annotations

from collections.abc import Mapping

from rag_rerank.errors import InputError
from rag_rerank.types import Hit, Ranking

__all__ = ["check_arguments"]


def check_arguments(ranking: object, display_text: object) -> None:
    """Raise `InputError` unless there is a ranking, and the texts to display are a mapping of texts."""
    if not isinstance(ranking, Ranking):
        hint = "; await it first" if hasattr(ranking, "__await__") else ""
        if isinstance(ranking, (Hit, list, tuple)):
            hint = "; write pack(ranking.top(k)) for the first hits, and pack(reranker.rerank(query, texts)) for texts"
        raise InputError(f"pack() takes the Ranking that rerank() returns, got {type(ranking).__name__}{hint}")
    if display_text is None:
        return
    if not isinstance(display_text, Mapping) or not all(isinstance(text, str) for text in display_text.values()):
        raise InputError("display_text must map the ids of hits to texts, such as {hit.id: f'[1] {hit.text}'}")
