"""The best hit is in the context, at least in part, or its absence is told; and budgets without a tokenizer."""

import warnings
from collections.abc import Mapping
from dataclasses import fields, replace
from inspect import signature
from typing import Any

import pytest
from support.rankings import ranking_of

from rag_rerank import ConfigError, Context, ContextWarning, InputError, Packing, pack
from rag_rerank.text.tokenizers import EstimatedTokens

LONG = "K2 is 8,611 metres high. It was first climbed in 1954. It stands in the Karakoram."


def words(text: str) -> int:
    return len(text.split())


def best_of(text: str, max_tokens: int, **options: Any) -> Context:
    """Pack a text and a lesser one that would fit, without any warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return pack(ranking_of([text, "Garda."]), max_tokens=max_tokens, tokenizer=words, **options)


@pytest.mark.parametrize(
    ("max_tokens", "text"),
    [
        (16, LONG),
        (15, "K2 is 8,611 metres high. It was first climbed in 1954."),
        (10, "K2 is 8,611 metres high."),
        (5, "K2 is 8,611 metres high."),
        (4, "K2 is 8,611 metres"),
        (1, "K2"),
    ],
)
def test_it_is_trimmed_to_sentences_and_then_to_words(max_tokens: int, text: str) -> None:
    context = best_of(LONG, max_tokens)
    assert context.pieces[0].text == text
    trimmed = context.pieces[0].trimmed
    assert (text == LONG) == (trimmed is None)
    if trimmed is not None:
        assert LONG[slice(*trimmed)] == text
        (note,) = context.notes
        assert note == (
            f"the best hit, candidate 'd1', is over max_tokens={max_tokens} by itself: it was trimmed to characters "
            f"{trimmed[0]} to {trimmed[1]} of {len(LONG)}"
        )


def test_a_lesser_hit_goes_in_beside_it_and_not_in_its_place() -> None:
    context = best_of(LONG, 12)
    assert [piece.text for piece in context.pieces] == [
        "K2 is 8,611 metres high. It was first climbed in 1954.",
        "Garda.",
    ]


def test_only_the_best_one_is_trimmed_unless_sentences_are_asked_for() -> None:
    ranking = ranking_of(["Garda.", LONG])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        context = pack(ranking, max_tokens=10, tokenizer=words)
        assert [drop.reason for drop in context.dropped] == ["max_tokens"]
        both = pack(ranking, max_tokens=10, tokenizer=words, trim="sentences")
    assert both.text == "Garda.\n\nK2 is 8,611 metres high."
    assert context.notes == both.notes == ()


def test_it_is_dropped_with_a_warning_and_a_note_when_told_to() -> None:
    with pytest.warns(ContextWarning, match="the best hit is not in the context") as seen:
        context = pack(ranking_of([LONG, "Garda."]), max_tokens=5, tokenizer=words, trim=None)
    assert seen[0].filename == __file__
    assert context.text == "Garda."
    assert context.notes == (
        "the best hit, candidate 'd1', is over max_tokens=5 by itself, and is not in the context: "
        "trim=None lets nothing be trimmed",
    )


def test_a_budget_too_small_for_anything_is_an_empty_context_with_a_warning() -> None:
    with pytest.warns(ContextWarning):
        context = pack(ranking_of(["unbelievable"]), max_tokens=3, tokenizer=len)
    assert (context.text, len(context)) == ("", 0)
    assert "nothing of its text fits" in context.notes[0]


@pytest.mark.parametrize("text", ["乔戈里峰海拔8611米是世界第二高峰", "ยอดเขาเคทูเป็นยอดเขาที่สูง", "AAGCTTGACT" * 30])
def test_a_text_without_spaces_is_cut_between_characters(text: str) -> None:
    context = pack(ranking_of([text]), max_tokens=8, tokenizer=len)
    assert text.startswith(context.text)
    assert 0 < len(context.text) <= 8


@pytest.mark.parametrize("text", ["กี่" * 20, "👩\u200d👧" * 20])
def test_characters_that_belong_together_are_not_parted(text: str) -> None:
    unit = len(text) // 20
    context = pack(ranking_of([text]), max_tokens=unit * 3 + 1, tokenizer=len)
    assert context.text == text[: unit * 3]


def test_a_surrogate_pair_is_not_parted() -> None:
    ranking = ranking_of(["\ud83d\ude00" * 20])
    context = pack(ranking, max_tokens=3, tokenizer=lambda text: len(text.encode("utf-16")) // 4)
    assert context.text == "\ud83d\ude00" * 3


def test_the_words_begin_at_the_best_window() -> None:
    ranking = ranking_of([LONG])
    at = LONG.index("first climbed")
    ranking = replace(ranking, hits=(replace(ranking[0], window=(at, len(LONG))),))
    assert pack(ranking, max_tokens=3, tokenizer=words).text == "first climbed in"


@pytest.mark.parametrize(
    ("max_tokens", "text"), [(7, "[1] Mountains\n\nK2 is 8,611 metres high."), (4, "[1] Mountains\n\nK2 is")]
)
def test_a_heading_alone_is_not_the_hit(max_tokens: int, text: str) -> None:
    display_text: Mapping[str, str] = {"d1": f"[1] Mountains\n\n{LONG}"}
    context = best_of(LONG, max_tokens, display_text=display_text)
    assert context.text == text
    with pytest.warns(ContextWarning):
        context = pack(ranking_of([LONG]), max_tokens=2, tokenizer=words, display_text=display_text)
    assert context.text == ""


def test_the_best_one_is_the_first_that_passes() -> None:
    ranking = ranking_of([" ", LONG], scores=[0.9, 0.8])
    assert pack(ranking, max_tokens=5, tokenizer=words).text == "K2 is 8,611 metres high."
    ranking = ranking_of(["Garda.", LONG], scores=[0.2, 0.1])
    context = pack(ranking, max_tokens=5, tokenizer=words, min_score=0.15, min_score_scale="sigmoid")
    assert context.text == "Garda."


@pytest.mark.parametrize(
    "options",
    [
        {"per_source": 1, "source": "doc"},
        {"order": "edges"},
        {"order": "source", "source": "doc"},
        {"merge": "chunks", "source": "doc", "position": "chunk"},
        {"duplicates": 0.5, "diversity": 0.5},
        {"top_k": 1},
    ],
    ids=lambda options: next(iter(options)),
)
def test_it_is_trimmed_whatever_the_other_options(options: dict[str, Any]) -> None:
    metadata = [{"doc": "a", "chunk": i} for i in range(3)]
    ranking = ranking_of([LONG, f"{LONG} And on.", LONG], metadata=metadata)
    context = pack(ranking, max_tokens=6, tokenizer=words, **options)
    assert (context.text, [hit.id for hit in context]) == ("K2 is 8,611 metres high.", ["d1"])


def test_a_budget_without_a_tokenizer_is_an_estimate_and_says_so() -> None:
    ranking = ranking_of([LONG] * 5)
    room = EstimatedTokens().count(f"{LONG}\n\n{LONG}")
    context = pack(ranking, max_tokens=room)
    assert context.tokens == EstimatedTokens().count(context.text) <= room
    assert len(context) == 2
    assert context.tokens_estimated
    assert any("estimated" in note for note in context.notes)
    assert context.to_dict()["tokens_estimated"] is True
    assert "estimated tokens" in context._repr_html_()
    exact = pack(ranking, max_tokens=60, tokenizer=words)
    assert not exact.tokens_estimated
    assert not any("estimated" in note for note in exact.notes)
    assert not pack(ranking).tokens_estimated
    assert pack(ranking).tokens is None


def test_trimming_can_be_switched_off_in_a_config() -> None:
    options = Packing(max_tokens=5, trim=None).to_dict()
    assert options == {"max_tokens": 5, "trim": None}
    assert Packing.from_dict(options) == Packing(max_tokens=5, trim=None)


def test_pack_has_the_options_of_packing() -> None:
    parameters = signature(pack).parameters
    assert {name: parameters[name].default for name in list(parameters)[2:]} == {
        f.name: f.default for f in fields(Packing)
    }
    with pytest.raises(TypeError, match="max_token"):
        pack(ranking_of(["a"]), max_token=3)  # type: ignore[call-arg]
    with pytest.raises(ConfigError, match="trim"):
        pack(ranking_of(["a"]), trim="words")  # type: ignore[arg-type]


WRONG = [
    [ranking_of(["a"])[0]],
    ["a"],
    ranking_of(["a"])[:1],
    "a",
    None,
    ranking_of(["a"])[0],
    pack(ranking_of(["a"])),
    {},
]


@pytest.mark.parametrize("value", WRONG, ids=lambda value: f"{type(value).__name__}")
def test_what_is_no_ranking_is_refused(value: Any) -> None:
    with pytest.raises(InputError, match=r"pack\(\) takes the Ranking that rerank\(\) returns, got "):
        pack(value)
    with pytest.raises(InputError, match="takes the Ranking"):
        Packing().pack(value)


@pytest.mark.parametrize("value", [["a"], {"d1": 3}, "text", {"d1": None}])
def test_a_display_text_that_is_no_mapping_to_texts_is_refused(value: Any) -> None:
    with pytest.raises(InputError, match="display_text must map the ids of hits to texts"):
        pack(ranking_of(["a"]), display_text=value)


async def test_a_coroutine_that_nobody_awaited_is_named() -> None:
    from rag_rerank.testing import ScriptedReranker

    coroutine: Any = ScriptedReranker().arerank("q", ["a"])
    with pytest.raises(InputError, match="await it first"):
        pack(coroutine)
    coroutine.close()
