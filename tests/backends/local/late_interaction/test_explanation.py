"""Explanations: their sums, places in the caller's strings, what was cut, and how they are shown."""

from __future__ import annotations

import json
import pickle
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from support.tiny_colbert import CHECKPOINTS, colbert

from rag_rerank import Candidate, Ensemble, Fallback, InputError, InputTooLong, UnreadableText, build
from rag_rerank.backends.late_interaction import LateInteractionReranker
from rag_rerank.backends.local.late_interaction.explanation.explanation import SIGNAL_MEANINGS, Explanation
from rag_rerank.backends.local.torch_models.late_interaction import SIGNALS
from rag_rerank.errors import ConfigError
from rag_rerank.hosts import find_explainers

PASSAGES = Path(__file__).parents[4] / "docs" / "samples" / "passages.jsonl"
TEXTS = [json.loads(line)["text"] for line in PASSAGES.read_text(encoding="utf-8").splitlines()][:12]
QUERY = "How long did it take to shoot All Is Lost?"
STRANGE = (
    "  a  lake\n\twith   spaces ",
    "A\u0301 la\u0308ke, A\u030a",
    "the lake \U0001f3d4 is deep",
    "the \ud83c\udfd4 lake \ud800 is deep \udfff",
    "\u0395\u03bb\u03bb\u03ac\u03b4\u03b1 \u5c71 lake",
    "[MASK] the lake [SEP]",
    "\ufb01sh in the lake \u00df",
)


@cache
def embedded(**settings: Any) -> LateInteractionReranker:
    return LateInteractionReranker(**settings)


@cache
def colbert_reranker(name: str, **settings: Any) -> LateInteractionReranker:
    return LateInteractionReranker(model=str(colbert(name)), on_unreadable="score", **settings)


def raw_score(reranker: LateInteractionReranker, query: str, text: str) -> float:
    score = reranker.rerank(query, [text])[0].raw_score
    assert score is not None
    return score


@pytest.mark.parametrize("precision", ["fp32", "int8", "int4"])
def test_the_signals_of_the_embedded_model_add_up_to_the_score_of_rerank(precision: str) -> None:
    reranker, reference = embedded(precision=precision), build("onnx:embedded").score(QUERY, TEXTS).values
    for text, expected in zip(TEXTS, reference, strict=True):
        hit = reranker.rerank(QUERY, [text])[0]
        explanation = reranker.explain(QUERY, text)
        assert explanation.raw_score == pytest.approx(hit.raw_score, abs=1e-5)
        assert explanation.score == pytest.approx(hit.score, abs=1e-5) and explanation.scale == "sigmoid"
        total = explanation.bias + sum(signal.contribution for signal in explanation.signals)
        assert total == pytest.approx(explanation.raw_score, abs=1e-9)
        assert explanation.raw_score == pytest.approx(expected, abs=1e-5 if precision == "fp32" else 0.5)
        assert all(one.contribution == one.weight * one.value for one in explanation.signals)


def test_weights_and_best_matches_give_the_signal_that_is_made_of_them() -> None:
    explanation = embedded().explain(QUERY, TEXTS[0])
    assert [signal.name for signal in explanation.signals] == list(SIGNALS) == list(SIGNAL_MEANINGS)
    value_of = {signal.name: signal.value for signal in explanation.signals}
    weights = [match.weight or 0.0 for match in explanation.matches]
    assert sum(weights) == pytest.approx(1)
    best = sum((match.weight or 0.0) * (match.similarity or 0.0) for match in explanation.matches)
    assert best == pytest.approx(value_of["weighted"], abs=1e-5)
    back = [max(column) for column in zip(*explanation.similarities, strict=True)]
    assert sum(back) / len(back) == pytest.approx(value_of["covered"], abs=1e-5)


