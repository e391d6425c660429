"""Whether texts fit into the budget: counted as they are joined, and counted as seldom as can be."""

from __future__ import annotations

from collections.abc import Sequence

from rag_rerank.text.tokenizers import Tokens

_JOINT = 4
"""Tokens by which a joint changes the count of two texts at most, where a tokenizer's counts nearly add up."""


class Budget:
    """Answers whether joined texts are within a limit.

    The joined text is what counts, because tokenizers merge across joints. Counting it anew for every hit would take
    time that grows with the square of the context, so where a guess from the texts' own counts is far enough from
    the limit, the guess decides. What was accepted must therefore be counted in the end; where it is over the limit (a
    tokenizer whose counts do not nearly add up), a ``strict`` budget, which guesses nothing, finds what fits.

    Args:
        tokens: The tokenizer.
        limit: The most tokens that the joined texts may have.
        separator: What joins them.
        strict: Count every time.
    """

    def __init__(self, tokens: Tokens, limit: int, separator: str, *, strict: bool) -> None:
        self._tokens = tokens
        self._limit = limit
        self._separator = separator
        self._strict = strict
        self._alone: dict[str, int] = {}
        self._last = (0, 0, 0)  # of what was counted last: how many texts, the sum of their counts, the joined count

    def fits(self, texts: Sequence[str]) -> bool:
        """Return whether the joined texts are within the limit; True may be a guess, unless strict."""
        if self._strict:
            return self._tokens.count(self._separator.join(texts)) <= self._limit
        total = sum(self._by_itself(text) for text in texts)
        number, sum_then, joined_then = self._last
        more = len(texts) - number
        guess = joined_then + total - sum_then + more * self._by_itself(self._separator)
        doubt = _JOINT * (abs(more) + 2)
        if abs(guess - self._limit) > doubt:
            return guess < self._limit
        joined = self._tokens.count(self._separator.join(texts))
        self._last = (len(texts), total, joined)
        return joined <= self._limit

    def _by_itself(self, text: str) -> int:
        if text not in self._alone:
            self._alone[text] = self._tokens.count(text)
        return self._alone[text]
