"""Where sentences end, and which of them to keep where not all fit.

A rule of our own: pysbd, the usual library, has had no release since February 2021. A wrong guess does no harm here
beyond a cut at the full stop of an abbreviation.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from rag_rerank.text.unicode import is_blank

Span = tuple[int, int]

_END = re.compile(
    r"""(?<![.!?…])[.!?…]+["'”’»)\]]*\s+"""  # with white space behind it; a row of dots is tried once, from its first
    r"""|[。！？｡]+["'”’」』）]*\s*"""  # scripts that write no space between sentences
    r"""|\n[^\S\n]*\n\s*"""  # a paragraph
)
_ABBREVIATION = re.compile(r"\b(?:[A-Z]|Dr|Mr|Mrs|Ms|Prof|St|vs|No|Fig|Eq|al|etc|e\.g|i\.e|z\.B|bzw|Nr)\Z")


def sentences(text: str) -> list[Span]:
    """Return the sentences as spans that cover the text without gaps; white space belongs to the sentence before."""
    spans, start = [], 0
    for match in _END.finditer(text):
        end, mark = match.end(), match[0].rstrip()
        if mark and mark[0] in ".!?…" and text[end : end + 1].islower():
            continue
        if mark == "." and _ABBREVIATION.search(text, max(0, match.start() - 8), match.start()):
            continue
        if end < len(text):
            spans.append((start, end))
            start = end
    return [*spans, (start, len(text))] if text else []


def trimmed_span(text: str, window: Span | None, fits: Callable[[Span], bool]) -> Span | None:
    """Return a run of whole sentences that fits, as long as can be found, or ``None``.

    Args:
        text: What does not fit whole.
        window: The characters that the reranker found best. The run begins with their first sentence and grows
            forwards, then backwards; without it, it is the beginning of the text.
        fits: Whether these characters fit.
    """
    spans = sentences(text)
    first = 0 if window is None else next((i for i, (_, end) in enumerate(spans) if end > window[0]), 0)

    def run(a: int, b: int) -> Span:
        start, end = spans[a][0], spans[b - 1][1]
        return start, start + len(text[start:end].rstrip())

    last = _furthest(len(spans) - first, lambda more: fits(run(first, first + more)))
    if not last:
        return None
    before = _furthest(first, lambda more: fits(run(first - more, first + last)))
    start, end = run(first - before, first + last)
    return None if is_blank(text[start:end]) else (start, end)


def _furthest(most: int, fits: Callable[[int], bool]) -> int:
    """Return a number in 0..most that fits, the largest where fitting ends once; 0 is taken to fit."""
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low
