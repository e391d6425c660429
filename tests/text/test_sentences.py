"""Sentences, and the layout of a context: order, merged neighbours, the last text cut to whole sentences."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.rankings import ranking_of

from rag_rerank import Context, ContextWarning, pack
from rag_rerank.text.sentences import sentences, trimmed_span
from rag_rerank.text.unicode import is_blank

DOCUMENT = "Lake Garda is the largest lake in Italy. It is 346 metres deep. Sirmione lies on its southern shore."


def ids(context: Context) -> list[list[str]]:
    return [[hit.id for hit in piece.hits] for piece in context.pieces]


@pytest.mark.parametrize(("number", "order"), [(1, [1]), (2, [1, 2]), (5, [1, 3, 5, 4, 2]), (6, [1, 3, 5, 6, 4, 2])])
def test_edges_puts_the_best_at_both_ends(number: int, order: list[int]) -> None:
    context = pack(ranking_of(list("uvwxyz"[:number])), order="edges")
    assert [hit.rank for hit in context] == order


def test_source_reads_documents_in_the_order_of_their_best_hit_and_each_from_its_beginning() -> None:
    places = [
        {"doc": "b", "chunk": 2},
        {"doc": "a", "chunk": 9},
        {},
        {"doc": "b", "chunk": 1},
        {"doc": "a", "chunk": 4},
    ]
    context = pack(ranking_of(list("vwxyz"), metadata=places), order="source", source="doc", position="chunk")
    assert [hit.id for hit in context] == ["d4", "d1", "d5", "d2", "d3"]


def chunks(*spans: tuple[int, int], document: str = DOCUMENT) -> dict[str, Any]:
    """Return texts and metadata of chunks of the document, by their characters."""
    return {
        "texts": [document[a:b] for a, b in spans],
        "metadata": [{"doc": "garda", "start": a} for a, _ in spans],
    }


BY_CHARACTERS: dict[str, Any] = {"merge": "characters", "source": "doc", "position": "start"}


@pytest.mark.parametrize(
    "spans",
    [[(0, 50), (30, 80)], [(30, 80), (0, 50)], [(0, 40), (40, 80)], [(0, 80), (10, 30)], [(0, 50), (30, 60), (10, 80)]],
    ids=["overlap", "later one first", "touching", "one in the other", "three"],
)
def test_neighbours_by_characters_become_the_stretch_of_the_document(spans: list[tuple[int, int]]) -> None:
    context = pack(ranking_of(**chunks(*spans)), **BY_CHARACTERS)
    assert context.text == DOCUMENT[:80]
    assert len(context) == len(spans)
    assert context.pieces[0].best.id == "d1"


def test_a_gap_of_white_space_is_bridged_and_a_longer_one_is_not() -> None:
    context = pack(ranking_of(**chunks((0, 40), (41, 62), (70, 90))), **BY_CHARACTERS)
    assert ids(context) == [["d1", "d2"], ["d3"]]
    assert context.pieces[0].text == DOCUMENT[:40] + "\n" + DOCUMENT[41:62]


def test_an_overlap_that_the_texts_deny_is_not_believed() -> None:
    ranking = ranking_of(["abcdef", "xyzuvw"], metadata=[{"doc": "a", "start": 0}, {"doc": "a", "start": 3}])
    context = pack(ranking, **BY_CHARACTERS)
    assert ids(context) == [["d1"], ["d2"]]
    assert context.text == "abcdef\n\nxyzuvw"


def test_chunks_of_other_documents_are_no_neighbours() -> None:
    ranking = ranking_of(["abc", "def"], metadata=[{"doc": "a", "start": 0}, {"doc": "b", "start": 3}])
    assert ids(pack(ranking, **BY_CHARACTERS)) == [["d1"], ["d2"]]


def by_number(texts: list[str], numbers: list[Any]) -> Context:
    ranking = ranking_of(texts, metadata=[{"doc": "garda", "chunk": number} for number in numbers])
    return pack(ranking, merge="chunks", source="doc", position="chunk")


def test_neighbours_by_number_say_their_overlap_once() -> None:
    context = by_number([DOCUMENT[41:], DOCUMENT[:63]], [1, 0])
    assert context.text == DOCUMENT
    assert ids(context) == [["d2", "d1"]]


def test_a_chunk_that_ends_the_one_before_it_adds_nothing() -> None:
    assert by_number([DOCUMENT, DOCUMENT[41:]], [0, 1]).text == DOCUMENT


def test_a_short_likeness_of_end_and_beginning_is_no_overlap() -> None:
    assert by_number(["the end", "end of the day"], [0, 1]).text == "the end\nend of the day"


@pytest.mark.parametrize("numbers", [[0.0, 1.0], [np.int64(-2), np.int64(-1)]], ids=["floats", "numpy"])
def test_whole_numbers_are_known_as_vector_stores_give_them_back(numbers: list[Any]) -> None:
    assert ids(by_number(["abc", "def"], numbers)) == [["d1", "d2"]]


@pytest.mark.parametrize("numbers", [[0, 2], [0, 0], [0, None], [0, "1"], [0, True], [0, 1.5], [0, math.inf]])
def test_chunks_that_do_not_follow_each_other_stay_apart(numbers: list[Any]) -> None:
    assert ids(by_number(["abc", "def"], numbers)) == [["d1"], ["d2"]]


def test_a_merged_piece_stands_at_the_place_of_its_best_hit() -> None:
    context = by_number(["third", "elsewhere", "fourth"], [3, 9, 4])
    assert ids(context) == [["d1", "d3"], ["d2"]]


def test_merging_makes_room_in_the_budget() -> None:
    spans = chunks((0, 60), (20, 80))
    assert len(pack(ranking_of(**spans), max_tokens=80, tokenizer=len)) == 1
    merged = pack(ranking_of(**spans), max_tokens=80, tokenizer=len, **BY_CHARACTERS)
    assert (len(merged), merged.tokens) == (2, 80)


def test_the_first_hit_that_does_not_fit_keeps_its_leading_sentences() -> None:
    context = pack(ranking_of(["Six.", DOCUMENT, DOCUMENT]), max_tokens=75, tokenizer=len, trim="sentences")
    assert [piece.trimmed for piece in context.pieces] == [None, (0, 63)]
    assert context.pieces[1].text == DOCUMENT[:63].rstrip()
    assert [dropped.reason for dropped in context.dropped] == ["max_tokens"]


def test_a_hit_of_which_no_sentence_fits_keeps_its_leading_words() -> None:
    context = pack(ranking_of([DOCUMENT]), max_tokens=39, tokenizer=len, trim="sentences")
    assert (context.text, context.pieces[0].trimmed) == (DOCUMENT[:33], (0, 33))


def test_a_hit_of_which_no_word_fits_keeps_its_leading_characters() -> None:
    context = pack(ranking_of(["e\u0301" * 30]), max_tokens=5, tokenizer=len, trim="sentences")
    assert context.text == "e\u0301" * 2


def test_a_word_of_a_later_hit_is_not_parted() -> None:
    context = pack(ranking_of(["Six.", "W" * 30]), max_tokens=20, tokenizer=len, trim="sentences")
    assert [piece.text for piece in context.pieces] == ["Six."]


def test_a_hit_of_which_not_a_character_fits_is_dropped() -> None:
    with pytest.warns(ContextWarning):
        context = pack(ranking_of(["e\u0301" * 30]), max_tokens=1, tokenizer=len, trim="sentences")
    assert (len(context), context.dropped[0].reason) == (0, "max_tokens")


def test_blank_lines_at_the_beginning_are_no_part_of_the_trimmed_text() -> None:
    context = pack(ranking_of(["\n\n" + DOCUMENT]), max_tokens=5, tokenizer=len, trim="sentences")
    assert (context.text, context.pieces[0].trimmed) == ("Lake", (2, 6))


THREE = ["Shores differ. ", "It is 346 metres deep. ", "Sirmione lies on its southern shore, on a peninsula."]


@pytest.mark.parametrize(
    ("room", "expected"),
    [(21, "is 346 metres deep."), (22, THREE[1]), (80, THREE[1] + THREE[2]), (40, THREE[0] + THREE[1])],
)
def test_the_sentences_around_the_best_window_are_chosen_or_its_words(room: int, expected: str) -> None:
    ranking = ranking_of(["".join(THREE)])
    ranking = replace(ranking, hits=(replace(ranking[0], window=(21, 30)),))
    context = pack(ranking, max_tokens=room, tokenizer=len, trim="sentences")
    assert context.text == expected.rstrip()


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("One. Two! Three?", ["One. ", "Two! ", "Three?"]),
        ('He said "No." Then left.', ['He said "No." ', "Then left."]),
        ("Dr. J. Watson met e.g. Holmes. Good.", ["Dr. J. Watson met e.g. Holmes. ", "Good."]),
        ("approx. five. No.\n", ["approx. five. ", "No.\n"]),
        ("高い山。深い湖！「はい。」次", ["高い山。", "深い湖！", "「はい。」", "次"]),
        ("A heading\n\nA text over\ntwo lines.", ["A heading\n\n", "A text over\ntwo lines."]),
        ("8,611 m is 3.5 times as much.", ["8,611 m is 3.5 times as much."]),
        ("no end", ["no end"]),
        ("", []),
        (
            "K2 is in the U.S. Army base. No. 5 won. Is it No? Yes.",
            ["K2 is in the U.S. Army base. ", "No. 5 won. ", "Is it No? ", "Yes."],
        ),
        (
            "Version 2.0.1 came. See https://a.b/c.d?x=1. End",
            ["Version 2.0.1 came. ", "See https://a.b/c.d?x=1. ", "End"],
        ),
        ("Wait... what? Yes… No!! End", ["Wait... what? ", "Yes… ", "No!! ", "End"]),
        ("Am 3. Oktober war es. 1954 war er da.", ["Am 3. Oktober war es. ", "1954 war er da."]),
        ("Er sagte: „Nein.“ Dann ging er.", ["Er sagte: „Nein.“ ", "Dann ging er."]),
        ("« Oui ! » Puis non.", ["« Oui ! » ", "Puis non."]),
        ("see Dr.\n\nNext", ["see Dr.\n\n", "Next"]),
        ("के2 की ऊँचाई 8611 मीटर है। 1954 में।", ["के2 की ऊँचाई 8611 मीटर है। ", "1954 में।"]),
        ("یہ ایک ہے۔ دوسرا۔", ["یہ ایک ہے۔ ", "دوسرا۔"]),
        ("هل هذا صحيح؟ نعم.", ["هل هذا صحيح؟ ", "نعم."]),
        ("ይህ ነው። ሁለተኛ፧ ሦስት", ["ይህ ነው። ", "ሁለተኛ፧ ", "ሦስት"]),
        ("Սա է։ Երկրորդ: Երրորդ", ["Սա է։ ", "Երկրորդ: ", "Երրորդ"]),
        ("ဒါပါ။ ဒုတိယ။", ["ဒါပါ။ ", "ဒုတိယ။"]),
        ("བོད་ཡིག། གཉིས་པ།", ["བོད་ཡིག། ", "གཉིས་པ།"]),
        ("Τι είναι; Αυτό.", ["Τι είναι; ", "Αυτό."]),
        ("One; Two.", ["One; Two."]),
        ("នេះ។ ពីរ៕ បី", ["នេះ។ ", "ពីរ៕ ", "បី"]),
        ("กินข้าว ไปเที่ยว", ["กินข้าว ", "ไปเที่ยว"]),
        ("円周率は３．１４である．次に", ["円周率は３．１４である．", "次に"]),
        ("- one\n- two\n  more\n* three", ["- one\n", "- two\n  more\n", "* three"]),
        ("1. First thing\n2. Second thing", ["1. First thing\n", "2. Second thing"]),
        ("| a | b |\n|---|---|\n| 1 | 2 |", ["| a | b |\n", "|---|---|\n", "| 1 | 2 |"]),
        ("a\tb\nc\td", ["a\tb\n", "c\td"]),
        ("a,b,c\n1,2,3", ["a,b,c\n", "1,2,3"]),
        ("Do:\n```\nx = 1\ny = 2\n```\nDone", ["Do:\n", "```\n", "x = 1\n", "y = 2\n", "```\n", "Done"]),
        ("int x = 1;\nint y;\nreturn", ["int x = 1;\n", "int y;\n", "return"]),
        ("# Title\nA text\nover lines", ["# Title\n", "A text\nover lines"]),
    ],
)
def test_sentences_end_where_people_would_say(text: str, parts: list[str]) -> None:
    assert [text[a:b] for a, b in sentences(text)] == parts


def test_a_long_row_of_dots_is_looked_at_once() -> None:
    """A search from each of its dots to the end would take hours."""
    assert sentences("." * 1_000_000 + "x. End.") == [(0, 1_000_003), (1_000_003, 1_000_007)]


LETTERS = st.characters(exclude_categories=["M", "Cs"])
SAMPLES = [
    "- one\n- two",
    "Mr. X. Y",
    "高い。山",
    "ก ข",
    "e\u0301",
    "\ud83d\ude00",
    "👩\u200d💻",
    "🇩🇪🇫🇷",
    "| a |\n",
    "```\n",
    "\r\n",
    " ",
]


@given(st.lists(st.sampled_from(SAMPLES) | st.text(max_size=4), max_size=12).map("".join))
def test_sentences_cover_the_text_without_gaps(text: str) -> None:
    spans = sentences(text)
    assert "".join(text[a:b] for a, b in spans) == text
    assert all(a < b for a, b in spans)


@given(st.lists(st.sampled_from(SAMPLES) | st.text(LETTERS, max_size=4), max_size=12).map("".join), st.integers(1, 30))
def test_a_trimmed_text_is_no_longer_than_there_is_room_and_not_empty_if_a_character_fits(text: str, room: int) -> None:
    span = trimmed_span(text, None, lambda span: span[1] - span[0] <= room)
    if span is None:
        assert is_blank(text) or room < 12
    else:
        assert 0 < span[1] - span[0] <= room
        assert not is_blank(text[slice(*span)])


def test_a_full_stop_that_stands_alone_ends_a_sentence() -> None:
    assert sentences("One. . Two") == [(0, 5), (5, 7), (7, 10)]
