"""Split a text into sentences, and choose the ones to keep if not all fit.

The rules are our own. pysbd, once the usual library, has had no release since February 2021; sentencex must be told the
language, and without it ends no sentence in Tibetan, Khmer or Greek; uniseg (UAX #29) ends one after "Dr."; and none of
them knows lists, tables and code. A wrong guess only means that a text is cut at the full stop of an abbreviation.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

from rag_rerank.text.unicode import is_blank, may_cut
from rag_rerank.text.words import UNSPACED

__all__ = ["QUESTION_MARKS", "Span", "largest", "sentences", "trimmed_span"]

Span = tuple[int, int]
"""The first character, and the one after the last."""

QUESTION_MARKS = ("?", "？", "؟", "፧", "⁇", ";", "\u037e", "꘏")
"""What a question ends with; a semicolon ends a sentence in Greek alone."""

_CLOSING = "\"'”’»›)\\]}」』）】》〉〕〗〙〛＂＇*_"
"""Quotes, brackets and Markdown's emphasis that may stand between the end of a sentence and the next one."""

_END = re.compile(
    rf"(?<![.!?…])[.!?…‼⁇⁈⁉]+[{_CLOSING}“‘]*(?:[ \u00a0\u202f]»)?\s+"  # the lookbehind tries a row of dots only once
    rf"|(?<=[\u0370-\u03ff\u1f00-\u1fff])[;\u037e][{_CLOSING}]*\s+"  # Greek
    rf"|(?<=[\u0531-\u0587]):\s+"  # Armenian, typed on other keyboards
    rf"|(?:[。！？｡]|．(?!\d))+[{_CLOSING}]*\s*"  # East Asia: no space follows
    rf"|[।॥۔؟։።፧፨။།༎༑។៕᠃᠉๚๛෴܀܁܂߹᱾᱿꯫꧉꘎꘏᭟᪨᪩᪪᪫꩝꩞꩟᙮᥄᥅\U00011047\U00011048]+[{_CLOSING}]*\s*"
    r"|(?<=[\u0e01-\u0e4e\u0e81-\u0ecd])\s+(?=[\u0e01-\u0e4e\u0e81-\u0ecd])"  # Thai and Lao have spaces alone
)
"""Where a sentence ends: in the order of the lines above, in scripts with spaces, and in others."""

_ABBREVIATION = re.compile(
    r"(?:\b(?:Dr|Mr|Mrs|Ms|Prof|St|Jr|Sr|vs|cf|ca|approx|Figs?|Eqs?|al|etc|Gen|Gov|Sen|Rep|Capt|Col|Lt|Sgt|Rev|Hon"
    r"|e\.g|i\.e|z\.B|d\.h|u\.a|bzw|ggf|vgl|Nr|Abs|Mme|Mlle|Sra|т\.е|т\.д|т\.п|др|им|см|стр|ул|тыс|млн|млрд)"
    r"|\b[^\W\d_a-z]|\b(?:[^\W\d_]\.)+[^\W\d_]|(?:^|\n)[ \t]*\(?\d{1,3})\Z"  # initials, U.S., the number of an item
)
"""What stands before a full stop that ends no sentence."""

_BEFORE_NUMBER = re.compile(r"\b(?:[Nn]o|[Nn]os|[Vv]ol|[Pp]p?|[Cc]h|[Ss]ec|[Aa]rt|№|[Tt]ab|[Bb]d)\Z")
"""What stands before a full stop that ends a sentence unless a number follows."""

_GERMAN_MONTH = re.compile(r"Januar|Februar|März|April|Mai|Juni|Juli|August|September|Oktober|November|Dezember")

_NEW_LINE = re.compile(
    r"[ ]{0,12}(?:[-*+•‣◦⁃∙·–—●○■□▪▫➢➤►▶✓✔☐☑※・][ \t]|\(?(?:\d{1,3}|[A-Za-z]|[ivxIVX]{1,4})[.)][ \t]|[①-⑳㈠-㈩]"
    r"|[一二三四五六七八九十]{1,3}、|\#{1,6}[ \t]|>|\||```|~~~|\t|[ ]{4})"
)
"""How a line begins that does not go on with the sentence before: an item, a heading, a row, a quotation, code."""

_WHOLE_LINE = re.compile(
    r"[ ]{0,3}(?:\#{1,6}[ \t]|\||```|~~~)|.*\t.*\S|[^|]*\|[^|]*\||[^,;]*[,;](?=\S)[^,;]*[,;](?=\S)|.*[;{}]\s*$"
)
"""A line that ends where it ends: a heading, a row of a table, a line of code."""

_WORD = re.compile(rf"[{UNSPACED}][^\w\s]*\s*|[^\s{UNSPACED}]+\s*|\s+")


