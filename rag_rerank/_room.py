"""How much of a text a reranker reads beside a query, in tokens that can be counted."""

from __future__ import annotations

from dataclasses import dataclass

from rag_rerank._tokens import Tokens

__all__ = ["Room"]


@dataclass(frozen=True, slots=True)
class Room:
    """What there is room for beside a query: a text with no more than so many of these tokens is read whole.

    Args:
        tokens: At least 1.
        tokenizer: What counts them.
    """

    tokens: int
    tokenizer: Tokens

    def excess(self, text: str) -> int:
        """Return how many tokens of a text are too many; 0 where it fits."""
        return max(0, self.tokenizer.count(text) - self.tokens)