@pytest.mark.filterwarnings("ignore::rag_rerank.errors.TruncationWarning")
@pytest.mark.filterwarnings("ignore::rag_rerank.errors.QueryTruncationWarning")
@pytest.mark.parametrize("pool", [1, 2])
@pytest.mark.parametrize("name", CHECKPOINTS)
def test_the_matches_of_a_colbert_model_add_up_to_the_score_of_rerank(name: str, pool: int) -> None:
    reranker = colbert_reranker(name, pool=pool)
    for query in ("how deep is it?", QUERY):
        for text in (*TEXTS[:3], "!?."):
            explanation = reranker.explain(query, text)
            assert explanation.raw_score == pytest.approx(raw_score(reranker, query, text), abs=1e-5)
            assert explanation.score == explanation.raw_score and explanation.scale == "unbounded"
            total = sum(match.contribution or 0.0 for match in explanation.matches)
            assert total == pytest.approx(explanation.raw_score, abs=1e-5)
            assert not explanation.signals and explanation.bias == 0.0
            assert any("share a vector" in note for note in explanation.notes) == (pool > 1)


@pytest.mark.parametrize("name", ["embedded", *CHECKPOINTS])
def test_a_match_is_the_largest_similarity_of_its_row(name: str) -> None:
    reranker = embedded() if name == "embedded" else colbert_reranker(name)
    explanation = reranker.explain("how deep is it?", "Lake Garda is 346 m deep.")
    assert len(explanation.matches) == len(explanation.query_tokens) == len(explanation.similarities)
    for match, token, row in zip(explanation.matches, explanation.query_tokens, explanation.similarities, strict=True):
        assert match.query is token and len(row) == len(explanation.text_tokens)
        assert match.position is not None and match.text is explanation.text_tokens[match.position]
        assert match.similarity == max(row) == row[match.position]


def test_shared_vectors_name_the_nearest_token_that_shares_them() -> None:
    text = "lake lake lake garda garda is deep deep and deep"
    alone, pooled = colbert_reranker("lateon"), colbert_reranker("lateon", pool=4)
    own = alone.explain("deep garda", text)
    explanation = pooled.explain("deep garda", text)
    assert [token.text for token in explanation.text_tokens] == [token.text for token in own.text_tokens]
    for row, own_row, match in zip(explanation.similarities, own.similarities, explanation.matches, strict=True):
        sharing = [place for place, value in enumerate(row) if value == max(row)]
        assert match.position == max(sharing, key=own_row.__getitem__)
    assert len(set(zip(*explanation.similarities, strict=True))) < len(explanation.text_tokens)


@pytest.mark.filterwarnings("ignore::rag_rerank.errors.TruncationWarning")
@pytest.mark.parametrize("name", ["embedded", *CHECKPOINTS])
@pytest.mark.parametrize("text", STRANGE, ids=range(len(STRANGE)))
def test_tokens_stand_where_they_say_in_the_strings_of_the_caller(name: str, text: str) -> None:
    reranker = embedded(on_unreadable="score") if name == "embedded" else colbert_reranker(name)
    explanation = reranker.explain(text, text)
    assert explanation.query == explanation.text == text
    for tokens in (explanation.query_tokens, explanation.text_tokens):
        places = [(token.start, token.end) for token in tokens if token.kind == "text"]
        assert places and places == sorted(places)
        for token in tokens:
            if token.kind != "text":
                assert token.start is token.end is None
                continue
            stretch = text[token.start : token.end].encode("utf-16", "surrogatepass").decode("utf-16", "replace")
            assert stretch == token.text
            assert token.text == token.text.strip() or not token.text.strip()


def test_fillers_and_markers_of_a_query_are_no_words_of_it() -> None:
    explanation = colbert_reranker("colbertv2").explain("a lake", "Lake Garda is deep")
    kinds = [token.kind for token in explanation.query_tokens]
    assert kinds.count("filler") > 0 and len(kinds) == 12
    assert next(token.text for token in explanation.query_tokens if token.kind == "text") == "a"
    assert f"{kinds.count('filler')} tokens that fill the query up add" in str(explanation)
    assert "[MASK]" not in str(explanation)


def test_what_was_cut_is_told() -> None:
    reranker = LateInteractionReranker(max_length=24, query_length=8)
    explanation = reranker.explain("which of the two lakes is the deeper one of them?", TEXTS[0] * 3)
    notes = " ".join(explanation.notes)
    assert explanation.coverage and explanation.query_coverage
    assert explanation.coverage.truncated and explanation.query_coverage.truncated
    assert f"the text has {explanation.coverage.total} tokens, of which the first 22 were read" in notes
    assert f"the query has {explanation.query_coverage.total} tokens, of which the first 6 were read" in notes
    assert len(explanation.text_tokens) == 22 and len(explanation.query_tokens) == 6
    assert "more characters" in explanation._repr_html_() and explanation.notes[0] in str(explanation)


