"""Detect blank texts, repair texts that are not valid Unicode, and find where texts may be cut.

Tokenizers and HTTP clients refuse text that is not valid Unicode.
"""

from __future__ import annotations

from unicodedata import category, combining

__all__ = ["in_surrogate_pair", "is_blank", "may_cut", "places_before_repair", "valid_unicode"]

_BOUND_TO_NEXT = frozenset("\u200d\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2\u0d4e")
"""A joiner, and Unicode's class Prepend in the first plane."""

_BOUND_TO_PREVIOUS = frozenset("\u200c\u200d\u0e33\u0eb3\uff9e\uff9f")
"""Joiners and letters that belong to the character before them, though they are no combining marks."""

_VIRAMA = 9
"""Combining class of the signs that join two consonants."""


def is_blank(text: str) -> bool:
    """Whether a text has only spaces, control and format characters (zero-width space, BOM ...), or none at all."""
    return not text[:1].isalnum() and all(char.isspace() or category(char) in ("Cc", "Cf") for char in text)


def valid_unicode(text: str) -> str:
    """Return valid Unicode: surrogate pairs are joined, lone surrogates become U+FFFD; valid text stays as it is."""
    if text.isascii():
        return text
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def places_before_repair(text: str) -> list[int]:
    """Return for each place in ``valid_unicode(text)``, its end included, the place in the text itself."""
    places = [i for i in range(len(text)) if i == 0 or not in_surrogate_pair(text, i)]
    return [*places, len(text)]


def in_surrogate_pair(text: str, place: int) -> bool:
    """Whether a cut would part two surrogates that are one character."""
    return "\ud800" <= text[place - 1] <= "\udbff" and "\udc00" <= text[place] <= "\udfff"


def may_cut(text: str, place: int) -> bool:
    """Whether a text may be cut before this character without parting what a reader sees as one.

    That is so within a surrogate pair, before a combining mark, around a joiner, within a flag, a syllable of jamo or
    an Indic conjunct, and between CR and LF (grapheme clusters of UAX #29, joined a little more generously).
    """
    if not 0 < place < len(text):
        return True
    if text[place - 1].isascii() and text[place].isascii():
        return text[place - 1 : place + 1] != "\r\n"
    if in_surrogate_pair(text, place):
        return False
    before, behind = _character_before(text, place), valid_unicode(text[place : place + 2])[0]
    if behind in _BOUND_TO_PREVIOUS or before in _BOUND_TO_NEXT or category(behind)[0] == "M":
        return False
    if "\U0001f3fb" <= behind <= "\U0001f3ff" or "\U000e0020" <= behind <= "\U000e007f":  # skin tones, tags of flags
        return False
    if combining(before) == _VIRAMA and category(behind) == "Lo":
        return False
    if _is_hangul(before) and _is_hangul(behind):
        return not ("\u1160" <= behind <= "\u11ff" or "\ud7b0" <= behind <= "\ud7fb" or _is_leading(before))
    return not (_is_half_flag(before) and _is_half_flag(behind) and _half_flags_before(text, place) % 2)


def _character_before(text: str, place: int) -> str:
    return valid_unicode(text[max(0, place - 2) : place])[-1]


def _is_hangul(char: str) -> bool:
    return "\u1100" <= char <= "\u11ff" or "\ua960" <= char <= "\ua97c" or "\uac00" <= char <= "\ud7fb"


def _is_leading(char: str) -> bool:
    return "\u1100" <= char <= "\u115f" or "\ua960" <= char <= "\ua97c"


def _is_half_flag(char: str) -> bool:
    return "\U0001f1e6" <= char <= "\U0001f1ff"


def _half_flags_before(text: str, place: int) -> int:
    count = 0
    while place and _is_half_flag(_character_before(text, place)):
        place -= 2 if place > 1 and in_surrogate_pair(text, place - 1) else 1
        count += 1
    return count
