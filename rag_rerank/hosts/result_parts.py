"""Split the result of a tool into parts that can be left out: entries of JSON, paragraphs, runs of sentences."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from rag_rerank.text.sentences import Span, sentences
from rag_rerank.text.tokenizers import Tokens
from rag_rerank.text.unicode import may_cut

__all__ = ["ResultParts", "split_result"]

_PARAGRAPH_END = re.compile(r"\n[^\S\n]*\n\s*\Z")
_ESCAPED_LINES = re.compile(r"(?<!\\)(?:\\r|\\n)+")
_SPACE = re.compile(r"\s*")
_DEEPEST = 100
"""Levels of JSON that are opened."""


@dataclass(slots=True)
class ResultParts:
    """The parts of a text.

    Args:
        parts: What can be left out, in the order of the text.
        frame: Brackets, keys and quotes of JSON that was opened, each with the place of the value that it belongs to:
            it is kept where a part of that value is.
    """

    parts: list[Span] = field(default_factory=list)
    frame: list[tuple[Span, Span]] = field(default_factory=list)


def split_result(text: str, size: int, tokens: Tokens) -> ResultParts:
    """Split a text into parts of about ``size`` tokens at most, which cover it together with the frame.

    JSON is split at its entries, and strings in it like a text; any other text at its paragraphs, and these at their
    sentences. A table row, an item of a list and a line of code are not parted. Only what is longer than twice ``size``
    without the end of a sentence is cut: at a space, or where it has none, at a character.
    """
    splitter = _Splitter(text, size, tokens)
    start = len(text) - len(text.lstrip())
    if text[start : start + 1] in ("[", "{"):
        try:
            _, end = json.JSONDecoder().raw_decode(text, start)
        except (ValueError, RecursionError):
            end = -1
        if not text[max(end, 0) :].strip():
            splitter.add_json(start, end, 0)
            return splitter.result
    splitter.add_text(0, len(text))
    return splitter.result


class _Splitter:
    def __init__(self, text: str, size: int, tokens: Tokens) -> None:
        self._text = text
        self._size = size
        self._tokens = tokens
        self._decoder = json.JSONDecoder()
        self.result = ResultParts()

    def _count(self, start: int, end: int) -> int:
        return self._tokens.count(self._text[start:end])

    def add_text(self, start: int, end: int) -> None:
        """Add a text: runs of sentences that end where a paragraph ends, if that makes them long enough."""
        part = self._text[start:end]
        units = [(start + a, start + b) for a, b in sentences(part)]
        self._group((short for unit in units for short in self._cut(*unit)), at_paragraphs=True)

    def add_json(self, start: int, end: int, depth: int) -> None:
        """Add a list or an object of JSON: its entries, those of one that is too long, and strings like texts."""
        is_object = self._text[start] == "{"
        place = self._skip(start + 1)
        self._add_frame(start, place, (start, end))
        group: list[Span] = []
        while self._text[place] not in "]}":
            entry = value = place
            if is_object:
                _, place = self._decoder.raw_decode(self._text, place)
                value = self._skip(self._skip(place) + 1)  # behind the colon
            _, value_end = self._decoder.raw_decode(self._text, value)
            place = self._skip(value_end)
            if self._text[place] == ",":
                place = self._skip(place + 1)
            opened = self._text[value] in '[{"' and depth < _DEEPEST and self._count(entry, place) > self._size
            if not opened:
                group.append((entry, place))
                continue
            self._group(group)
            group = []
            self._add_frame(entry, value, (value, value_end))
            if self._text[value] == '"':
                self._add_string(value, value_end)
            else:
                self.add_json(value, value_end, depth + 1)
            self._add_frame(value_end, place, (value, value_end))
        self._group(group)
        self._add_frame(place, end, (start, end))

    def _add_string(self, start: int, end: int) -> None:
        self._add_frame(start, start + 1, (start, end))
        first = start + 1
        for match in _ESCAPED_LINES.finditer(self._text, first, end - 1):
            self.add_text(first, match.end())
            first = match.end()
        self.add_text(first, end - 1)
        self._add_frame(end - 1, end, (start, end))

    def _add_frame(self, start: int, end: int, value: Span) -> None:
        if start < end:
            self.result.frame.append(((start, end), value))

    def _skip(self, place: int) -> int:
        match = _SPACE.match(self._text, place)
        return place if match is None else match.end()

    def _group(self, units: Iterable[Span], *, at_paragraphs: bool = False) -> None:
        """Join neighbours to parts of at most ``size`` tokens; at paragraphs, also to fewer, from a third of it on."""
        start = end = total = 0
        for first, last in units:
            count = self._count(first, last)
            if total and total + count > self._size:
                self.result.parts.append((start, end))
                total = 0
            start, end, total = (start if total else first), last, total + max(count, 1)
            if at_paragraphs and 3 * total >= self._size and _PARAGRAPH_END.search(self._text, first, last):
                self.result.parts.append((start, end))
                total = 0
        if total:
            self.result.parts.append((start, end))

    def _cut(self, start: int, end: int) -> Iterator[Span]:
        """Cut what is too long, in halves, near the middle: at a space if there is one."""
        if end - start < 2 or self._count(start, end) <= 2 * self._size:
            yield start, end
            return
        middle, quarter = (start + end) // 2, (end - start) // 4
        space = self._text.rfind(" ", middle - quarter, middle + 1) + 1
        if not space:
            space = next((i for i in range(middle, end) if may_cut(self._text, i)), end)
        if not start < space < end:
            yield start, end
            return
        yield from self._cut(start, space)
        yield from self._cut(space, end)
