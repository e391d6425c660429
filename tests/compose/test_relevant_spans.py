"""Relevant spans: the sentences of the best hits with their scores; nothing else of the ranking changes."""

import asyncio
import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rag_rerank
from rag_rerank import (
    AuthenticationError,
    BackendUnavailable,
    BadResponse,
    Cached,
    Candidate,
    Cascade,
    ConfigError,
    Deadline,
    Ensemble,
    Fallback,
    Hit,
    InputError,
    PointwiseReranker,
    Ranking,
    RelevantSpan,
    RelevantSpans,
    Scores,
    Stage,
    Windows,
    build,
    to_config,
)
from rag_rerank.backends.lexical import LexicalReranker
from rag_rerank.testing import ScriptedReranker
from rag_rerank.text.sentences import sentences
from rag_rerank.text.unicode import is_blank, places_before_repair, valid_unicode

Ask = Callable[..., Ranking]
_WORDS = str(Path(rag_rerank.__file__).parent / "models" / "late-minilm-v1" / "tokenizer.json")
TEXTS = ["Lakes are deep. Garda is 346 m deep.  Boats sail.", "K2 is high.", "No answer here. None at all."]
OUTER = ScriptedReranker(by_text=dict(zip(TEXTS, (3.0, 2.0, 1.0), strict=True)), name="outer")
INNER = ScriptedReranker(by_text={"Garda is 346 m deep.": 1.0}, default=-1.0, name="inner", answers_on="sigmoid")


@pytest.fixture(params=["sync", "async"])
def ask(request: pytest.FixtureRequest) -> Ask:
    if request.param == "sync":
        return lambda reranker, texts=TEXTS, **options: reranker.rerank("q", texts, **options)
    return lambda reranker, texts=TEXTS, **options: asyncio.run(reranker.arerank("q", texts, **options))


def parts(hit: Hit) -> list[tuple[str, float]]:
    return [(hit.text[span.start : span.end], span.raw_score) for span in hit.spans or ()]


def hits_without_spans(ranking: Ranking) -> list[Hit]:
    return [replace(hit, spans=None) for hit in ranking]


def test_the_sentences_of_the_best_hits_have_scores_and_nothing_else_changes(ask: Ask) -> None:
    ranking = ask(RelevantSpans(reranker=OUTER, by=INNER, top_k=2))
    assert hits_without_spans(ranking) == list(ask(OUTER))
    assert parts(ranking[0]) == [("Lakes are deep.", -1.0), ("Garda is 346 m deep.", 1.0), ("Boats sail.", -1.0)]
    assert parts(ranking[1]) == [("K2 is high.", -1.0)]
    assert ranking[2].spans is None
    assert ranking[0].spans[1].score == pytest.approx(0.731, abs=1e-3)  # on the scale of what scored it
    assert (ranking.scale, ranking.degraded, ranking.substituted) == ("unbounded", (), False)


def test_all_sentences_go_in_one_call_that_is_in_trace_and_usage(ask: Ask) -> None:
    inner = replace(INNER)
    ranking = ask(RelevantSpans(reranker=OUTER, by=inner, top_k=2))
    assert len(inner.calls) == 1
    assert [child.step for child in ranking.trace.children] == ["outer", "inner"]
    assert list(ranking.trace.children[1].scores) == ["0#2", "0#1", "0#3", "1#1"]
    assert ranking.trace.notes == ("4 sentences of 2 hits were scored by inner",)
    assert ranking.usage.texts == 3 + 4


def test_by_default_the_same_reranker_scores_the_sentences(ask: Ask) -> None:
    outer = replace(OUTER)
    ranking = ask(RelevantSpans(reranker=outer, top_k=1))
    assert [len(texts) for _, texts in outer.calls] == [3, 3]
    assert [raw for _, raw in parts(ranking[0])] == [0.0, 0.0, 0.0]


def test_the_spans_survive_top_dict_and_composites_around(ask: Ask) -> None:
    spans = RelevantSpans(reranker=OUTER, by=INNER)
    expected = ask(spans)
    assert ask(spans, top_k=1)[0].spans == expected.top(1)[0].spans == expected[0].spans and expected[0].spans
    assert Ranking.from_dict(expected.to_dict()) == expected
    assert Ranking.from_dict({**expected.to_dict(), "hits": [_old(hit) for hit in expected]})[0].spans is None
    down = ScriptedReranker(error=BackendUnavailable("gone"))
    for around in (
        Fallback(members=(down, spans)),
        Cascade(stages=(Stage(reranker=LexicalReranker()), Stage(reranker=spans))),
        Deadline(reranker=spans, seconds=30.0),
        Ensemble(members=(LexicalReranker(), spans)),
    ):
        assert {hit.id: hit.spans for hit in ask(around)} == {hit.id: hit.spans for hit in expected}


