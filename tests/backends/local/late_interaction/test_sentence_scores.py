"""The scores of sentences from the token vectors of whole texts: for `RelevantSpans`, without a second encoding."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.tiny_colbert import colbert

from rag_rerank import Cached, Cascade, Fallback, Ranking, RelevantSpans, Stage, Windows, pack
from rag_rerank.backends.late_interaction import LateInteractionReranker
from rag_rerank.backends.lexical import LexicalReranker
from rag_rerank.backends.local.kept_vectors.opening import StoreSettings
from rag_rerank.text.sentences import sentence_places

PASSAGES = Path(__file__).parents[4] / "docs" / "samples" / "passages.jsonl"
TEXTS = [json.loads(line)["text"] for line in PASSAGES.read_text(encoding="utf-8").splitlines()]
QUERY = "How long did it take to shoot All Is Lost?"
ODD = "\U0001f98e Warm it! E\u0301 Cold.\r\nForty degrees.\r\n\r\n\u6f22\u5b57\u3002 - a\n- b"


def colbert_reranker(name: str = "colbertv2", **options: Any) -> LateInteractionReranker:
    return LateInteractionReranker(model=str(colbert(name)), on_unreadable="score", precision="fp32", **options)


@pytest.fixture(scope="module")
def embedded() -> LateInteractionReranker:
    return LateInteractionReranker(precision="fp32")


def places_and_scores(ranking: Ranking) -> dict[str, list[tuple[int, int, float]]]:
    return {hit.id: [(span.start, span.end, span.raw_score) for span in hit.spans or ()] for hit in ranking}


def test_the_sentences_come_with_the_scores_in_one_call(embedded: LateInteractionReranker) -> None:
    ranking = RelevantSpans(reranker=embedded, top_k=3).rerank(QUERY, TEXTS[:8])
    plain = embedded.rerank(QUERY, TEXTS[:8])
    assert [(hit.id, hit.raw_score, hit.spans) for hit in plain] == [
        (hit.id, pytest.approx(hit.raw_score, abs=1e-5), None) for hit in ranking
    ]
    (call,) = ranking.trace.children
    assert call.usage.texts == 8
    assert ranking.trace.notes == ("late_interaction:embedded gave the relevant spans of 3 hits with their scores",)
    assert [hit.spans is None for hit in ranking] == [False] * 3 + [True] * 5
    for hit in ranking.hits[:3]:
        assert [(span.start, span.end) for span in hit.spans or ()] == sentence_places(hit.text)
        assert all(0 < span.score < 1 and span.is_relevant is None for span in hit.spans or ())
    estimate = RelevantSpans(reranker=embedded).estimate(QUERY, TEXTS[:8])
    assert estimate == embedded.estimate(QUERY, TEXTS[:8])


@pytest.mark.parametrize("precision", ["fp32", "int8", "int4"])
def test_kept_and_new_vectors_give_the_same_spans(precision: Any, tmp_path: Path) -> None:
    folder = StoreSettings(path=str(tmp_path))
    new = places_and_scores(
        RelevantSpans(reranker=LateInteractionReranker(precision=precision)).rerank(QUERY, TEXTS[:4])
    )
    with LateInteractionReranker(precision=precision, store=folder) as first:
        first.index(TEXTS[:4])
    with LateInteractionReranker(precision=precision, store=folder) as second:
        ranking = RelevantSpans(reranker=second).rerank(QUERY, TEXTS[:4])
    assert any("4 of 4 texts from the store" in note for note in ranking.trace.children[0].notes)
    kept = places_and_scores(ranking)
    assert kept.keys() == new.keys()
    for id, spans in kept.items():
        assert spans == [(start, end, pytest.approx(raw, abs=1e-5)) for start, end, raw in new[id]]


@pytest.mark.parametrize("name", ["colbertv2", "pylate-bert", "gte-modern", "native-bert"])
def test_a_sentence_of_a_colbert_model_scores_its_own_tokens(name: str) -> None:
    """Against a loop over tokens: their vectors, and the sentence in which each stands by its offsets."""
    reranker = colbert_reranker(name)
    engine = reranker._engine
    text = "Lakes are deep. Garda, a lake. Boats!"
    (hit,) = RelevantSpans(reranker=reranker).rerank("how deep", [text])
    query = engine.tokenizer.encode_query("how deep")
    of_query = engine.query_side(query, engine.token_vectors(query.arrays())[0])
    of_text = engine.token_vectors(engine.tokenizer.encode_texts([text], "truncate").arrays([0]))[0]
    expected = []
    for start, end in sentence_places(text):
        vectors = []
        for token, vector in zip(engine.tokenizer.text_tokens(text), of_text, strict=True):
            is_compared = engine.is_compared(np.array([token.id], dtype=np.int32), of_query=False)[0]
            if is_compared and start <= token.end - 1 < end:
                vectors.append(vector / np.linalg.norm(vector))
        best = [max(float(np.dot(one, vector)) for vector in vectors) for one in of_query]
        total = sum(best) / (len(best) if engine.conventions.mean else 1)
        expected.append((start, end, pytest.approx(total, abs=1e-5)))
    assert places_and_scores(Ranking(hit.text, (hit,), "unbounded", None))[hit.id] == expected  # type: ignore[arg-type]


def test_the_mean_of_a_sentence_is_that_of_its_own_tokens(embedded: LateInteractionReranker) -> None:
    """Of a text with one sentence, all signals but that of the mean vector are those of the text."""
    text = "K2 is 8,611 m high."
    engine = embedded._engine
    assert engine.head is not None
    (hit,) = RelevantSpans(reranker=embedded).rerank("how tall is K2?", [text])
    query = engine.tokenizer.encode_query("how tall is K2?")
    of_query = engine.token_vectors(query.arrays())[0]
    inputs = engine.tokenizer.encode_texts([text], "truncate")
    of_text = engine.token_vectors(inputs.arrays([0]))[0]
    own = [vector / np.linalg.norm(vector) for vector in of_text[1:-1]]

    def cosine(one: Any, other: Any) -> float:
        return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))

    whole = of_query.sum(axis=0)
    difference = cosine(whole, np.sum(own, axis=0)) - cosine(whole, of_text.sum(axis=0))
    (span,) = hit.spans or ()
    assert span.raw_score == pytest.approx(hit.raw_score + float(engine.head.weight[0]) * difference, abs=1e-4)


any_text = st.lists(
    st.sampled_from(
        [
            *(
                "Lakes are deep. ",
                "Garda? ",
                "e\u0301. ",
                "\ud83d\ude00! ",
                "\ud800",
                "?\r\n\r\n",
                "- a ",
                " . ",
                "\u200b",
            ),
            *("\U0001f468\u200d\U0001f469\u200d\U0001f467. ", "\u6f22\u5b57\u3002", "A\u0308rger. ", "\r\n", "[SEP] "),
        ]
    ),
    max_size=14,
).map("".join)


@pytest.mark.filterwarnings("ignore::rag_rerank.TruncationWarning")
@settings(max_examples=60, deadline=None)
@given(texts=st.lists(any_text, min_size=1, max_size=4), name=st.sampled_from(["colbertv2", "gte-modern"]))
def test_places_are_those_of_sentences_in_any_text(texts: list[str], name: str) -> None:
    for hit in RelevantSpans(reranker=_shared(name)).rerank("how deep", texts):
        places = [(span.start, span.end) for span in hit.spans or ()]
        known = iter(sentence_places(hit.text)) if hit.text.isprintable() else None
        end = 0
        for start, stop in places:
            assert end <= start < stop <= len(hit.text)
            end = stop
        if known is not None:
            assert all(place in known for place in places)  # in the same order


_RERANKERS: dict[str, LateInteractionReranker] = {}


def _shared(name: str) -> LateInteractionReranker:
    return _RERANKERS.setdefault(name, colbert_reranker(name))


def test_places_count_code_points(embedded: LateInteractionReranker) -> None:
    (hit,) = RelevantSpans(reranker=embedded).rerank("how warm?", [ODD])
    assert [ODD[span.start : span.end] for span in hit.spans or ()][:3] == [
        "\U0001f98e Warm it!",
        "E\u0301 Cold.",
        "Forty degrees.",
    ]


@pytest.mark.filterwarnings("ignore::rag_rerank.TruncationWarning")
def test_sentences_behind_the_cut_are_texts_of_their_own() -> None:
    reranker = LateInteractionReranker(max_length=14)
    short, text = "K2 is high.", "K2 is high. " + "Lakes are deep. " * 4 + "K2 is 8,611 m high."
    ranking = RelevantSpans(reranker=reranker).rerank("how high is K2?", [text, short])
    hits = {hit.id: hit for hit in ranking}
    assert [hits[id].coverage.truncated for id in "01"] == [True, False]  # type: ignore[union-attr]
    assert [(span.start, span.end) for span in hits["0"].spans or ()] == sentence_places(text)
    whole = sum(1 for _, end in sentence_places(text) if end < len("K2 is high. Lakes are deep. Lakes"))
    assert [call.usage.texts for call in ranking.trace.children] == [2, 6 - whole]
    (alone,) = reranker.score("how high is K2?", ["K2 is 8,611 m high."]).values
    assert (hits["0"].spans or ())[-1].raw_score == pytest.approx(alone, abs=1e-5)
    beside = RelevantSpans(reranker=LexicalReranker(), by=reranker).rerank("how high is K2?", [text, short])
    assert places_and_scores(beside)["0"] == [
        (start, end, pytest.approx(raw, abs=1e-5)) for start, end, raw in places_and_scores(ranking)["0"]
    ]


def test_pooled_vectors_stand_for_several_sentences_so_these_are_texts_of_their_own() -> None:
    pooled = colbert_reranker(pool=2)
    text = "Lakes are deep. Garda is a lake. Boats sail."
    (hit,) = ranking = RelevantSpans(reranker=pooled).rerank("how deep", [text])
    assert [(span.start, span.end) for span in hit.spans or ()] == sentence_places(text)
    assert [call.usage.texts for call in ranking.trace.children] == [1, 3]
    alone = pooled.score("how deep", [text[a:b] for a, b in sentence_places(text)])
    assert [span.raw_score for span in hit.spans or ()] == pytest.approx(list(alone.values), abs=1e-5)


def test_as_the_scorer_of_another_reranker_it_reads_whole_texts(embedded: LateInteractionReranker) -> None:
    direct = places_and_scores(RelevantSpans(reranker=embedded).rerank(QUERY, TEXTS[:5]))
    beside = RelevantSpans(reranker=LexicalReranker(), by=embedded, top_k=2)
    ranking = beside.rerank(QUERY, TEXTS[:5])
    assert [call.usage.texts for call in ranking.trace.children] == [5, 2]
    for hit in ranking.hits[:2]:
        spans = places_and_scores(ranking)[hit.id]
        assert spans == [(start, end, pytest.approx(raw, abs=1e-5)) for start, end, raw in direct[hit.id]]
    assert [hit.spans is None for hit in ranking] == [False, False, True, True, True]
    assert beside.estimate(QUERY, TEXTS[:5]).texts == 5 + 2


def test_inside_composites_it_gives_the_spans_too(embedded: LateInteractionReranker) -> None:
    direct = places_and_scores(RelevantSpans(reranker=embedded).rerank(QUERY, TEXTS[:4]))
    cascade = Cascade(stages=(Stage(reranker=LexicalReranker()), Stage(reranker=embedded)))
    for inside in (cascade, Fallback(members=(cascade, LexicalReranker()))):
        for ranking in (
            RelevantSpans(reranker=inside).rerank(QUERY, TEXTS[:4]),
            asyncio.run(RelevantSpans(reranker=inside).arerank(QUERY, TEXTS[:4])),
        ):
            assert len(ranking.trace.children) == 1
            for id, spans in places_and_scores(ranking).items():
                assert spans == [(start, end, pytest.approx(raw, abs=1e-5)) for start, end, raw in direct[id]]


@pytest.mark.parametrize("wrapper", [Cached, Windows])
def test_a_cache_and_windows_have_no_token_vectors_so_sentences_are_texts(
    wrapper: Any, embedded: LateInteractionReranker
) -> None:
    ranking = RelevantSpans(reranker=wrapper(reranker=embedded), top_k=1).rerank(QUERY, TEXTS[:3])
    places = sentence_places(ranking[0].text)
    assert [call.usage.texts + call.usage.cached for call in ranking.trace.children] == [3, len(places)]
    assert [(span.start, span.end) for span in ranking[0].spans or ()] == places


def test_nobody_gets_spans_who_did_not_ask(embedded: LateInteractionReranker) -> None:
    RelevantSpans(reranker=embedded).rerank(QUERY, TEXTS[:2])
    assert [hit.spans for hit in embedded.rerank(QUERY, TEXTS[:2])] == [None, None]


def test_a_context_of_relevant_sentences_is_shorter(embedded: LateInteractionReranker) -> None:
    ranking = RelevantSpans(reranker=embedded).rerank(QUERY, TEXTS[:10])
    assert len(pack(ranking, trim="relevant").text) < 0.8 * len(pack(ranking).text)
