"""Words, as everything here counts and compares them, in every script; and the two constants of BM25."""

from __future__ import annotations

import re
from collections.abc import Container, Iterator, Sequence
from functools import cache
from unicodedata import category, decimal, normalize

__all__ = ["K1", "UNSPACED", "VERSION", "B", "count_words", "split_words", "terms"]

K1 = 0.9
"""Saturation of the term frequency; the default of Anserini."""

B = 0.4
"""Normalisation by length; the default of Anserini."""

VERSION = 2
"""Version of `terms`, part of the identity of what scores by them; it grows when some text gets other terms."""

_SYLLABIC = (
    "\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029\u3031-\u3035\u3038-\u303b\u3040-\u30ff\u3105-\u312f\u31a0-\u31bf"
    "\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\ua000-\ua48f\uf900-\ufaff\uff66-\uff9f\U00016fe0-\U00018d8f\U0001aff0-\U0001b2ff"
    "\U00020000-\U0003ffff"
)
"""Han, kana, bopomofo, Yi, Tangut and Nushu: scripts without spaces in which a character is a syllable or a word."""

_ALPHABETIC = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u1950-\u19df\u1a20-\u1aaf\u1b00-\u1b7f\ua980-\ua9ff\uaa60-\uaadf"
    "\U00011700-\U0001174f"
)
"""Alphabetic scripts without spaces, in which a character is a letter: class SA of Unicode's line breaking (UAX #14:
Thai, Lao, Myanmar, Khmer, the Tai scripts, Ahom), Balinese and Javanese."""

UNSPACED = _SYLLABIC + _ALPHABETIC
"""Scripts without spaces between words, as ranges of a regular expression."""

_HANGUL = "\u1100-\u11ff\u3131-\u318e\ua960-\ua97f\uac00-\ud7ff"
_TIBETAN = "\u0f40-\u0fbc"

_COMPATIBILITY = re.compile(
    "[\u2e80-\u2fdf\u3131-\u318e\u3200-\u33ff\ufb50-\ufdff\ufe70-\ufefc\uff00-\uffef\U0001d400-\U0001d7ff]+"
)
"""Other forms of a letter: radicals, squared and full-width letters, half-width kana, Arabic presentation forms,
mathematical alphabets. Elsewhere NFKC would make other words: "m2" of m², "nametm" of name™."""

_IGNORED = re.compile(
    "[\u034f\u061c\u180b-\u180f\u200d-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff\U000e0100-\U000e01ef"
    "\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u0640\u064b-\u065f\u0670]|(?<![\u0600-\u06ff])\u200c|(?<=[\u0400-\u045f])\u0301"
)
"""Characters inside a word that are seldom written, or not seen: joiners, marks of direction, variation
selectors, Hebrew points, Arabic vowel signs and tatweel, the stress of Russian words. A non-joiner separates words in Persian, as in Lucene."""

_NOT_PLAIN = re.compile("[^\0-\u0130\u0132-\u02ff\u2010-\u2027\u2030-\u205e\u20a0-\u20cf\u2100-\u2bff]")
"""What Latin letters, digits, punctuation and symbols are not: the rest of the rules is for such characters."""

_DIGIT = re.compile(r"(?![0-9])\d")

_PLAIN_WORD = re.compile(r"\w+")


def terms(text: str, query_terms: Container[str] = ()) -> list[str]:
    """Return the words of a text that BM25 counts.

    A word is a run of letters, digits and combining marks, composed (NFC) and case-folded. Other forms of a letter
    (full-width, half-width ...) are the letter, digits of all scripts are those of ASCII, and dotted and dotless i
    are one letter. Where words have no spaces between them, the terms are the pieces of one and of two characters (with
    their marks; syllables in Tibetan): the way of Lucene's CJK analyzer, with single characters (Nie, Gao et al., On
    the use of words and n-grams for Chinese information retrieval, IRAL 2000). Korean words are divided as well,
    because their endings change. In alphabetic scripts such as Thai the pieces are of two and of three characters.

    Args:
        text: The text.
        query_terms: Terms of the queries, for a text that is searched: a word of one character, which is no piece of
            an alphabetic script, is found by them.
    """
    text = _folded(text)
    if not _has_divided_script(text):
        return _word(text).findall(text)
    words: list[str] = []
    for word in _run().findall(text):
        match = _script().match(word)
        if match is None:
            words.append(word)
            continue
        units = _unit(match.lastgroup == "tibetan").findall(word)
        lengths = (1, 2)
        if match.lastgroup == "alphabetic":
            words += [unit for unit in units if len(units) == 1 or unit in query_terms]
            lengths = (2, 3)
        for length in lengths:
            words += ["".join(units[i : i + length]) for i in range(len(units) - length + 1)]
    return words