def _old(hit: Hit) -> dict[str, object]:
    return {name: value for name, value in hit.to_dict().items() if name != "spans"}


def test_blank_texts_and_hits_without_a_score_have_no_spans(ask: Ask) -> None:
    ranking = ask(RelevantSpans(reranker=OUTER, by=INNER), [" ", TEXTS[1], "\u200b"])
    assert [hit.spans is None for hit in ranking] == [False, True, True]
    down = Fallback(members=(ScriptedReranker(error=BackendUnavailable("gone")),), on_failure="first_stage")
    inner = replace(INNER)
    assert not any(hit.spans for hit in ask(RelevantSpans(reranker=down, by=inner)))
    assert not inner.calls
    assert not ask(RelevantSpans(reranker=OUTER), [])


def test_a_scorer_that_is_unavailable_degrades_and_a_wrong_key_is_raised(ask: Ask) -> None:
    down = ScriptedReranker(error=BackendUnavailable("gone"), name="down")
    ranking = ask(RelevantSpans(reranker=OUTER, by=down))
    assert hits_without_spans(ranking) == list(ask(OUTER))
    assert ranking.degraded == ("without relevant spans: down failed (BackendUnavailable)",)
    assert ranking.trace.children[1].error is not None
    with pytest.raises(AuthenticationError):
        ask(RelevantSpans(reranker=OUTER, by=replace(down, error=AuthenticationError("no key"))))


def test_ids_that_look_like_those_of_sentences_stay_apart(ask: Ask) -> None:
    texts = [Candidate("a", "One. Two."), Candidate("a#1", "Three. Four.")]
    ranking = ask(RelevantSpans(reranker=OUTER, by=INNER), texts)
    assert [len(hit.spans) for hit in ranking] == [2, 2]
    assert set(ranking.trace.children[1].scores) == {"a##1", "a##2", "a#1##1", "a#1##2"}


def test_windows_around_move_the_spans_and_keep_no_overlap(ask: Ask) -> None:
    text = "Zero one two. Three four five. Six seven eight. Nine ten eleven."
    by = ScriptedReranker(by_text={"Three four five.": 2.0}, default=0.5)
    windows = Windows(reranker=RelevantSpans(reranker=ScriptedReranker(), by=by), tokens=9, overlap=4, tokenizer=_WORDS)
    (hit,) = ask(windows, [text])
    assert ("Three four five.", 2.0) in parts(hit)
    assert_in_order(hit.spans, text)


@pytest.mark.parametrize("in_a_file", [False, True])
def test_a_cache_keeps_the_spans_of_a_backend_with_its_scores(ask: Ask, in_a_file: bool, tmp_path: Path) -> None:
    with Cached(reranker=WithSpans(), path=str(tmp_path / "cache") if in_a_file else None) as cached:
        first, second = ask(cached), ask(cached)
        assert [hit.spans for hit in second] == [hit.spans for hit in first] == [hit.spans for hit in ask(WithSpans())]
        assert second.usage.cached == len(TEXTS)
    with Cached(reranker=WithSpans(nothing=True), path=str(tmp_path / "none") if in_a_file else None) as cached:
        assert [[hit.spans for hit in ask(cached)] for _ in range(2)] == [[()] * 3] * 2
    with Cached(reranker=OUTER, path=str(tmp_path / "outer") if in_a_file else None) as cached:
        assert [[hit.spans for hit in ask(cached)] for _ in range(2)] == [[None] * 3] * 2


def test_around_a_cache_sentences_are_cached_as_texts(ask: Ask) -> None:
    outer = replace(OUTER)
    around = RelevantSpans(reranker=Cached(reranker=outer))
    assert ask(around)[0].spans == ask(around)[0].spans and ask(around)[0].spans
    assert sum(len(texts) for _, texts in outer.calls) == 3 + 6 - 1  # one sentence is a whole text


@pytest.mark.parametrize(
    ("options", "place"), [({"by": "lexical"}, "by"), ({"top_k": 0}, "top_k"), ({"reranker": None}, "reranker")]
)
def test_wrong_options_are_refused(options: dict[str, object], place: str) -> None:
    with pytest.raises(ConfigError, match=place):
        RelevantSpans(**{"reranker": OUTER, **options})  # type: ignore[arg-type]


