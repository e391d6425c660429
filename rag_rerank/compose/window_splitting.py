"""Where a long text is cut into overlapping windows, and how much of it was read."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from unicodedata import category

from rag_rerank.errors import InputTooLong
from rag_rerank.text.tokenizers import TextLimit
from rag_rerank.trace import Coverage

__all__ = ["Span", "SplitText"]

Span = tuple[int, int]
"""Characters of a text: first, and behind the last."""

_JOINERS = "\u200c\u200d"
"""They bind what stands before them; zero-width joiners are no marks."""


class SplitText:
    """A text that is too long for some room: its tokens, its windows, and what was read of it.

    The windows cover the whole text in its order, and each alone fits every room: a piece of a text may have more
    tokens than it had in the text, so each is counted by itself. Cuts are at white space where the latter half of a
    window has some; elsewhere between two tokens, but never before a combining mark or inside a surrogate pair.

    Args:
        text: The text.
        rooms: What every window must fit; the tokens of the first one are those that overlaps and coverage count.
        overlap: Tokens that two neighbours share at most.

    Raises:
        InputTooLong: A single character does not fit.
    """

    def __init__(self, text: str, rooms: Sequence[TextLimit], overlap: int) -> None:
        self._text = text
        self._rooms = rooms
        spans = rooms[0].tokenizer.spans(text)
        assert spans is not None  # that of a function, which is no field of a config
        self._starts = list(accumulate((start for start, _ in spans), max))  # rising
        self._overlap = min(overlap, rooms[0].tokens // 2)
        self.windows = tuple(self._cut())

    def coverage(self, read: Iterable[tuple[Span, Coverage | None]]) -> Coverage:
        """Return how much of the text was read, each token counted once.

        Args:
            read: The windows that were scored, each with its own coverage where that is known; of a window that was
                cut all the same, the beginning counts.
        """
        total, seen, behind = len(self._starts), 0, 0
        for (start, end), own in sorted(read, key=lambda item: item[0]):
            first, last = self._token(start), self._token(end)
            if own is not None and own.truncated:
                last = first + (last - first) * own.seen // own.total
            seen += max(0, last - max(first, behind))
            behind = max(behind, last)
        return Coverage(total, seen)

    def _cut(self) -> Iterator[Span]:
        start = done = 0
        while done < len(self._text):
            end = self._end(start)
            if end <= done:  # what is shared fills the window, so nothing is
                start, end = done, self._end(done)
            yield start, end
            start, done = self._next(start, end), end

    def _end(self, start: int) -> int:
        """Return where a window ends that begins here: as far as fits every room."""
        first = self._token(start)
        end = max(start + 1, self._place(first + self._rooms[0].tokens))
        while True:
            end = self._softened(start, end)
            excess = max(room.excess(self._text[start:end]) for room in self._rooms)
            if not excess:
                return end
            if end == start + 1:
                raise InputTooLong(
                    f"the query leaves room for {self._rooms[0].tokens} tokens of a text, in which not even a single "
                    "character fits; shorten the query or choose a model with a longer window"
                )
            inside = self._token(end) - first
            fewer = self._place(first + inside - min(excess, (inside + 1) // 2))
            end = fewer if start < fewer < end else (start + end) // 2

    def _next(self, start: int, end: int) -> int:
        """Return where the window begins that follows this one: at a word, where the overlap has one."""
        first, last = self._token(start), self._token(end)
        shared = min(self._overlap, (last - first) // 2)  # so that each window brings something new
        begin = min(self._place(last - shared), end)
        if begin <= start:
            return end
        text = self._text
        for place in range(begin, end):
            if text[place - 1].isspace() and not text[place].isspace() and self._may_cut(place):
                return place
        return next((place for place in range(begin, end) if self._may_cut(place)), end)

    def _softened(self, start: int, end: int) -> int:
        """Return the last good place for a cut that is not behind this one, and not before it by much."""
        text = self._text
        if end == len(text):
            return end
        for place in range(end, (start + end) // 2, -1):
            if (text[place].isspace() or text[place - 1].isspace()) and self._may_cut(place):
                return place
        return next((place for place in range(end, start, -1) if self._may_cut(place)), end)

    def _may_cut(self, place: int) -> bool:
        before, behind = self._text[place - 1], self._text[place]
        inside_a_pair = "\ud800" <= before <= "\udbff" and "\udc00" <= behind <= "\udfff"
        return not inside_a_pair and behind not in _JOINERS and category(behind)[0] != "M"

    def _token(self, place: int) -> int:
        """Return the first token that begins here or later."""
        return bisect_left(self._starts, place)

    def _place(self, token: int) -> int:
        """Return where a token begins; behind the last one, the end of the text."""
        return self._starts[token] if token < len(self._starts) else len(self._text)