def split_words(text: str) -> list[str]:
    """Return the words of a text to compare texts by, in their order; none overlap.

    They are folded as `terms` are. Where words have no spaces between them, a character with its marks is a word; in
    alphabetic scripts a piece of three characters on average, cut where the characters on both sides say so, so that
    equal passages are cut alike (Manber, Finding similar files in a large file system, USENIX 1994).
    """
    text = _folded(text)
    if not _has_divided_script(text):
        return _word(text).findall(text)
    words: list[str] = []
    for word in _word_or_character().findall(text):
        if re.match(f"[{_ALPHABETIC}]", word):
            words += _anchored_pieces(_unit(False).findall(word))
        else:
            words.append(word)
    return words


def _anchored_pieces(units: Sequence[str]) -> Iterator[str]:
    from zlib import crc32

    start = 0
    for end in range(1, len(units) + 1):
        if end == len(units) or crc32("".join(units[end - 1 : end + 1]).encode()) % 3 == 0:
            yield "".join(units[start:end])
            start = end


def count_words(text: str) -> int:
    """Return the number of words between spaces; in a script without spaces, each character is a word."""
    return len((_character().sub(r" \g<0> ", text) if _has_divided_script(text) else text).split())


def _folded(text: str) -> str:
    """Return a text in which equal words are equal strings."""
    text = normalize("NFC", text.casefold())
    if not _NOT_PLAIN.search(text):
        return text
    text = _COMPATIBILITY.sub(lambda match: normalize("NFKC", match[0]).casefold(), text)
    text = _DIGIT.sub(lambda match: str(decimal(match[0])), _IGNORED.sub("", text))
    return text.replace("i\u0307", "i").replace("\u0131", "i")


def _has_divided_script(text: str) -> bool:
    return _NOT_PLAIN.search(text) is not None and _script().search(text) is not None


@cache
def _marks() -> str:
    """Return all combining marks as ranges: without them Hindi, Arabic and Thai words would break at vowel signs."""
    codes = [code for code in (*range(0x300, 0x1F000), *range(0xE0100, 0xE01F0)) if category(chr(code))[0] == "M"]
    starts = [code for code, before in zip(codes, [0, *codes], strict=False) if code != before + 1]
    ends = [code for code, behind in zip(codes, [*codes[1:], 0], strict=True) if code + 1 != behind]
    return "".join(f"{chr(start)}-{chr(end)}" for start, end in zip(starts, ends, strict=True))


@cache
def _script() -> re.Pattern[str]:
    """Return the pattern of a character of a script whose words are divided; the group says how."""
    return re.compile(
        rf"(?P<syllabic>[{_SYLLABIC}{_HANGUL}])|(?P<alphabetic>[{_ALPHABETIC}])|(?P<tibetan>[{_TIBETAN}])"
    )


def _word(text: str) -> re.Pattern[str]:
    """Return the pattern of a word between spaces in a text."""
    return _marked_word() if _NOT_PLAIN.search(text) else _PLAIN_WORD


@cache
def _marked_word() -> re.Pattern[str]:
    return re.compile(rf"\w[\w{_marks()}]*")


@cache
def _run() -> re.Pattern[str]:
    """Return the pattern of a run to divide, or of a word in another script."""
    marks, apart = _marks(), f"{UNSPACED}{_HANGUL}{_TIBETAN}"
    return re.compile(
        rf"[^\W{apart}](?:[^\W{apart}]|[{marks}])*"
        rf"|(?:[{_SYLLABIC}{_HANGUL}](?<=\w)[{marks}]*)+"
        rf"|(?:[{_ALPHABETIC}](?<=\w)[{marks}]*)+"
        rf"|(?:[{_TIBETAN}](?<=\w)[{_TIBETAN}{marks}]*[\u0f0b\u0f0c]?)+"
    )


@cache
def _unit(tibetan: bool) -> re.Pattern[str]:
    """Return the pattern of a part of a run that is not divided: a character with its marks, or a Tibetan syllable."""
    return re.compile(rf"[{_TIBETAN}{_marks()}]+" if tibetan else rf"\w[{_marks()}]*")


@cache
def _word_or_character() -> re.Pattern[str]:
    marks = _marks()
    return re.compile(
        rf"[^\W{UNSPACED}](?:[^\W{UNSPACED}]|[{marks}])*"
        rf"|[{_SYLLABIC}](?<=\w)[{marks}]*"
        rf"|(?:[{_ALPHABETIC}](?<=\w)[{marks}]*)+"
    )


@cache
def _character() -> re.Pattern[str]:
    """Return the pattern of a character of a script without spaces, with its marks and the punctuation behind it."""
    return re.compile(rf"[{UNSPACED}](?<=\w)[{_marks()}]*[^\w\s]*")
