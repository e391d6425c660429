"""Split a text into sentences, and choose the ones to keep if not all fit.

The rules are our own, because pysbd, the usual library, has had no release since February 2021. A wrong guess only
means that a text is cut at the full stop of an abbreviation.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from rag_rerank.text.unicode import is_blank

Span = tuple[int, int]
"""The first character, and the one after the last."""

_END = re.compile(
    r"""(?<![.!?…])[.!?…]+["'”’»)\]]*\s+"""  # followed by white space; the lookbehind tries a row of dots only once
    r"""|[。！？｡]+["'”’」』）]*\s*"""  # scripts without spaces between sentences
    r"""|\n[^\S\n]*\n\s*"""  # a paragraph
)
_ABBREVIATION = re.compile(r"\b(?:[A-Z]|Dr|Mr|Mrs|Ms|Prof|St|vs|No|Fig|Eq|al|etc|e\.g|i\.e|z\.B|bzw|Nr)\Z")


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


def _largest(limit: int, fits: Callable[[int], bool]) -> int:
    """Return the largest number in 0..limit that fits, by bisection; 0 counts as fitting."""
    low, high = 0, limit
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low