def sentences(text: str) -> list[Span]:
    """Return the sentences as spans that cover the text without gaps; white space belongs to the sentence before.

    An item of a list, a row of a table, a heading and a line of code are sentences of their own.
    """
    return [span for block in _blocks(text) for span in _sentences_of_block(text, *block)]


def sentence_places(text: str) -> list[Span]:
    """Return the sentences that are not blank, without the white space around them."""
    places = []
    for start, end in sentences(text):
        sentence = text[start:end]
        if not is_blank(sentence):
            places.append((end - len(sentence.lstrip()), start + len(sentence.rstrip())))
    return places


def _blocks(text: str) -> Iterator[Span]:
    """Yield the parts of a text that no sentence crosses: paragraphs, items, rows, lines of code."""
    start = end = 0
    fenced, before = False, ""  # the line before, if it is not blank
    for line in text.splitlines(keepends=True):
        content = line.rstrip()
        if content:
            fence = content.lstrip().startswith(("```", "~~~"))
            apart = not before or fenced or fence or _NEW_LINE.match(line) or _WHOLE_LINE.match(before)
            if apart and not is_blank(text[start:end]):
                yield start, end
                start = end
            fenced ^= fence
        before = content
        end += len(line)
    if end:
        yield start, end


def _sentences_of_block(text: str, start: int, stop: int) -> Iterator[Span]:
    for match in _END.finditer(text, start, stop):
        end, punctuation = match.end(), match[0].rstrip()
        if end == stop:
            break
        if punctuation and punctuation[0] in ".!?…;:" and text[end].islower():
            continue
        if punctuation == "." and _is_abbreviation(text, start, match.start(), end):
            continue
        yield start, end
        start = end
    yield start, stop


def _is_abbreviation(text: str, start: int, place: int, end: int) -> bool:
    """Whether the full stop at a place ends no sentence; the next word begins at ``end``."""
    before, behind = text[max(start, place - 12) : place], text[end : end + 12]
    if place - start > len(before):
        before = f"_{before}"  # so that no line begins here
    if _ABBREVIATION.search(before):
        return True
    if _BEFORE_NUMBER.search(before):
        return behind[:1].isdigit()
    return before[-1:].isdigit() and _GERMAN_MONTH.match(behind) is not None


def trimmed_span(
    text: str, window: Span | None, fits: Callable[[Span], bool], *, may_part_words: bool = True
) -> Span | None:
    """Return the longest run of whole sentences that fits; ``None`` if not even a character does.

    If no sentence fits, it is a run of words, and if no word does, of characters with their marks. In scripts without
    spaces, characters count as words.

    Args:
        text: A text that does not fit as a whole.
        window: The characters that the reranker scored best. The run starts with their first sentence and grows
            forwards, then backwards. ``None``: it starts with the text.
        fits: Whether a span fits.
        may_part_words: Whether characters may be kept if no word fits.
    """
    start = 0 if window is None else window[0]
    for units in (sentences, _words, *((_characters,) if may_part_words else ())):
        span = _longest_run(text, units(text), start, fits)
        if span is not None:
            return span
    return None


def _longest_run(text: str, spans: Sequence[Span], start: int, fits: Callable[[Span], bool]) -> Span | None:
    """Return the longest run that fits, from the span at ``start`` forwards, then backwards."""
    spans = [span for span in spans if not is_blank(text[slice(*span)])]
    first = next((i for i, (_, end) in enumerate(spans) if end > start), 0)

    def run(a: int, b: int) -> Span:
        part = text[spans[a][0] : spans[b - 1][1]]
        return spans[a][0] + len(part) - len(part.lstrip()), spans[a][0] + len(part.rstrip())

    after = largest(len(spans) - first, lambda count: fits(run(first, first + count)))
    if not after:
        return None
    before = largest(first, lambda count: fits(run(first - count, first + after)))
    return run(first - before, first + after)


def _words(text: str) -> list[Span]:
    """Return the words with the white space behind them; a character of a script without spaces is one."""
    ends = [match.end() for match in _WORD.finditer(text) if match.end() < len(text) and may_cut(text, match.end())]
    return list(zip([0, *ends], [*ends, len(text)], strict=True))


def _characters(text: str) -> list[Span]:
    """Return the characters, each with its marks."""
    ends = [place for place in range(1, len(text)) if may_cut(text, place)]
    return list(zip([0, *ends], [*ends, len(text)], strict=True))


def largest(limit: int, fits: Callable[[int], bool]) -> int:
    """Return the largest number in 0..limit that fits, by bisection; 0 counts as fitting."""
    low, high = 0, limit
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low
