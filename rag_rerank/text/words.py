"""What a word is to BM25, and its two constants: the same for reranking and for a first stage."""

from __future__ import annotations

import re
from functools import cache
from unicodedata import category, normalize

__all__ = ["K1", "UNSPACED", "B", "terms"]

K1 = 0.9
"""Saturation of term frequency, as in Anserini's defaults."""

B = 0.4
"""Length normalisation, as in Anserini's defaults."""


UNSPACED = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
"""Kana and Han, as ranges of a regular expression: scripts without spaces. Where texts are compared, each of their
characters is a word."""


def terms(text: str) -> list[str]:
    """Return the runs of letters and digits with their combining marks, composed (NFC) and case-folded."""
    return _term().findall(normalize("NFC", text.casefold()))


@cache
def _term() -> re.Pattern[str]:
    """Return the pattern of a word; without marks, Hindi, Thai or Arabic words would break at each vowel sign."""
    marks = "".join(char for char in map(chr, range(0x10000)) if category(char).startswith("M"))
    return re.compile(rf"\w[\w{marks}]*")
