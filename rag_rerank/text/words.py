"""The words and the two constants of BM25: the same for reranking and for a first stage."""

from __future__ import annotations

import re
from functools import cache
from unicodedata import category, normalize

__all__ = ["K1", "UNSPACED", "B", "terms"]

K1 = 0.9
"""Saturation of the term frequency; the default of Anserini."""

B = 0.4
"""Normalisation by length; the default of Anserini."""

UNSPACED = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
"""Kana and Han, as ranges of a regular expression: scripts without spaces. Where texts are compared, each of their
characters is a word."""


def terms(text: str) -> list[str]:
    """Return the words of a text: runs of letters, digits and combining marks, composed (NFC) and case-folded."""
    return _term().findall(normalize("NFC", text.casefold()))


@cache
def _term() -> re.Pattern[str]:
    """Return the pattern of a word; it includes marks, or Hindi, Thai and Arabic words would break at vowel signs."""
    marks = "".join(char for char in map(chr, range(0x10000)) if category(char).startswith("M"))
    return re.compile(rf"\w[\w{marks}]*")
