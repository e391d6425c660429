"""What the base class does for every backend: checks, blank texts, surrogates, traces on errors, one warning."""

import asyncio
import contextvars
import threading
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import pytest

from rag_rerank import (
    BackendUnavailable,
    BadResponse,
    Candidate,
    Cascade,
    Coverage,
    Fallback,
    InputError,
    InputTooLong,
    PointwiseReranker,
    Ranking,
    Reranker,
    Scale,
    Scores,
    Stage,
    TruncationWarning,
    Usage,
    base,
)
from rag_rerank.execution import calls
from rag_rerank.execution.calls import as_candidates
from rag_rerank.testing import ScriptedReranker
from rag_rerank.text.unicode import valid_unicode


@dataclass(frozen=True, kw_only=True)
class Answering(PointwiseReranker):
    """Returns the same scores for every call."""

    kind: ClassVar[str] = "answering"
    answer: Scores | Exception

    @property
    def scale(self) -> Scale:
        return "unbounded"

    def score(self, query: str, texts: Sequence[str]) -> Scores:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1.0], "1 scores"),
        ([1.0, 2.0, 3.0], "3 scores"),
        ([1.0, float("nan")], "score 1 must be finite"),
        ([1.0, float("inf")], "score 1 must be finite"),
        ([None, 1.0], "score 0 must be a number"),
        (["0.5", 1.0], "score 0 must be a number"),
    ],
)
def test_a_backend_that_breaks_its_word_is_a_bad_response(values: list[object], message: str) -> None:
    with pytest.raises(BadResponse, match=message) as caught:
        Answering(answer=Scores(values, "unbounded")).rerank("q", ["a", "b"])
    assert caught.value.backend == "answering"
    assert "BadResponse" in caught.value.trace.error


@pytest.mark.parametrize("answer", [None, [0.5]])
def test_an_answer_that_is_no_scores_is_a_bad_response(answer: object) -> None:
    with pytest.raises(BadResponse, match=r"answering gave .* instead of Scores"):
        Answering(answer=answer).rerank("q", ["a"])


def test_a_stop_iteration_of_a_member_does_not_pass_for_the_end_of_the_plan() -> None:
    whole = Fallback(members=(Answering(answer=StopIteration()), ScriptedReranker()))
    with pytest.raises(RuntimeError, match="answering raised StopIteration"):
        whole.rerank("q", ["a"])


def test_as_many_coverages_as_texts_or_none() -> None:
    with pytest.raises(BadResponse, match="1 coverages"):
        Answering(answer=Scores([1.0, 2.0], "unbounded", coverage=[Coverage(1, 1)])).rerank("q", ["a", "b"])


def test_blank_texts_are_not_sent_and_the_others_keep_their_scores() -> None:
    reranker = ScriptedReranker(by_text={"low": 1.0, "high": 2.0})
    ranking = reranker.rerank("q", ["", "low", "\u00a0\n", "high"])
    assert reranker.calls == [("q", ("low", "high"))]
    assert [(hit.id, hit.raw_score) for hit in ranking] == [("3", 2.0), ("1", 1.0), ("0", None), ("2", None)]
    assert ranking.trace.unscored == {"0": "blank text", "2": "blank text"}


@pytest.mark.parametrize("blank", ["\u200b", "\ufeff\r\n", "\x00", "\u00ad\u200d \u202e"])
def test_what_nobody_can_see_is_blank(blank: str) -> None:
    reranker = ScriptedReranker()
    ranking = reranker.rerank("q", [blank, "x\u200b", "\ue000", "\u0301"])
    assert [hit.id for hit in ranking if hit.unscored] == ["0"]
    with pytest.raises(InputError, match="the query is blank"):
        reranker.rerank(blank, ["x"])


