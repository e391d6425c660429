"""Answerable: order and scores stay, the probability follows from the scores, and it is never another reranker's."""

import asyncio
import json
import math
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.calibration_maps import answerability_map_for, map_for

import rag_rerank
from rag_rerank import (
    Answerable,
    BackendUnavailable,
    Cached,
    Calibrated,
    CalibrationWarning,
    Candidate,
    Cascade,
    ConfigError,
    Deadline,
    Ensemble,
    Fallback,
    Hedge,
    Ranking,
    Recorded,
    RelevantSpans,
    Reranker,
    Shadow,
    Stage,
    build,
    to_config,
)
from rag_rerank.backends.lexical import LexicalReranker
from rag_rerank.compose.calibration.answerability_map import AnswerabilityMap, FalseAccepts
from rag_rerank.records import read
from rag_rerank.testing import ScriptedReranker

FINITE = st.floats(-1e6, 1e6)


def scripted(*scores: float, **options: Any) -> ScriptedReranker:
    """Return a reranker with these raw scores of the texts "0", "1", "2" ..."""
    return ScriptedReranker(by_text={str(i): score for i, score in enumerate(scores)}, answers_on="sigmoid", **options)


def answerable(inner: Reranker, **values: Any) -> Answerable:
    return Answerable(reranker=inner, map=answerability_map_for(inner, **values))


def expected(*scores: float) -> float:
    """The probability by the map of the tests, written out."""
    top = max(scores)
    lead = top - (sum(scores) - top) / (len(scores) - 1)
    return 1 / (1 + math.exp(-(top + 0.5 * lead)))


@given(st.lists(FINITE, min_size=2, max_size=12))
def test_it_is_a_probability_and_changes_nothing_else(scores: list[float]) -> None:
    inner = scripted(*scores)
    ranking, plain = answerable(inner).rerank("q", list(inner.by_text)), inner.rerank("q", list(inner.by_text))
    assert ranking.hits == plain.hits and ranking.scale == plain.scale
    assert ranking.answerable is not None and 0 <= ranking.answerable <= 1
    assert plain.answerable is None


@given(st.permutations([-3.0, -1.0, 0.5, 0.5, 2.0]))
def test_the_same_scores_in_any_order_give_the_same_number(scores: list[float]) -> None:
    inner = scripted(*scores)
    value = answerable(inner).rerank("q", list(inner.by_text)).answerable
    assert value == answerable(scripted(-3.0, -1.0, 0.5, 0.5, 2.0)).rerank("q", list(inner.by_text)).answerable
    assert value == pytest.approx(expected(*scores), abs=1e-12)


def test_it_counts_all_candidates_and_not_only_those_above_the_cutoff() -> None:
    inner = scripted(1.0, -2.0, -3.0)
    assert answerable(inner).rerank("q", ["0", "1", "2"], top_k=1).answerable == pytest.approx(expected(1, -2, -3))
    there = asyncio.run(answerable(inner).arerank("q", ["0", "1", "2"], top_k=1))
    assert there.answerable == pytest.approx(expected(1, -2, -3))


@pytest.mark.parametrize("candidates", [[], [" "]], ids=["none", "blank"])
def test_where_there_is_no_text_nothing_answers(candidates: list[str]) -> None:
    assert answerable(scripted(1.0)).rerank("q", candidates).answerable == 0


def test_one_score_has_nothing_to_lead_and_a_note_says_so() -> None:
    ranking = answerable(scripted(1.0)).rerank("q", ["0", " "])
    assert ranking.answerable is None
    assert ranking.trace.notes == ("answerable is unknown: that takes the scores of two texts or more",)


def test_an_answer_of_another_reranker_gets_none_and_the_ranking_says_so() -> None:
    down = ScriptedReranker(name="down", answers_on="sigmoid", error=BackendUnavailable("gone"))
    ranking = answerable(Fallback(members=(down, scripted(1.0, 2.0)))).rerank("q", ["0", "1"])
    assert ranking.answerable is None and ranking.substituted
    assert "answerable is unknown, since another reranker answered" in ranking.degraded[-1]


class Remote(ScriptedReranker):
    """A reranker that pretends to be a provider."""

    remote = True  # type: ignore[assignment]


PASS_ON: dict[str, Callable[[Reranker], Reranker]] = {
    "calibrated": lambda r: Calibrated(reranker=r, map=map_for(r)),
    "deadline": lambda r: Deadline(reranker=r, seconds=30.0),
    "fallback": lambda r: Fallback(members=(r, LexicalReranker())),
    "hedge": lambda r: Hedge(members=(r, Remote(by_text={})), after=30.0),
    "shadow": lambda r: Shadow(reranker=r, other=LexicalReranker(), share=1e-9),
    "spans": lambda r: RelevantSpans(reranker=r, by=LexicalReranker()),
}


@pytest.mark.parametrize("kind", sorted(PASS_ON))
def test_what_returns_one_answer_as_it_is_passes_it_on(kind: str) -> None:
    outer = PASS_ON[kind](answerable(Remote(by_text={"0": 1.0, "1": -1.0}, answers_on="sigmoid")))
    assert outer.rerank("q", ["0", "1"]).answerable == pytest.approx(expected(1, -1))


