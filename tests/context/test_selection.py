"""Which hits are kept: within the budget, without duplicates, diverse, and not all of one source."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from support.rankings import ranking_of
from support.tiny_tokenizers import tiny_encoding

from rag_rerank import ConfigError, Context, ContextWarning, InputError, Packing, pack


def ids(context: Context) -> list[str]:
    return [hit.id for hit in context]


def reasons(context: Context) -> dict[str, str]:
    return {dropped.hit.id: dropped.reason for dropped in context.dropped}


def test_a_hit_that_does_not_fit_makes_room_for_smaller_ones_behind_it() -> None:
    context = pack(ranking_of(["four", "x" * 20, "six", "y" * 9]), max_tokens=9, tokenizer=len)
    assert ids(context) == ["d1", "d3"]
    assert reasons(context) == {"d2": "max_tokens", "d4": "max_tokens"}
    assert (context.tokens_before, context.tokens) == (4 + 20 + 3 + 9 + 6, 9)
    assert context.dropped[0].detail == "the context would be over 9 tokens with it"


def test_a_budget_smaller_than_every_chunk_is_an_empty_context_with_reasons() -> None:
    with pytest.warns(ContextWarning, match="the best hit is not in the context"):
        context = pack(ranking_of(["four", "five"]), max_tokens=3, tokenizer=len, trim=None)
    assert (context.text, context.tokens, reasons(context)) == ("", 0, {"d1": "max_tokens", "d2": "max_tokens"})


def test_tokens_that_merge_across_a_joint_make_room() -> None:
    encoding = tiny_encoding()
    alone = [len(encoding.encode_ordinary(text)) for text in ("a.", "b", "\n\n")]
    context = pack(ranking_of(["a.", "b"]), max_tokens=3, tokenizer=encoding)
    assert (sum(alone), ids(context), context.tokens) == (4, ["d1", "d2"], 3)


def test_a_joint_that_makes_one_token_of_two_is_counted_as_one() -> None:
    context = pack(ranking_of(["he", "ll"]), max_tokens=1, tokenizer=tiny_encoding(), separator="")
    assert (context.text, context.tokens) == ("hell", 1)


def test_exact_duplicates_differ_in_white_space_and_composition_only() -> None:
    texts = ["Größe  of K2\n", "Gro\u0308ße of K2", "größe of K2", "Größe of K2"]
    context = pack(ranking_of(texts), duplicates="exact")
    assert ids(context) == ["d1", "d3"]
    assert [(d.hit.id, d.duplicate_of, d.detail) for d in context.dropped] == [
        ("d2", "d1", "the same text as candidate 'd1'"),
        ("d4", "d1", "the same text as candidate 'd1'"),
    ]


def test_near_duplicates_reach_the_similarity_that_is_asked_for_and_the_best_copy_stays() -> None:
    texts = ["K2 is the second highest mountain of the Earth", "K2 is the second highest mountain on Earth", "Garda"]
    words = [set(text.casefold().split()) for text in texts]
    pairs = [set(zip(t.casefold().split(), t.casefold().split()[1:], strict=False)) for t in texts]
    a, b = words[0] | pairs[0], words[1] | pairs[1]
    jaccard = len(a & b) / len(a | b)
    assert ids(pack(ranking_of(texts), duplicates=jaccard - 0.001)) == ["d1", "d3"]
    assert ids(pack(ranking_of(texts), duplicates=jaccard + 0.001)) == ["d1", "d2", "d3"]
    assert pack(ranking_of(texts), duplicates=0.5).dropped[0].detail == f"similarity {jaccard:.2f} to candidate 'd1'"


def test_the_same_words_in_another_order_are_no_duplicate() -> None:
    assert len(pack(ranking_of(["Brazil beats Chile", "Chile beats Brazil"]), duplicates=0.8)) == 2


def test_characters_are_words_in_scripts_without_spaces() -> None:
    texts = ["世界で二番目に高い山", "世界で二番目に高い山です", "湖の深さ"]
    assert ids(pack(ranking_of(texts), duplicates=0.7)) == ["d1", "d3"]


def test_texts_without_words_are_duplicates_only_if_they_are_the_same() -> None:
    assert ids(pack(ranking_of(["!!!", "???", "!!!"]), duplicates=0.5)) == ["d1", "d2"]


def test_a_copy_of_what_did_not_fit_is_no_duplicate() -> None:
    texts = ["K2", "one two three four five six  ", "one two three four five six"]
    assert ids(pack(ranking_of(texts), duplicates=0.8, max_tokens=31, tokenizer=len)) == ["d1", "d3"]


VECTORS = {"north": [0, 2], "up": [0, 1], "east": [1, 0], "void": [0, 0]}


def embed(texts: list[str]) -> Any:
    return np.array([VECTORS[text] for text in texts], dtype=np.float32)


def test_duplicates_can_be_found_by_the_callers_vectors() -> None:
    context = pack(ranking_of(["north", "east", "up", "void", "void"]), duplicates=0.95, similarity=embed)
    assert {d.hit.id: d.duplicate_of for d in context.dropped} == {"d3": "d1", "d5": "d4"}


def test_diversity_prefers_what_is_unlike_and_leaves_the_reading_order() -> None:
    ranking = ranking_of(["north", "up", "east"], scores=[0.9, 0.8, 0.5])
    assert ids(pack(ranking, top_k=2, similarity=embed)) == ["d1", "d2"]
    assert ids(pack(ranking, top_k=2, similarity=embed, diversity=0.5)) == ["d1", "d3"]
    assert ids(pack(ranking, similarity=embed, diversity=0.5)) == ["d1", "d2", "d3"]


def test_marginal_relevance_follows_the_formula() -> None:
    """At lambda, "up" has lambda * 0.75 - (1 - lambda) * 1 and "east" has 0: they are equal at lambda = 4/7."""
    ranking = ranking_of(["north", "up", "east"], scores=[0.9, 0.8, 0.5])
    for diversity, second in ((3 / 7 - 0.01, "d2"), (3 / 7 + 0.01, "d3")):
        assert ids(pack(ranking, top_k=2, similarity=embed, diversity=diversity))[1] == second


def test_relevance_uses_raw_scores_because_sigmoids_crowd_at_one() -> None:
    ranking = ranking_of(["north", "up", "east"], scores=[1.0, 1.0, 1.0])
    logits = (90.0, 80.0, 50.0)
    hits = tuple(replace(hit, raw_score=logit) for hit, logit in zip(ranking, logits, strict=True))
    assert ids(pack(replace(ranking, hits=hits), top_k=2, similarity=embed, diversity=0.4)) == ["d1", "d2"]


def test_hits_without_a_score_come_last_under_diversity_too() -> None:
    ranking = ranking_of(["north", "up", "east", "void"], scores=[0.9, 0.8, None, None])
    assert ids(pack(ranking, top_k=2, similarity=embed, diversity=1.0)) == ["d1", "d2"]
    assert ids(pack(ranking, top_k=3, similarity=embed, diversity=1.0)) == ["d1", "d2", "d3"]


@pytest.mark.parametrize("scores", [[1e308, -1e308, -1.7e308], [0.5, 0.5, 0.5]])
def test_scores_far_apart_or_all_the_same_can_be_weighed(scores: list[float]) -> None:
    ranking = ranking_of(["north", "up", "east"], scores=scores, scale="unbounded")
    assert ids(pack(ranking, top_k=2, similarity=embed, diversity=0.9)) == ["d1", "d3"]


@pytest.mark.parametrize(
    "wrong",
    [lambda texts: [[1.0]], lambda texts: [[math.nan]] * 2, lambda texts: [1.0, 2.0], lambda texts: 1 / 0],
    ids=["too few", "NaN", "no vectors", "raises"],
)
def test_a_similarity_that_gives_nonsense_is_a_config_error(wrong: Any) -> None:
    with pytest.raises(ConfigError, match=r"^similarity: the function "):
        pack(ranking_of(["a", "b"]), duplicates=0.9, similarity=wrong)


def test_the_vectors_are_computed_once() -> None:
    calls: list[list[str]] = []
    pack(ranking_of(["north", "up"]), duplicates=0.9, diversity=0.5, similarity=lambda t: calls.append(t) or embed(t))
    assert calls == [["north", "up"]]


def test_a_source_gives_so_many_hits_and_hits_without_one_are_not_counted() -> None:
    places = [{"file": "a"}, {"file": "a"}, {}, {"file": "b"}, {}, {"file": "a"}]
    context = pack(ranking_of(list("uvwxyz"), metadata=places), per_source=1, source="file")
    assert ids(context) == ["d1", "d3", "d4", "d5"]
    assert context.dropped[0].detail == "1 hits of its source are kept"
    assert set(reasons(context).values()) == {"per_source"}


def test_a_source_can_come_from_a_function() -> None:
    context = pack(ranking_of(["a1", "a2", "b1"]), per_source=1, source=lambda candidate: candidate.text[0])
    assert ids(context) == ["d1", "d3"]


def test_a_key_that_no_hit_has_is_named_in_a_note() -> None:
    ranking = ranking_of(["a"], metadata=[{"file": "x", "chunk": "1"}])
    context = pack(ranking, merge="chunks", source="flie", position="chunk")
    assert context.notes == ("no hit has a source under 'flie'", "no hit has a whole number under 'chunk'")


def test_a_source_that_cannot_be_compared_is_an_input_error_with_the_candidate() -> None:
    with pytest.raises(InputError, match="candidate 'd1': a source must be hashable, got list"):
        pack(ranking_of(["a"], metadata=[{"file": ["x"]}]), per_source=1, source="file")


def test_a_function_for_the_source_that_raises_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match=r"^source: the function raised KeyError(?m:$)"):
        pack(ranking_of(["a"]), per_source=1, source=lambda candidate: candidate.metadata["file"])


def test_only_kept_hits_count_for_the_cutoff() -> None:
    context = pack(ranking_of(["a", "a", "b", "c"]), duplicates="exact", top_k=2)
    assert ids(context) == ["d1", "d3"]
    assert reasons(context) == {"d2": "duplicates", "d4": "top_k"}


def test_display_text_is_counted_and_trimmed_and_the_text_is_compared() -> None:
    texts = ["K2 is high.", "K2  is high.", "It is deep. Very."]
    display = {"d1": "[1]\nK2 is high.", "d2": "[2]\nK2  is high.", "d3": "[3]\nIt is deep. Very."}
    options: dict[str, Any] = {"max_tokens": 32, "tokenizer": len, "duplicates": "exact", "trim": "sentences"}
    context = pack(ranking_of(texts), display_text=display, **options)
    assert context == Packing(**options).pack(ranking_of(texts), display_text=display)
    assert context.text == "[1]\nK2 is high.\n\n[3]\nIt is deep."
    assert (context.tokens, context.tokens_before) == (32, len("\n\n".join(display.values())))
    assert reasons(context) == {"d2": "duplicates"}
    assert context.pieces[1].trimmed == (0, 15)
    assert [hit.text for hit in context] == [texts[0], texts[2]]


def test_a_text_that_fits_only_beside_its_neighbour_is_not_called_trimmed() -> None:
    ranking = ranking_of(["000", "000"], metadata=[{"doc": "a", "chunk": 0}, {"doc": "a", "chunk": 1}])
    options: dict[str, Any] = {"source": "doc", "position": "chunk", "merge": "chunks", "separator": ""}
    context = pack(ranking, max_tokens=6, tokenizer=len, trim="sentences", **options)  # merged they have 7 characters
    assert [piece.trimmed for piece in context.pieces] == [None]
    assert reasons(context) == {"d2": "max_tokens"}