@pytest.mark.parametrize("value", [9.0, float("nan")])
def test_a_text_that_the_backend_left_without_a_score_comes_after_the_others_and_before_blank_ones(
    value: float,
) -> None:
    left = Scores([1.0, value, 2.0], "unbounded", unscored={1: "refused"}, degraded=("1 text was refused",))
    ranking = Answering(answer=left).rerank("q", ["a", " ", "b", "c"])
    assert [(hit.id, hit.raw_score, hit.unscored) for hit in ranking] == [
        *(("3", 2.0, None), ("0", 1.0, None)),
        *(("2", None, "refused"), ("1", None, "blank text")),
    ]
    assert ranking.degraded == ("1 text was refused",)
    assert ranking.trace.unscored == {"2": "refused", "1": "blank text"}


def test_a_position_without_a_text_cannot_be_left_without_a_score() -> None:
    with pytest.raises(BadResponse, match=r"left texts at positions \[2\] of 2 without a score"):
        Answering(answer=Scores([1.0, 2.0], "unbounded", unscored={2: "refused"})).rerank("q", ["a", "b"])


def test_with_only_blank_texts_the_backend_is_not_called() -> None:
    reranker = ScriptedReranker()
    assert len(reranker.rerank("q", [" "])) == 1
    assert len(reranker.rerank("q", [])) == 0
    assert reranker.calls == []


def test_surrogates_are_repaired_for_the_backend_but_not_for_the_caller() -> None:
    reranker = ScriptedReranker()
    text = "lone \ud800, paired \ud83d\ude00"
    ranking = reranker.rerank("why \udfff?", [text])
    assert reranker.calls == [("why \ufffd?", ("lone \ufffd, paired 😀",))]
    assert ranking[0].text is text and ranking.query == "why \udfff?"
    assert len(ranking.trace.notes) == 2


def test_valid_text_is_not_copied() -> None:
    text = "plain 😀"
    assert valid_unicode(text) is text


def test_ids_given_twice_are_refused_with_both_positions() -> None:
    with pytest.raises(InputError, match=r"candidates\[0\] and candidates\[2\] have the same id 'a'"):
        as_candidates("q", [Candidate("a", "x"), Candidate("b", "x"), Candidate("a", "y")])


def test_a_plain_string_may_clash_with_a_given_id() -> None:
    with pytest.raises(InputError, match="same id '1'"):
        as_candidates("q", [Candidate("1", "x"), "y"])


def test_an_error_keeps_its_trace_and_names_the_candidate() -> None:
    error = InputTooLong("the text has 900 tokens", position=1)
    with pytest.raises(InputTooLong, match="candidate 'c': the text has 900 tokens") as caught:
        Answering(answer=error).rerank("q", [Candidate("a", "x"), Candidate("b", " "), Candidate("c", "y")])
    assert caught.value.trace.step == "answering"
    assert "candidate 'c'" in caught.value.trace.error


def test_one_warning_a_reranker_says_that_texts_are_cut_and_each_call_how_many() -> None:
    answer = Scores([1.0, 2.0, 3.0], "unbounded", coverage=[Coverage(9, 5), Coverage(5, 5), Coverage(8, 5)])
    reranker = Answering(answer=answer)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        rankings = [reranker.rerank("q", ["a", "b", "c"]) for _ in range(3)]
        Answering(answer=answer, name="other").rerank("q", ["a", "b", "c"])
    assert [warning.category for warning in caught] == [TruncationWarning] * 2
    assert [str(warning.message).split()[0] for warning in caught] == ["answering", "other"]
    assert not any(char.isdigit() for char in str(caught[0].message))
    for ranking in rankings:
        assert [hit.coverage.truncated for hit in ranking] == [True, False, True]
        assert ranking.trace.coverage == {"2": Coverage(8, 5), "1": Coverage(5, 5), "0": Coverage(9, 5)}


