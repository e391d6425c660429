"""Decay: factors worked out by hand, the laws of a prior, and what the trace says of each text."""

from __future__ import annotations

import asyncio
import json
import math
import random
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.calibration_maps import map_for

from rag_rerank import (
    BackendUnavailable,
    Cached,
    Calibrated,
    Candidate,
    ConfigError,
    Decay,
    Fallback,
    Ranking,
    Trace,
    build,
    to_config,
)
from rag_rerank.backends.lexical import LexicalReranker
from rag_rerank.testing import ScriptedReranker

NOW = "2026-12-01"
TODAY = datetime(2026, 12, 1, tzinfo=timezone.utc)


def scripted(scores: dict[str, float], scale: Any = "sigmoid") -> ScriptedReranker:
    return ScriptedReranker(by_text=scores, answers_on=scale)


def aged(days: dict[str, float]) -> list[Candidate]:
    """Candidates whose id is their text, with a date so many days before the first of December."""
    return [Candidate(id, id, metadata={"date": TODAY - timedelta(days=age)}) for id, age in days.items()]


def decay(scores: dict[str, float], scale: Any = "sigmoid", **options: Any) -> Decay:
    options = {"field": "date", "half_life": 30.0, "floor": 0.001, "now": NOW, **options}
    return Decay(reranker=scripted(scores, scale), **options)


def raw_scores(ranking: Ranking) -> dict[str, float | None]:
    return {hit.id: hit.raw_score for hit in ranking}


@pytest.mark.parametrize(
    ("options", "age", "factor"),
    [
        ({}, 0, 1.0),
        ({}, 30, 0.5),
        ({}, 60, 0.25),
        ({}, 15, math.sqrt(0.5)),
        ({}, 30_000, 0.001),  # the floor
        ({"floor": 0.3}, 60, 0.3),
        ({"offset": 10}, 10, 1.0),
        ({"offset": 10}, 40, 0.5),
        ({"shape": "linear"}, 30, 0.5),
        ({"shape": "linear"}, 15, 0.75),
        ({"shape": "linear"}, 45, 0.25),
        ({"shape": "linear"}, 60, 0.001),
        ({"shape": "gaussian"}, 30, 0.5),
        ({"shape": "gaussian"}, 15, 0.5**0.25),
        ({"shape": "gaussian"}, 60, 1 / 16),
        ({"shape": "gaussian"}, 1e200, 0.001),
        ({}, -5, 1.0),
    ],
    ids=str,
)
def test_factors_by_hand(options: dict[str, Any], age: float, factor: float) -> None:
    assert decay({}, **options).factor(age) == pytest.approx(factor, rel=1e-12)


@pytest.mark.parametrize("shape", ["exponential", "linear", "gaussian"])
@given(ages=st.lists(st.floats(0, 1e6), min_size=2, max_size=5))
def test_the_older_text_never_has_the_higher_factor(shape: Any, ages: list[float]) -> None:
    factors = [decay({}, shape=shape, offset=3).factor(age) for age in sorted(ages)]
    assert factors == sorted(factors, reverse=True)
    assert all(0.001 <= factor <= 1 for factor in factors)


def test_elasticsearchs_formulas_with_a_decay_of_a_half_give_the_same() -> None:
    scale, value, half = 30.0, 41.7, 0.5
    sigma2 = -(scale**2) / (2 * math.log(half))
    assert decay({}).factor(value) == pytest.approx(math.exp(math.log(half) / scale * value))
    assert decay({}, shape="gaussian").factor(value) == pytest.approx(math.exp(-(value**2) / (2 * sigma2)))
    width = scale / (1 - half)
    assert decay({}, shape="linear").factor(value) == pytest.approx((width - value) / width)


def test_on_logits_the_odds_are_multiplied() -> None:
    ranking = decay({"old": 2.0, "new": 1.5}).rerank("q", aged({"old": 30, "new": 0}))
    assert [hit.id for hit in ranking] == ["new", "old"]
    assert raw_scores(ranking) == {"new": 1.5, "old": pytest.approx(2.0 - math.log(2))}
    old = ranking[1].score
    assert old is not None and old / (1 - old) == pytest.approx(math.exp(2.0) / 2)
    assert ranking.scale == "sigmoid"


def test_an_old_text_far_above_the_others_stays_there() -> None:
    ranking = decay({"old": 6.0, "new": 0.0}, floor=0.01).rerank("q", aged({"old": 3_000, "new": 0}))
    assert [hit.id for hit in ranking] == ["old", "new"]


def test_numbers_in_0_to_1_are_multiplied() -> None:
    ranking = decay({"old": 0.8, "new": 0.5}, "relevance").rerank("q", aged({"old": 30, "new": 0}))
    assert raw_scores(ranking) == {"new": 0.5, "old": pytest.approx(0.4)}
    assert [hit.score for hit in ranking] == [hit.raw_score for hit in ranking]