def test_records_pass_it_on_and_hold_it(tmp_path: Path) -> None:
    recorded = Recorded(reranker=answerable(scripted(1.0, -1.0)), file=str(tmp_path / "calls.jsonl"))
    assert recorded.rerank("q", ["0", "1"]).answerable == pytest.approx(expected(1, -1))
    recorded.close()
    with rag_rerank.recording(tmp_path / "plain.jsonl"):
        scripted(1.0).rerank("q", ["0"])
    (call,), (plain,) = read(tmp_path / "calls.jsonl"), read(tmp_path / "plain.jsonl")
    assert call.answerable == pytest.approx(expected(1, -1)) and plain.answerable is None
    assert call.to_dict()["answerable"] == call.answerable and "answerable" not in plain.to_dict()


DROP: dict[str, Callable[[Reranker], Reranker]] = {
    "cascade": lambda r: Cascade(stages=(Stage(reranker=LexicalReranker(), depth=2), Stage(reranker=r))),
    "ensemble": lambda r: Ensemble(members=(r, LexicalReranker())),
}


@pytest.mark.parametrize("kind", sorted(DROP))
def test_what_makes_a_list_of_its_own_does_not(kind: str) -> None:
    outer = DROP[kind](answerable(scripted(1.0, -1.0, 0.0)))
    assert outer.rerank("0 1 2", ["0", "1", "2"]).answerable is None


def test_it_goes_around_what_makes_a_list_of_its_own_and_around_a_cache() -> None:
    ensemble = Ensemble(members=(scripted(1.0, -1.0), scripted(2.0, 0.0)))
    for inner in (ensemble, Cached(reranker=scripted(1.0, -1.0))):
        assert answerable(inner).rerank("0", ["0", "1"]).answerable is not None
    with pytest.raises(ConfigError):
        Cached(reranker=answerable(LexicalReranker()))  # type: ignore[arg-type]


def test_a_map_of_another_reranker_warns_and_one_of_another_scale_is_refused() -> None:
    inner = scripted(1.0, -1.0)
    other = answerability_map_for(scripted(1.0, -1.0, 7.0))
    with pytest.warns(CalibrationWarning, match="rag-rerank calibrate JUDGED --answerable"):
        ranking = Answerable(reranker=inner, map=other).rerank("q", ["0", "1"])
    assert ranking.answerable is not None and "may be off" in ranking.trace.notes[0]
    with pytest.raises(ConfigError, match=r"^map: the map was fitted on scripted, whose scores are sigmoid"):
        Answerable(reranker=LexicalReranker(), map=other)
    with pytest.raises(ConfigError, match="gives places and no scores"):
        answerable(ScriptedReranker(by_text={}, answers_on="rank"))
    with pytest.raises(ConfigError, match=r"^map: expected a path or an AnswerabilityMap, got int"):
        Answerable(reranker=inner, map=7)  # type: ignore[arg-type]


def test_a_config_holds_a_path_or_the_map_itself(tmp_path: Path) -> None:
    inner = LexicalReranker()
    limit = FalseAccepts(rate=0.1, threshold=0.7, lists=20, accepted=0.5)
    fitted = answerability_map_for(inner, false_accepts=limit)
    fitted.save(tmp_path / "a.json")
    assert AnswerabilityMap.load(tmp_path / "a.json") == fitted
    for value in (fitted, str(tmp_path / "a.json")):
        reranker = Answerable(reranker=inner, map=value)
        twin = build(json.loads(json.dumps(to_config(reranker))))
        assert twin == reranker == pickle.loads(pickle.dumps(reranker)) and hash(twin) == hash(reranker)
        assert twin.rerank("warm", ["warm", "cold"]).answerable == reranker.rerank("warm", ["warm", "cold"]).answerable


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema": "rag_rerank.calibration/1"}, "schema: no answerability map of this release"),
        ({"weights": {"top": 1.0}}, "weights: expected the weights of top, lead, got"),
        ({"weights": {"top": 1.0, "lead": "much"}}, r"weights\.lead: expected a finite number"),
        ({"intercept": None}, "intercept: expected a finite number"),
        ({"auroc": 1.5}, r"auroc: expected a number in 0\.\.1"),
        ({"false_accepts": {"rate": 0.1}}, "false_accepts: accepted, lists, threshold is missing"),
        ({"fitted": {}}, "fitted: .* is missing"),
        ({"weight": 1}, "unknown key 'weight'"),
    ],
    ids=["schema", "absent", "text", "null", "range", "limit", "origin", "unknown"],
)
def test_a_wrong_file_is_named_with_its_place(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_text(json.dumps({**answerability_map_for(LexicalReranker()).to_dict(), **changes}))
    with pytest.raises(ConfigError, match=message) as raised:
        AnswerabilityMap.load(file)
    assert str(file) in str(raised.value)


def test_a_ranking_keeps_it_in_a_dictionary_and_in_a_pickle_and_reads_those_of_before() -> None:
    ranking = answerable(scripted(1.0, -1.0)).rerank("q", [Candidate("a", "0"), Candidate("b", "1")])
    assert Ranking.from_dict(ranking.to_dict()) == ranking == pickle.loads(pickle.dumps(ranking))
    assert f"{ranking.answerable:.2f} is the probability" in ranking._repr_html_()
    of_before = {key: value for key, value in ranking.to_dict().items() if key != "answerable"}
    assert Ranking.from_dict(of_before).answerable is None
    old = object.__new__(Ranking)
    old.__setstate__(ranking.__getstate__()[:-1])  # type: ignore[attr-defined, index]
    assert old.answerable is None and old.hits == ranking.hits