def test_the_warning_points_at_the_callers_line_however_deep_the_leaf() -> None:
    answer = Scores([1.0], "unbounded", coverage=[Coverage(9, 5)])

    def leaf() -> Reranker:
        return Answering(answer=answer)

    def deep() -> Reranker:
        return Cascade(stages=(Stage(reranker=Fallback(members=(leaf(), leaf()))),))

    async def ask(reranker: Reranker) -> None:
        await reranker.arerank("q", ["a"])

    for make in (leaf, deep):
        with pytest.warns(TruncationWarning) as caught:
            make().rerank("q", ["a"])
            asyncio.run(ask(make()))
        here = [ask.__code__.co_firstlineno + 1, ask.__code__.co_firstlineno + 5]
        assert {warning.filename for warning in caught} == {__file__}
        assert sorted(warning.lineno for warning in caught) == here


def test_a_thousand_candidates_are_checked_and_ranked_away_from_the_event_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    thread_ids: dict[str, int] = {}

    def noting(name: str) -> None:
        work = getattr(calls, name)

        def record(*args: object) -> object:
            thread_ids[name] = threading.get_ident()
            return work(*args)

        monkeypatch.setattr(base if name == "as_candidates" else calls, name, record)

    for name in ("as_candidates", "valid_unicode", "ranked_hits"):
        noting(name)
    texts = [f"text {i}" for i in range(1_000)]
    values = [float(i) for i in range(1_000)]
    reranker = Answering(answer=Scores(values, "unbounded", coverage=[Coverage(9, 5)] * 1_000))

    async def ask() -> Ranking:
        return await reranker.arerank("q", texts)

    with pytest.warns(TruncationWarning) as caught:
        ranking = asyncio.run(ask())
    assert [hit.text for hit in ranking] == texts[::-1]
    assert (
        set(thread_ids) == {"as_candidates", "valid_unicode", "ranked_hits"}
        and threading.get_ident() not in thread_ids.values()
    )
    assert [warning.filename for warning in caught] == [__file__]
    with pytest.raises(InputError, match=r"candidates\[999\] must be a string or a Candidate, got int"):
        asyncio.run(reranker.arerank("q", [*texts[:-1], 7]))


def test_async_leaves_run_on_a_thread_with_the_callers_context() -> None:
    variable = contextvars.ContextVar("variable", default="unset")
    observations = []

    @dataclass(frozen=True, kw_only=True)
    class Looking(Answering):
        def score(self, query: str, texts: Sequence[str]) -> Scores:
            observations.append((variable.get(), threading.current_thread() is threading.main_thread()))
            return super().score(query, texts)

    async def ask() -> None:
        variable.set("set")
        await Looking(answer=Scores([1.0], "unbounded")).arerank("q", ["a"])

    asyncio.run(ask())
    assert observations == [("set", False)]


def test_sync_works_inside_a_running_loop() -> None:
    async def ask() -> int:
        return len(ScriptedReranker().rerank("q", ["a", "b"]))

    assert asyncio.run(ask()) == 2


def test_usage_adds_up_and_remembers_what_was_estimated() -> None:
    total = Usage(texts=2, tokens=None, cost=0.5) + Usage(texts=3, tokens=7, estimated=("tokens",))
    assert total == Usage(texts=5, tokens=7, cost=0.5, estimated=("tokens",))
    assert Usage.total([]) == Usage()


def test_errors_that_are_not_ours_pass_through() -> None:
    with pytest.raises(ZeroDivisionError):
        Answering(answer=ZeroDivisionError()).rerank("q", ["a"])
    with pytest.raises(BackendUnavailable):
        Answering(answer=BackendUnavailable("down")).rerank("q", ["a"])


@pytest.mark.parametrize("candidates", [None, 3, {"a": "a text under its id"}])
def test_what_is_no_sequence_of_texts_is_an_input_error(candidates: object) -> None:
    with pytest.raises(InputError, match="candidates must be a sequence"):
        ScriptedReranker().rerank("q", candidates)


def test_generators_of_candidates_are_taken_too() -> None:
    assert len(ScriptedReranker().rerank("q", (t for t in ("a", "b")))) == 2
