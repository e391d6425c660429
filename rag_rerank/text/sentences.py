"""Split a text into sentences, and choose the ones to keep if not all fit.

The rules are our own, because pysbd, the usual library, has had no release since February 2021. A wrong guess only
means that a text is cut at the full stop of an abbreviation.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from unicodedata import category

from rag_rerank.text.unicode import is_blank

Span = tuple[int, int]
"""The first character, and the one after the last."""

_END = re.compile(
    r"""(?<![.!?…])[.!?…]+["'”’»)\]]*\s+"""  # followed by white space; the lookbehind tries a row of dots only once
    r"""|[。！？｡]+["'”’」』）]*\s*"""  # scripts without spaces between sentences
    r"""|\n[^\S\n]*\n\s*"""  # a paragraph
)
_ABBREVIATION = re.compile(r"\b(?:[A-Z]|Dr|Mr|Mrs|Ms|Prof|St|vs|No|Fig|Eq|al|etc|e\.g|i\.e|z\.B|bzw|Nr)\Z")

_LONGEST_WORD = 30
"""Characters of the longest word that is never cut."""

_UNSPACED = "\u0e00"
"""The first character of Thai. Behind it come the scripts without spaces between words, and a few with spaces."""


def sentences(text: str) -> list[Span]:
    """Return the sentences as spans that cover the text without gaps; white space belongs to the sentence before."""
    spans, start = [], 0
    for match in _END.finditer(text):
        end, punctuation = match.end(), match[0].rstrip()
        if punctuation and punctuation[0] in ".!?…" and text[end : end + 1].islower():
            continue
        if punctuation == "." and _ABBREVIATION.search(text, max(0, match.start() - 8), match.start()):
            continue
        if end < len(text):
            spans.append((start, end))
            start = end
    return [*spans, (start, len(text))] if text else []


def trimmed_span(text: str, window: Span | None, fits: Callable[[Span], bool]) -> Span | None:
    """Return the longest run of whole sentences that fits, or ``None`` if there is none.

    Args:
        text: A text that does not fit as a whole.
        window: The characters that the reranker scored best. The run starts with their first sentence and grows
            forwards, then backwards. ``None``: it starts with the text.
        fits: Whether a span fits.
    """
    spans = sentences(text)
    first = 0 if window is None else next((i for i, (_, end) in enumerate(spans) if end > window[0]), 0)

    def run(a: int, b: int) -> Span:
        start, end = spans[a][0], spans[b - 1][1]
        return start, start + len(text[start:end].rstrip())

    after = _largest(len(spans) - first, lambda count: fits(run(first, first + count)))
    if not after:
        return None
    before = _largest(first, lambda count: fits(run(first - count, first + after)))
    start, end = run(first - before, first + after)
    return None if is_blank(text[start:end]) else (start, end)


def longest_beginning(text: str, window: Span | None, fits: Callable[[Span], bool]) -> Span | None:
    """Return the longest run of whole words that fits, or ``None`` if there is none.

    A word is cut only where white space does not tell where words end: in scripts without it (Thai, Chinese, Japanese
    ...), and in a run of more than 30 characters.

    Args:
        text: A text of which not even one sentence fits.
        window: The characters that the reranker scored best. The run starts with them; ``None``: with the text.
        fits: Whether a span fits.
    """
    first = 0 if window is None else window[0]
    first += len(text) - first - len(text[first:].lstrip())
    last = first + _largest(len(text) - first, lambda count: fits((first, first + count)))
    if last < len(text) and not text[last].isspace():
        last = _end_of_words(text, first, last)
    span = (first, first + len(text[first:last].rstrip()))
    return None if is_blank(text[slice(*span)]) or not fits(span) else span


def _end_of_words(text: str, first: int, last: int) -> int:
    """Return the last place that is not within a word, in a text that is cut before the character at ``last``."""
    start = max((i + 1 for i in range(first, last) if text[i].isspace()), default=first)
    (word,) = text[start : start + _LONGEST_WORD + 1].split(maxsplit=1)[:1]
    if len(word) <= _LONGEST_WORD and all(character < _UNSPACED for character in word):
        return start
    while start < last and _continues(text, last):
        last -= 1
    return last


def _continues(text: str, position: int) -> bool:
    """Whether a character belongs to the one before it: a mark, a joiner, or the half of a surrogate pair."""
    before, after = text[position - 1], text[position]
    return category(after)[0] == "M" or "\u200d" in (before, after) or "\ud800" <= before <= "\udbff"


def _largest(limit: int, fits: Callable[[int], bool]) -> int:
    """Return the largest number in 0..limit that fits, by bisection; 0 counts as fitting."""
    low, high = 0, limit
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low
