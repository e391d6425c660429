"""Split a long text into overlapping windows, and count how much of it was read."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate

from rag_rerank.errors import InputTooLong
from rag_rerank.text.tokenizers import TextLimit
from rag_rerank.text.unicode import in_surrogate_pair, may_cut
from rag_rerank.trace import Coverage

__all__ = ["Span", "SplitText"]

Span = tuple[int, int]
"""Characters of a text: the first, and the one after the last."""


class SplitText:
    """A text that is longer than some limit: its tokens, its windows, and how much of it was read.

    The windows cover the whole text in its order, and each is within every limit. A window is counted by itself,
    because it may have more tokens than the same characters have inside the text. A window ends at white space if
    there is some in its second half, else between two tokens, but never inside a surrogate pair, nor inside what a
    reader sees as one character (a letter with its marks, a family of emoji), unless that alone is too long.

    Args:
        text: The text.
        limits: The limits that every window must keep; overlap and coverage count the tokens of the first one.
        overlap: Tokens that two neighbouring windows share at most.

    Raises:
        InputTooLong: A single character does not fit.
    """

    def __init__(self, text: str, limits: Sequence[TextLimit], overlap: int) -> None:
        self._text = text
        self._limits = limits
        spans = limits[0].tokenizer.spans(text)
        assert spans is not None  # only a tokenizer that is a function has none, and no config field holds one
        self._starts = list(accumulate((start for start, _ in spans), max))  # rising
        self._overlap = min(overlap, limits[0].tokens // 2)
        self.windows = tuple(self._split())

    def coverage(self, read: Iterable[tuple[Span, Coverage | None]]) -> Coverage:
        """Return how much of the text was read, each token counted once.

        Args:
            read: The windows that were scored, each with its own coverage where that is known; of a truncated window
                only the beginning counts.
        """
        count = counted_end = 0
        for (start, end), coverage in sorted(read, key=lambda window: window[0]):
            first, last = self._token(start), self._token(end)
            if coverage is not None and coverage.truncated:
                last = first + (last - first) * coverage.seen // coverage.total
            count += max(0, last - max(first, counted_end))
            counted_end = max(counted_end, last)
        return Coverage(len(self._starts), count)

    def _split(self) -> Iterator[Span]:
        start = done = 0
        while done < len(self._text):
            end = self._end(start)
            if end <= done:  # the overlap fills the window, so this window has none
                start, end = done, self._end(done)
            yield start, end
            start, done = self._next(start, end), end

    def _end(self, start: int) -> int:
        """Return where a window that begins here ends: as far as every limit allows."""
        first = self._token(start)
        end = self._place_before(start, self._place(first + self._limits[0].tokens), len(self._text) + 1)
        while True:
            excess = max(limit.excess(self._text[start:end]) for limit in self._limits)
            if not excess:
                return end
            inside = self._token(end) - first
            fewer = self._place(first + inside - min(excess, (inside + 1) // 2))
            end = self._place_before(start, fewer if start < fewer < end else (start + end) // 2, end)

    def _place_before(self, start: int, wanted: int, end: int) -> int:
        """Return a good place to end a window: before ``end``, and at ``wanted`` or near it.

        Only if a window cannot hold what a reader sees as one character is that one parted.

        Raises:
            InputTooLong: There is no place: the window has a single character.
        """
        wanted = max(wanted, start + 1)
        backwards, forwards = range(wanted, start, -1), range(wanted + 1, end)
        place = self._soft_end(start, wanted) if wanted < end else None
        if place is None:
            place = next((place for place in forwards if may_cut(self._text, place)), None)
        if place is None:
            inside = (place for place in (*backwards, *forwards) if place < end)
            place = next((place for place in inside if not in_surrogate_pair(self._text, place)), None)
        if place is None:
            raise InputTooLong(
                f"the query leaves {self._limits[0].tokens} tokens for a text, and not even a single character "
                "fits; shorten the query or choose a model with a longer window"
            )
        return place

    def _next(self, start: int, end: int) -> int:
        """Return where the next window begins: at the start of a word, where the overlap has one."""
        first, last = self._token(start), self._token(end)
        shared = min(self._overlap, (last - first) // 2)  # so that each window reads something new
        begin = min(self._place(last - shared), end)
        if begin <= start:
            return end
        text = self._text
        for place in range(begin, end):
            if text[place - 1].isspace() and not text[place].isspace() and may_cut(text, place):
                return place
        return next((place for place in range(begin, end) if may_cut(text, place)), end)

    def _soft_end(self, start: int, end: int) -> int | None:
        """Return the last good place to end a window, at this one or before it; ``None`` if there is none."""
        text = self._text
        if end == len(text):
            return end
        for place in range(end, (start + end) // 2, -1):
            if (text[place].isspace() or text[place - 1].isspace()) and may_cut(text, place):
                return place
        return next((place for place in range(end, start, -1) if may_cut(text, place)), None)

    def _token(self, place: int) -> int:
        """Return the first token that begins here or later."""
        return bisect_left(self._starts, place)

    def _place(self, token: int) -> int:
        """Return where a token begins; after the last one, the end of the text."""
        return self._starts[token] if token < len(self._starts) else len(self._text)
