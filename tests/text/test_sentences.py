"""Sentences, and the layout of a context: order, merged neighbours, the last text cut to whole sentences."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from support.rankings import ranking_of

from rag_rerank import Context, pack
from rag_rerank.text.sentences import sentences

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


def test_a_hit_of_which_no_sentence_fits_is_dropped() -> None:
    context = pack(ranking_of(["Six.", DOCUMENT]), max_tokens=39, tokenizer=len, trim="sentences")
    assert (len(context), context.dropped[0].reason) == (1, "max_tokens")


def test_blank_lines_at_the_beginning_are_no_sentence() -> None:
    context = pack(ranking_of(["Six.", "\n\n" + DOCUMENT]), max_tokens=11, tokenizer=len, trim="sentences")
    assert (len(context), context.dropped[0].reason) == (1, "max_tokens")


THREE = ["Shores differ. ", "It is 346 metres deep. ", "Sirmione lies on its southern shore, on a peninsula."]


@pytest.mark.parametrize(
    ("room", "expected"), [(21, ["346 metres deep."]), (22, THREE[1:2]), (80, THREE[1:]), (40, THREE[:2])], ids=str
)
def test_the_sentences_around_the_best_window_are_chosen(room: int, expected: list[str] | None) -> None:
    ranking = ranking_of(["".join(THREE)])
    ranking = replace(ranking, hits=(replace(ranking[0], window=(21, 30)),))
    context = pack(ranking, max_tokens=room, tokenizer=len, trim="sentences")
    assert context.text == "".join(expected or []).rstrip()


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
    ],
)
def test_sentences_end_where_people_would_say(text: str, parts: list[str]) -> None:
    assert [text[a:b] for a, b in sentences(text)] == parts


def test_a_long_row_of_dots_is_looked_at_once() -> None:
    """A search from each of its dots to the end would take hours."""
    assert sentences("." * 1_000_000 + "x. End.") == [(0, 1_000_003), (1_000_003, 1_000_007)]