def test_repaired_characters_are_told() -> None:
    explanation = embedded().explain("lake \ud800", "Lake Garda \udfff")
    assert sum("lone surrogates" in note for note in explanation.notes) == 2
    assert embedded().explain("lake", "Lake Garda").notes == ()


def test_what_has_no_score_has_no_explanation() -> None:
    reranker = embedded()
    with pytest.raises(InputError, match="the text is blank"):
        reranker.explain("lake", " \n")
    with pytest.raises(InputError, match="the query is blank"):
        reranker.explain(" ", "lake")
    with pytest.raises(InputError, match="must be a string or a Candidate"):
        reranker.explain("lake", 7)  # type: ignore[arg-type]
    with pytest.raises(UnreadableText, match="no score to explain"):
        reranker.explain(
            "lake",
            "\u0397 \u03bb\u03af\u03bc\u03bd\u03b7 \u03b5\u03af\u03bd\u03b1\u03b9 \u03b2\u03b1\u03b8\u03b9\u03ac",
        )
    with pytest.raises(InputTooLong):
        LateInteractionReranker(max_length=8, on_overflow="error").explain("lake", TEXTS[0])


def test_a_text_without_a_token_to_compare_has_no_match() -> None:
    explanation = embedded().explain("lake", "[SEP]")
    assert [(match.text, match.similarity) for match in explanation.matches] == [(None, None)]
    assert explanation.raw_score == pytest.approx(raw_score(embedded(), "lake", "[SEP]"), abs=1e-5)
    assert "no token to compare" in str(explanation) and "no token to compare" in explanation._repr_html_()
    assert embedded().explain("[SEP]", "lake").matches == ()


def test_the_vectors_come_from_the_store_and_go_into_it() -> None:
    reranker = LateInteractionReranker()
    reranker.explain(QUERY, TEXTS[0])
    assert reranker.store_stats.texts == 1
    assert "1 of 1 texts from the store" in reranker.rerank(QUERY, [TEXTS[0]]).trace.notes
    assert reranker.explain(QUERY, Candidate("c1", TEXTS[0])) == reranker.explain(QUERY, TEXTS[0])


def test_an_explanation_is_plain_data() -> None:
    explanation = embedded().explain(QUERY, TEXTS[0])
    plain = json.loads(json.dumps(explanation.to_dict()))
    assert plain["schema"] == 1 and "similarities" not in plain
    whole = json.loads(json.dumps(explanation.to_dict(similarities=True)))
    assert whole["similarities"] == [list(row) for row in explanation.similarities]
    for match in plain["matches"]:
        assert whole["similarities"][match["query"]][match["text"]] == match["similarity"]
    assert pickle.loads(pickle.dumps(explanation)) == explanation
    assert len(repr(explanation)) < 2000


def test_the_terminal_shows_each_token_with_its_match_and_a_bar() -> None:
    lines = str(embedded().explain("how high is K2?", "K2 is 8,611 m high.\x1b[31m")).splitlines()
    row = next(line for line in lines if line.startswith("high"))
    assert row.split()[1] == "high" and float(row.split()[3]) > 0.7 and row.split()[4].startswith("█" * 14)
    assert lines[-1].split()[:1] == ["logit"] and "\x1b" not in "\n".join(lines)


def test_composites_are_searched_for_rerankers_that_explain() -> None:
    inside = embedded()
    tree = Fallback(members=(Ensemble(members=(build("lexical"), inside)), inside))
    assert find_explainers(tree) == [inside]
    with pytest.raises(ConfigError, match="late_interaction:embedded"):
        find_explainers(build("lexical"))


def test_an_explanation_is_named_in_full_by_its_repr() -> None:
    assert repr(embedded().explain("a", "b")).startswith(f"{Explanation.__name__}(reranker='late_interaction:embedded'")
