"""The token budget: whether joined texts are within it, with as few counts as possible."""

from __future__ import annotations

from collections.abc import Sequence

from rag_rerank.text.tokenizers import Tokens

_JOINT = 4
"""Tokens by which joining two texts changes their counts at most, for a tokenizer whose counts nearly add up."""


class Budget:
    """A check of whether joined texts are within a limit.

    The joined text is counted, because tokenizers merge across joints. Counting it again for every hit would take time
    that grows with the square of the context. So the texts' own counts give a guess, and the guess decides if it is far
    enough from the limit. The caller must therefore count the result in the end. If it is over the limit (a tokenizer
    whose counts do not nearly add up), a ``strict`` budget, which makes no guesses, finds what fits.

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
        self._last = (0, 0, 0)  # the last joined count: number of texts, sum of their counts, joined count

    def fits(self, texts: Sequence[str]) -> bool:
        """Return whether the joined texts are within the limit; True may be a guess, unless strict."""
        if self._strict:
            return self._tokens.count(self._separator.join(texts)) <= self._limit
        total = sum(self._count_alone(text) for text in texts)
        last_number, last_total, last_joined = self._last
        difference = len(texts) - last_number
        guess = last_joined + total - last_total + difference * self._count_alone(self._separator)
        uncertainty = _JOINT * (abs(difference) + 2)
        if abs(guess - self._limit) > uncertainty:
            return guess < self._limit
        count = self._tokens.count(self._separator.join(texts))
        self._last = (len(texts), total, count)
        return count <= self._limit

    def _count_alone(self, text: str) -> int:
        if text not in self._alone:
            self._alone[text] = self._tokens.count(text)
        return self._alone[text]
