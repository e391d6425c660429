"""Candidates, scores, hits and rankings: the laws of the only sort."""

import json
import math
import pickle
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_rerank import (
    AllFailed,
    BackendTimeout,
    Candidate,
    ConfigError,
    Coverage,
    InputError,
    InputTooLong,
    RateLimited,
    Scores,
)
from rag_rerank._checks import check_values
from rag_rerank.execution.ranking import ranked_hits
from rag_rerank.testing import ScriptedReranker
from rag_rerank.types import SCALES, present

FINITE = st.floats(allow_nan=False, allow_infinity=False)


@given(st.lists(FINITE, max_size=30))
def test_ranking_is_by_raw_score_then_by_arrival(values: list[float]) -> None:
    candidates = [Candidate(str(i), "x") for i in range(len(values))]
    hits = ranked_hits(candidates, Scores(values, "unbounded"), range(len(values)), {})
    assert [(-hit.raw_score, int(hit.id)) for hit in hits] == sorted((-v, i) for i, v in enumerate(values))
    assert [hit.rank for hit in hits] == list(range(1, len(values) + 1))


@given(st.lists(FINITE, min_size=2, max_size=30))
def test_a_saturated_sigmoid_never_decides_the_order(values: list[float]) -> None:
    candidates = [Candidate(str(i), "x") for i in range(len(values))]
    hits = ranked_hits(candidates, Scores(values, "sigmoid"), range(len(values)), {})
    assert [hit.raw_score for hit in hits] == sorted(values, reverse=True)
    assert all(0 <= hit.score <= 1 for hit in hits)


def test_unscored_candidates_stand_last_in_the_order_they_came() -> None:
    candidates = [Candidate(name, "x") for name in "abcd"]
    hits = ranked_hits(candidates, Scores([-5.0, 3.0], "unbounded"), [1, 3], {2: "why", 0: "because"})
    assert [(hit.id, hit.score, hit.unscored) for hit in hits] == [
        ("d", 3.0, None),
        ("b", -5.0, None),
        ("a", None, "because"),
        ("c", None, "why"),
    ]


@given(st.floats(-700, 700))
def test_presented_score_is_the_float64_sigmoid(logit: float) -> None:
    expected = 1 / (1 + np.exp(-np.float64(logit)))
    assert present(logit, "sigmoid") == pytest.approx(expected, rel=1e-12, abs=1e-300)


@pytest.mark.parametrize("logit", [-1e308, -1000.0, 1000.0, 1e308])
def test_sigmoid_does_not_overflow(logit: float) -> None:
    assert present(logit, "sigmoid") in (0.0, 1.0)


@pytest.mark.parametrize("scale", [s for s in SCALES if s != "sigmoid"])
def test_other_scales_present_the_raw_number(scale: str) -> None:
    assert present(-3.25, scale) == -3.25


@pytest.mark.parametrize("number", [1, np.float32(1), np.int64(1), Decimal(1), np.array(1.0)])
def test_numbers_of_other_libraries_become_plain_floats(number: object) -> None:
    (value,) = check_values([number])
    assert type(value) is float
    assert type(Candidate("a", "x", score=number).score) is float


@pytest.mark.parametrize(
    "number", [math.nan, math.inf, "0.5", None, True, b"1", [1, 2], object(), pytest.param(10**400, id="huge")]
)
def test_what_is_no_finite_number_is_refused_by_position(number: object) -> None:
    with pytest.raises(InputError, match="score 1"):
        check_values([0.0, number])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"id": 3, "text": "x"}, "id must be a non-empty string"),
        ({"id": "", "text": "x"}, "id must be a non-empty string"),
        ({"id": "a", "text": None}, "candidate 'a': text must be a string"),
        ({"id": "a", "text": b"x"}, "candidate 'a': text must be a string"),
        ({"id": "a", "text": "x", "score": math.nan}, "candidate 'a': score must be finite"),
        ({"id": "a", "text": "x", "score": "high"}, "candidate 'a': score must be a number"),
        ({"id": "a", "text": "x", "metadata": [1]}, "candidate 'a': metadata must be a mapping"),
    ],
)
def test_bad_candidates_say_which_and_why(fields: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Candidate(**fields)


def test_a_wrong_type_is_named_without_the_text_inside_it() -> None:
    for fields in ({"text": ["the patient is ill"]}, {"text": b"the patient"}, {"text": "x", "metadata": ["patient"]}):
        with pytest.raises(InputError) as caught:
            Candidate("a", **fields)
        assert "patient" not in str(caught.value)


def test_a_candidate_is_hashable_even_with_metadata() -> None:
    assert len({Candidate("a", "x", metadata={"k": []}), Candidate("a", "x", metadata={"k": []})}) == 1


def test_top_gives_the_head_and_keeps_the_rest_of_the_story() -> None:
    ranking = ScriptedReranker(by_text={"b": 2.0, "c": 1.0}).rerank("q", ["a", "b", "c"])
    head = ranking.top(2)
    assert [hit.text for hit in head] == ["b", "c"]
    assert head.trace is ranking.trace and head.usage == ranking.usage
    assert ranking.top(None) is ranking and ranking.top(9) is ranking
    assert ranking[0].text == "b" and [hit.text for hit in ranking[1:]] == ["c", "a"]


def test_a_ranking_survives_json_and_pickle() -> None:
    candidates = [Candidate("a", "warm", score=1.5, metadata={"page": [3]}), Candidate("b", " ")]
    ranking = ScriptedReranker().rerank("q", candidates)
    assert type(ranking).from_dict(json.loads(json.dumps(ranking.to_dict()))) == ranking
    assert pickle.loads(pickle.dumps(ranking)) == ranking


def test_coverage_says_whether_a_text_was_cut() -> None:
    assert Coverage(total=10, seen=9).truncated
    assert not Coverage(total=10, seen=10).truncated


def test_errors_survive_pickle_with_their_trace_and_path() -> None:
    for error in (
        ConfigError("wrong", path="stages[0]"),
        InputTooLong("long", position=3),
        RateLimited("slow down", retry_after=2.0, backend="b", model="m", status=429),
        AllFailed("all", errors=[BackendTimeout("late")]),
    ):
        error.trace = ScriptedReranker().rerank("q", ["a"]).trace
        twin = pickle.loads(pickle.dumps(error))
        assert (type(twin), str(twin)) == (type(error), str(error))
        assert {**vars(twin), "errors": ()} == {**vars(error), "errors": ()}