def test_of_a_map_the_probability_is_multiplied_and_not_what_is_below() -> None:
    inner = Calibrated(reranker=LexicalReranker(), map=map_for(LexicalReranker()))
    candidates = [
        Candidate(id, f"ruby {id}", metadata={"date": date}) for id, date in (("a", NOW), ("b", "2026-11-01"))
    ]
    before = {hit.id: hit.score for hit in inner.rerank("ruby", candidates)}
    ranking = Decay(reranker=inner, field="date", half_life=30, now=NOW).rerank("ruby", candidates)
    assert ranking.scale == "calibrated"
    assert {hit.id: hit.score for hit in ranking} == {"a": before["a"], "b": pytest.approx((before["b"] or 0) / 2)}


@given(
    scores=st.lists(st.floats(-10, 10), min_size=1, max_size=8, unique=True),
    age=st.floats(0, 1e5),
    seed=st.integers(0, 99),
)
def test_texts_of_one_age_keep_their_order(scores: list[float], age: float, seed: int) -> None:
    by_text = {f"t{i}": score for i, score in enumerate(scores)}
    candidates = aged(dict.fromkeys(by_text, age))
    random.Random(seed).shuffle(candidates)
    reranker = decay(by_text)
    inside = [hit.id for hit in reranker.reranker.rerank("q", candidates)]
    assert [hit.id for hit in reranker.rerank("q", candidates)] == inside


@given(ages=st.lists(st.floats(0, 1e4), min_size=2, max_size=8, unique=True), seed=st.integers(0, 99))
def test_the_order_in_which_texts_come_changes_no_score(ages: list[float], seed: int) -> None:
    days = {f"t{i}": age for i, age in enumerate(ages)}
    reranker = decay({id: math.sin(i) for i, id in enumerate(days)})
    candidates = aged(days)
    shuffled = random.Random(seed).sample(candidates, len(candidates))
    assert raw_scores(reranker.rerank("q", candidates)) == raw_scores(reranker.rerank("q", shuffled))


@pytest.mark.parametrize("options", [{"floor": 1.0}, {"half_life": 1e18}, {"offset": 1e6}], ids=str)
def test_without_effect_every_score_stays(options: dict[str, Any]) -> None:
    scores = {"a": 1.25, "b": -3.5, "c": 7.0}
    ranking = decay(scores, **options).rerank("q", aged({"a": 0, "b": 400, "c": 4_000}))
    assert raw_scores(ranking) == pytest.approx(scores, abs=1e-9)


def test_dates_in_every_form_mean_the_same_moment() -> None:
    forms = ["2026-11-01", "2026-11-01T00:00:00Z", "2026-11-01T02:00:00+02:00", 1793491200, 1793491200000, "1793491200"]
    candidates = [Candidate(str(i), "x", metadata={"file": {"date": form}}) for i, form in enumerate(forms)]
    ranking = decay({}, field="file.date").rerank("q", candidates)
    assert [hit.raw_score for hit in ranking] == pytest.approx([-math.log(2)] * len(forms))


def test_a_missing_date_keeps_the_score_and_a_note_has_the_ids() -> None:
    candidates = [
        Candidate("none", "none"),
        Candidate("blank", "blank", metadata={"date": " "}),
        Candidate("nan", "nan", metadata={"date": math.nan}),
        Candidate("words", "words", metadata={"date": "last week"}),
        Candidate("next", "next", metadata={"date": "2027-05-01"}),
    ]
    ranking = decay({}).rerank("q", candidates)
    assert set(raw_scores(ranking).values()) == {0.0}
    assert ranking.trace.notes == (
        "ages are counted from 2026-12-01T00:00:00+00:00",
        "3 of 5 texts have no 'date'; their scores stay: none, blank, nan",
        "1 of 5 texts have no date in 'date' that can be read; their scores stay: words",
        "1 of 5 texts have a date in the future; their age is 0: next",
    )
    low = decay({}, missing="floor", floor=0.2).rerank("q", candidates)
    assert raw_scores(low) == {
        "next": 0.0,
        **dict.fromkeys(["none", "blank", "nan", "words"], pytest.approx(math.log(0.2))),
    }
    assert "their factor is 0.2" in low.trace.notes[1]


def test_a_note_lists_few_ids_of_many() -> None:
    ranking = decay({}).rerank("q", [Candidate(f"c{i}", "x") for i in range(12)])
    assert ranking.trace.notes[1].endswith("c8, c9 and 2 more")


