"""``pack(trim="relevant")``: the sentences that answer, in their order, with a mark where others were left out."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest
from support.rankings import ranking_of

from rag_rerank import ConfigError, ContextWarning, Packing, Ranking, RelevantSpan, pack

LAKE = "Garda is deep. It has boats. Its depth is 346 m. Many people swim. Fish live there."


def with_spans(ranking: Ranking, scores: Mapping[str, Mapping[str, float]]) -> Ranking:
    """Return a ranking with a span for each sentence, with its score."""

    def spans(text: str, of_text: Mapping[str, float]) -> Sequence[RelevantSpan]:
        places = ((text.index(sentence), score, sentence) for sentence, score in of_text.items())
        return [RelevantSpan(start, start + len(sentence), score, score) for start, score, sentence in places]

    hits = (replace(h, spans=tuple(spans(h.text, scores[h.id])) if h.id in scores else None) for h in ranking)
    return replace(ranking, hits=tuple(hits))


SCORES = {
    "d1": {
        "Garda is deep.": 2.0,
        "It has boats.": -4.0,
        "Its depth is 346 m.": 5.0,
        "Many people swim.": -5.0,
        "Fish live there.": -4.5,
    }
}


def words(text: str) -> int:
    return len(text.split())


def lake() -> Ranking:
    return with_spans(ranking_of([LAKE]), SCORES)


def test_the_relevant_sentences_stay_in_their_order_and_a_mark_stands_for_the_others() -> None:
    (piece,) = pack(lake(), trim="relevant").pieces
    assert piece.text == "Garda is deep. … Its depth is 346 m."
    assert piece.parts == ((0, 14), (29, 48))
    assert piece.trimmed == (0, 48)
    assert piece.to_dict()["parts"] == [[0, 14], [29, 48]]


def test_neighbours_are_one_part_with_the_white_space_between_them() -> None:
    scores = {"d1": {**SCORES["d1"], "It has boats.": 4.0}}
    (piece,) = pack(with_spans(ranking_of([LAKE]), scores), trim="relevant").pieces
    assert (piece.text, piece.trimmed, piece.parts) == (LAKE[:48], (0, 48), ())


def test_a_hit_whose_sentences_are_all_relevant_is_whole() -> None:
    ranking = with_spans(ranking_of(["One. Two."]), {"d1": {"One.": 1.0, "Two.": 1.0}})
    (piece,) = pack(ranking, trim="relevant").pieces
    assert (piece.text, piece.trimmed, piece.parts) == ("One. Two.", None, ())


def test_every_hit_keeps_its_best_sentence_however_low_its_score_is() -> None:
    ranking = with_spans(ranking_of([LAKE, "A dull text. A duller one."]), {**SCORES, "d2": {"A dull text.": -4.9}})
    assert [piece.text for piece in pack(ranking, trim="relevant").pieces][1] == "A dull text."


def test_more_hits_fit_than_whole_ones() -> None:
    ranking = with_spans(
        ranking_of([LAKE, "K2 is high. It is in Asia."]), {**SCORES, "d2": {"K2 is high.": 4.0, "It is in Asia.": -5.0}}
    )
    assert len(pack(ranking, max_tokens=13, tokenizer=words)) == 1
    context = pack(ranking, max_tokens=13, tokenizer=words, trim="relevant")
    assert context.text == "Garda is deep. … Its depth is 346 m.\n\nK2 is high."
    assert context.tokens == 12


@pytest.mark.parametrize(
    ("limit", "text", "note"),
    [
        (7, "Its depth is 346 m.", "it was trimmed to 1 of 2"),
        (3, "Its depth is", "it was trimmed to a part of one of 2"),
    ],
)
def test_the_most_relevant_sentence_stays_where_not_all_fit(limit: int, text: str, note: str) -> None:
    context = pack(lake(), max_tokens=limit, tokenizer=words, trim="relevant")
    assert context.text == text
    assert any(note in line for line in context.notes)


def test_nothing_fits() -> None:
    with pytest.warns(ContextWarning):
        context = pack(lake(), max_tokens=3, tokenizer=lambda text: 4 if text else 0, trim="relevant")
    assert not context.pieces
    assert "it is not in the context" in context.notes[0]


def test_a_heading_stays_and_is_part_of_the_piece() -> None:
    display = {"d1": f"Lakes of Italy\n\n{LAKE}"}
    scores = {"d1": {**SCORES["d1"], "Garda is deep.": -5.0}}
    (piece,) = pack(with_spans(ranking_of([LAKE]), scores), trim="relevant", display_text=display).pieces
    assert piece.text == "Lakes of Italy … Its depth is 346 m."
    (piece,) = pack(lake(), trim="relevant", display_text=display).pieces
    assert piece.text == "Lakes of Italy\n\nGarda is deep. … Its depth is 346 m."
    assert [display["d1"][a:b] for a, b in piece.parts] == piece.text.split(" … ")


def test_a_hit_without_spans_is_whole_and_a_note_counts_it() -> None:
    ranking = with_spans(ranking_of([LAKE, "No one. Asked."]), SCORES)
    context = pack(ranking, trim="relevant")
    assert context.pieces[1].text == "No one. Asked."
    assert "1 of 2 hits have no relevant spans" in context.notes[0]


def test_a_hit_in_which_the_reranker_finds_nothing_is_left_out_with_a_reason() -> None:
    ranking = with_spans(ranking_of(["No one. Asked.", LAKE]), {"d1": {}, "d2": SCORES["d1"]})
    context = pack(ranking, trim="relevant")
    assert [piece.best.id for piece in context.pieces] == ["d2"]
    (dropped,) = context.dropped
    assert (dropped.hit.id, dropped.reason) == ("d1", "no_relevant_span")
    assert not context.notes
    assert len(pack(ranking, trim="best").pieces) == 2  # only who asks for relevant parts is told that there are none


def test_the_word_of_a_reranker_that_decides_itself_counts() -> None:
    ranking = with_spans(ranking_of([LAKE, "One. Two."]), {**SCORES, "d2": {"One.": 0.9, "Two.": 0.2}})
    own = tuple(replace(span, is_relevant=True) for span in ranking[0].spans or ())
    decided = replace(ranking, hits=(replace(ranking[0], spans=own), ranking[1]))
    pieces = pack(decided, trim="relevant").pieces
    assert pieces[0].text == LAKE and pieces[0].trimmed is None  # though its scores lie from -5 to 5
    assert pieces[1].text == "One."  # compared with each other only: 0.2 is far from 0.9, and not from -5 to 5
    none = tuple(replace(span, is_relevant=False) for span in own)
    refused = replace(ranking, hits=(replace(ranking[0], spans=none), ranking[1]))
    assert [drop.reason for drop in pack(refused, trim="relevant").dropped] == ["no_relevant_span"]


def test_a_display_text_without_the_text_is_whole() -> None:
    context = pack(lake(), trim="relevant", display_text={"d1": "A summary. Of it."})
    assert context.text == "A summary. Of it."
    assert "1 of 1 hits have no relevant spans" in context.notes[0]


def test_without_any_spans_the_error_says_how_to_get_them() -> None:
    with pytest.raises(ConfigError, match=r"(?s)trim: .*type: spans.*how-to/spans"):
        pack(ranking_of([LAKE]), trim="relevant")


def test_a_degraded_ranking_and_blank_texts_may_lack_them() -> None:
    assert pack(ranking_of([LAKE], degraded=("late",)), trim="relevant").text == LAKE
    assert not pack(ranking_of([" "]), trim="relevant").pieces
    assert not pack(ranking_of([]), trim="relevant").pieces


def test_the_option_is_plain_config() -> None:
    packing = Packing.from_dict({"trim": "relevant"})
    assert packing.to_dict() == {"trim": "relevant"}
    assert packing.pack(lake()).pieces[0].parts


def test_scores_of_any_size_are_compared() -> None:
    huge = {"d1": {"Garda is deep.": 1.7e308, "It has boats.": -1.7e308, "Its depth is 346 m.": 1e308}}
    (piece,) = pack(with_spans(ranking_of([LAKE]), huge), trim="relevant").pieces
    assert piece.text == "Garda is deep. … Its depth is 346 m."
