"""Where a text may be cut: never within a character as a reader sees it."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_rerank.text.unicode import may_cut, valid_unicode

PARTS = [
    "e\u0301",
    "\ud83d\ude00",
    "\ud83d\ude00\ud83c\udffb",
    "👩🏽\u200d💻",
    "🇩🇪",
    "🇫",
    "ก็",
    "น้ำ",
    "क्ष",
    "각",
    "\u1100\u1161\u11a8",
    "\r\n",
    "\u0600١",
    "葛\U000e0100",
    "\u200d",
    "\u0301",
    "\ud83d",
    "\ude00",
    "ｶﾞ",
    "🏴\U000e0067\U000e007f",
    "a",
    " ",
    "\u0903",
    "\u200c",
]
TEXTS = st.lists(st.sampled_from(PARTS) | st.text(max_size=3), max_size=8).map("".join)


@pytest.mark.parametrize(
    "text", ["e\u0301", "\ud83d\ude00", "👍🏽", "👩\u200d💻", "🇩🇪", "น้", "क्ष", "\u1100\u1161", "\r\n"]
)
def test_what_a_reader_sees_as_one_is_not_parted(text: str) -> None:
    assert not any(may_cut(text, place) for place in range(1, len(text)))
    assert may_cut(f"a{text}b", 1)
    assert may_cut(f"a{text}b", len(text) + 1)


def test_flags_are_parted_from_flags() -> None:
    assert [may_cut("🇩🇪🇫🇷", place) for place in (1, 2, 3)] == [False, True, False]


@given(TEXTS)
def test_every_cut_is_a_boundary_of_grapheme_clusters(text: str) -> None:
    """The reference is the regex package's \\X, on the valid text."""
    regex: Any = pytest.importorskip("regex")
    text = valid_unicode(text)
    boundaries = {match.start() for match in regex.finditer(r"\X", text)}
    assert {place for place in range(1, len(text)) if may_cut(text, place)} <= boundaries


@given(TEXTS)
def test_surrogate_pairs_are_cut_as_their_characters_are(text: str) -> None:
    valid = valid_unicode(text)
    halves = "".join(
        char if ord(char) < 0x10000 else chr(0xD7C0 + (ord(char) >> 10)) + chr(0xDC00 + (ord(char) & 0x3FF))
        for char in valid
    )
    places = [0]
    for char in valid:
        places.append(places[-1] + (2 if ord(char) > 0xFFFF else 1))
    cuts = {place for place in range(1, len(halves)) if may_cut(halves, place)}
    assert cuts == {places[i] for i in range(1, len(valid)) if may_cut(valid, i)}