def test_the_trace_has_score_age_and_factor_of_each_text() -> None:
    ranking = decay({"old": 2.0, "new": 1.0}).rerank("q", [*aged({"old": 60, "new": 0}), Candidate("none", "none")])
    parts = ranking.trace.contributions
    assert parts["old"] == {"score before": 2.0, "60.0 days old, factor 0.25": pytest.approx(-math.log(4))}
    assert parts["new"] == {"score before": 1.0, "0.0 days old, factor 1": 0.0}
    assert parts["none"] == {"score before": 0.0, "no date, factor 1": 0.0}
    for hit in ranking:
        assert sum(parts[hit.id].values()) == pytest.approx(hit.raw_score)
    assert ranking.trace.children[0].scores == {"old": 2.0, "new": 1.0, "none": 0.0}
    assert Trace.from_dict(json.loads(json.dumps(ranking.trace.to_dict()))) == ranking.trace


def test_blank_texts_and_hits_without_a_score_stay_last() -> None:
    ranking = decay({"a": 1.0}).rerank("q", [Candidate("blank", " "), *aged({"a": 0})])
    assert [(hit.id, hit.unscored) for hit in ranking] == [("a", None), ("blank", "blank text")]
    assert decay({}).rerank("q", [" "])[0].raw_score is None


def test_the_moment_is_that_of_the_call_and_one_for_all_texts() -> None:
    today = datetime.now(timezone.utc)
    days = {"a": (today - timedelta(days=30)).isoformat(), "b": (today - timedelta(days=60)).isoformat()}
    candidates = [Candidate(id, id, metadata={"date": date}) for id, date in days.items()]
    ranking = asyncio.run(decay({}, now=None).arerank("q", candidates))
    first, second = (hit.raw_score or 0.0 for hit in ranking)
    assert first == pytest.approx(-math.log(2), abs=1e-3)
    assert first - second == pytest.approx(math.log(2), abs=1e-12)
    assert ranking.trace.notes[0].startswith(f"ages are counted from {today.year}-")


@pytest.mark.parametrize(
    ("scale", "mend"), [("similarity", "calibrated"), ("unbounded", "calibrated"), ("rank", "gives scores")]
)
def test_a_scale_without_a_meaning_for_factors_is_refused(scale: Any, mend: str) -> None:
    with pytest.raises(ConfigError, match=rf"reranker: .*{scale}; .*{mend}"):
        decay({}, scale)


def test_the_answer_of_another_reranker_on_such_a_scale_is_passed_on_and_degraded() -> None:
    down = ScriptedReranker(name="down", error=BackendUnavailable("gone"), answers_on="sigmoid")
    inner = Fallback(members=(down, LexicalReranker()))
    ranking = Decay(reranker=inner, field="date", half_life=30, now=NOW).rerank("ruby", aged({"ruby": 30, "opal": 0}))
    assert [hit.id for hit in ranking] == ["ruby", "opal"] and ranking.scale == "unbounded"
    assert ranking.substituted
    assert "without a decay: another reranker answered, whose scores are unbounded" in ranking.degraded


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"half_life": 0}, "half_life: .*more than 0"),
        ({"half_life": math.inf}, "half_life: .*finite"),
        ({"floor": 0}, "floor: .*more than 0"),
        ({"floor": 1.5}, "floor: .*at most 1"),
        ({"offset": -1}, "offset: expected a number of at least 0"),
        ({"shape": "step"}, "shape: "),
        ({"missing": "drop"}, "missing: "),
        ({"field": " "}, "field: expected a metadata key"),
        ({"now": "tomorrow"}, "now: expected a date as a text"),
        ({"now": TODAY}, "now: expected a date as a text"),
    ],
    ids=str,
)
def test_values_that_are_not_allowed(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        decay({}, **options)


def test_a_config_builds_it_and_every_field_is_part_of_the_identity() -> None:
    node = {"type": "decay", "reranker": "embedded", "field": "date", "half_life": 90, "now": NOW}
    reranker = build(node)
    assert isinstance(reranker, Decay) and build(to_config(reranker)) == reranker
    plain = decay({})
    others: dict[str, Any] = {"field": "day", "half_life": 7.0, "shape": "linear", "offset": 1.0, "floor": 0.5}
    for name, value in {**others, "missing": "floor", "now": "2020"}.items():
        assert decay({}, **{name: value}).identity != plain.identity


def test_a_cache_belongs_inside() -> None:
    with pytest.raises(ConfigError, match="cache its members instead"):
        Cached(reranker=decay({}))  # type: ignore[arg-type]
    inner = Cached(reranker=scripted({"a": 1.0}))
    reranker = Decay(reranker=inner, field="date", half_life=30, now=NOW)
    reranker.rerank("q", aged({"a": 0}))
    again = reranker.rerank("q", aged({"a": 30}))
    assert again.usage.cached == 1
    assert again[0].raw_score == pytest.approx(1.0 - math.log(2))