def test_it_is_a_type_of_a_config() -> None:
    config = {"type": "spans", "reranker": "embedded", "by": "lexical", "top_k": 3}
    assert to_config(build(config)) == {
        "type": "spans",
        "reranker": {"type": "late_interaction", "model": "embedded"},
        "by": {"type": "lexical"},
        "top_k": 3,
    }
    assert build("spans(lexical)") == RelevantSpans(reranker=LexicalReranker())


def test_the_estimate_counts_texts_and_sentences() -> None:
    assert RelevantSpans(reranker=OUTER, by=INNER, top_k=1).estimate("q", [" ", *TEXTS]).texts == 4 + 3


class WithSpans(PointwiseReranker):
    """Gives one span a text: its places are those of the text that it reads."""

    kind = "with-spans"
    scale = "relevance"

    def __init__(self, *, nothing: bool = False) -> None:
        super().__init__()
        self.__dict__["nothing"] = nothing

    @property
    def why_not_cacheable(self) -> None:
        return None

    def place(self, text: str) -> tuple[int, int]:
        return 0, len(text)

    def score(self, query: str, texts: object) -> Scores:
        spans = [(RelevantSpan(*self.place(text), 0.5, 0.5, is_relevant=True),) for text in texts]  # type: ignore[attr-defined]
        if self.__dict__["nothing"]:
            spans = [() for _ in spans]  # type: ignore[misc]
        return Scores([0.5] * len(spans), "relevance", spans=spans)


class Beyond(WithSpans):
    kind = "beyond"

    def place(self, text: str) -> tuple[int, int]:
        return 0, len(text) + 1


def test_spans_of_a_backend_are_checked() -> None:
    assert [parts(hit) for hit in WithSpans().rerank("q", ["ab", " ", "c"])] == [[("ab", 0.5)], [("c", 0.5)], []]
    with pytest.raises(BadResponse, match="overlap or leave the text 0"):
        Beyond().rerank("q", ["ab"])


@pytest.mark.parametrize(("start", "end"), [(-1, 2), (2, 2), (3, 1)])
def test_an_impossible_span_is_refused(start: int, end: int) -> None:
    with pytest.raises(InputError):
        RelevantSpan(start, end, 0.5, 0.5)


any_text = st.one_of(
    st.text(max_size=80),
    st.lists(
        st.sampled_from(
            [
                "Dr. No",
                "漢字。",
                "สวัสดี ครับ",
                "e\u0301. ",
                "\ud83d\ude00! ",
                "\ud800",
                "?\n\n",
                "- a ",
                "। ",
                " . ",
                "👩‍👩‍👧. ",
                "\u200b",
            ]
        ),
        max_size=20,
    ).map("".join),
)


def assert_in_order(spans: tuple[RelevantSpan, ...], text: str) -> None:
    end = 0
    for span in spans:
        assert end <= span.start < span.end <= len(text)
        end = span.end


@settings(max_examples=300)
@given(texts=st.lists(any_text, min_size=1, max_size=4))
def test_spans_lie_in_their_text_in_order_and_leave_out_blank_parts_only(texts: list[str]) -> None:
    ranking = RelevantSpans(reranker=ScriptedReranker(), by=ScriptedReranker()).rerank("q", texts)
    for hit in ranking:
        assert_in_order(hit.spans or (), hit.text)
        rest = list(hit.text)
        for span in hit.spans or ():
            assert not is_blank(hit.text[span.start : span.end])
            rest[span.start : span.end] = " " * (span.end - span.start)
        assert is_blank("".join(rest))


@settings(max_examples=300)
@given(text=any_text)
def test_places_of_a_repaired_text_are_found_in_the_text_itself(text: str) -> None:
    repaired, places = valid_unicode(text), places_before_repair(text)
    assert len(places) == len(repaired) + 1
    assert "".join(valid_unicode(text[a:b]) for a, b in itertools.pairwise(places)) == repaired
    (hit,) = WithSpans().rerank("q", [text + "x"])
    assert (hit.spans[0].start, hit.spans[0].end) == (0, len(text) + 1)


@settings(max_examples=300)
@given(text=any_text)
def test_sentences_cover_any_text(text: str) -> None:
    spans = sentences(text)
    assert "".join(text[a:b] for a, b in spans) == text
