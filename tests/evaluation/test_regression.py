"""The comparison with a baseline finds falls and nothing else, and a file is read strictly."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from rag_rerank import InputError
from rag_rerank.evaluation.data.judged import Problem
from rag_rerank.evaluation.regression import compare_with_baseline
from rag_rerank.evaluation.report import (
    FIRST_STAGE,
    SCHEMA,
    Bin,
    Comparison,
    Data,
    Depth,
    DocumentRanks,
    Evaluation,
    EvaluationSettings,
    MeanEstimate,
    Outcome,
    Reliability,
    Slice,
    System,
    Verdict,
)

MEASURES = ("nDCG@10", "nDCG@3")


def evaluation(
    values: dict[str, list[float]], *, fingerprint: str = "f", slices: int = 4, **options: Any
) -> Evaluation:
    """Return an evaluation with these values by system; the languages of the queries alternate."""
    n = len(next(iter(values.values())))
    outcomes = tuple(
        Outcome(
            id=f"q{i}",
            text=f"query {i}",
            candidates=10,
            relevant=1,
            slices={"language": f"l{i % slices}"},
            measures={name: dict.fromkeys(MEASURES, by[i]) for name, by in values.items()},
        )
        for i in range(n)
    )
    mean = MeanEstimate(mean=0.5, low=0.4, high=0.6)
    data = Data(
        name="d", fingerprint=fingerprint, queries=n, candidates=10.0, judged=1.0, relevant=1, ceiling={"nDCG@10": 1.0}
    )
    plain = Evaluation(
        time="2025-01-01T00:00:00Z",
        version="0",
        data=data,
        settings=EvaluationSettings(measures=MEASURES, depth=10, top_k=5, samples=2_000, seed=0),
        systems=tuple(System(name=name, label=name, measures=dict.fromkeys(MEASURES, mean)) for name in values),
        comparisons=(),
        slices=(),
        verdict=Verdict(rerank=False, words="none"),
        outcomes=outcomes,
    )
    return replace(plain, **options)


def noise(seed: int, n: int = 80) -> list[float]:
    return np.random.default_rng(seed).uniform(0.2, 0.8, n).tolist()


def test_the_same_again_is_no_fall() -> None:
    one = evaluation({FIRST_STAGE: noise(1), "x": noise(2)})
    drift = compare_with_baseline(one, one)
    assert (drift.falls, drift.tested, drift.queries, drift.notes) == ((), 10, 80, ())


def test_a_slice_that_fell_is_found_though_the_whole_did_not_fall() -> None:
    before = noise(1)
    now = [v - 0.1 if i % 4 == 2 else v + 0.05 for i, v in enumerate(before)]
    (fall,) = compare_with_baseline(evaluation({"x": now}), evaluation({"x": before})).falls
    assert (fall.system, fall.field, fall.value, fall.measure, fall.queries) == ("x", "language", "l2", "nDCG@10", 20)
    assert fall.difference.mean == pytest.approx(-0.1) and fall.p_adjusted < 0.05
    assert fall.before - fall.now == pytest.approx(0.1)
    assert str(fall).startswith("x where language is l2: nDCG@10 fell from 0.") and "20 queries" in str(fall)


def test_a_fall_of_everything_is_reported_for_all_queries_first_where_it_is_the_largest() -> None:
    before = noise(1)
    drift = compare_with_baseline(evaluation({"x": [v - 0.2 for v in before]}), evaluation({"x": before}))
    assert {(fall.field, fall.value) for fall in drift.falls} == {
        (None, None),
        *(("language", f"l{i}") for i in range(4)),
    }
    assert [fall.difference.mean for fall in drift.falls] == sorted(fall.difference.mean for fall in drift.falls)
    assert any(str(fall).startswith("x: nDCG@10 fell from ") for fall in drift.falls)


def test_a_rise_is_no_fall_and_a_small_slice_is_not_tested() -> None:
    before = noise(1)
    assert compare_with_baseline(evaluation({"x": [v + 0.2 for v in before]}), evaluation({"x": before})).falls == ()
    assert compare_with_baseline(evaluation({"x": before}, slices=10), evaluation({"x": before})).tested == 1


def test_where_nothing_changed_but_by_chance_at_most_5_of_100_runs_are_stopped() -> None:
    stopped = 0
    for seed in range(200):
        before = noise(seed, 48)
        now = (np.array(before) + np.random.default_rng(1_000 + seed).normal(0, 0.1, 48)).tolist()
        settings = EvaluationSettings(measures=MEASURES, depth=10, top_k=5, samples=500, seed=seed)
        stopped += bool(
            compare_with_baseline(evaluation({"x": now}, settings=settings), evaluation({"x": before})).falls
        )
    assert stopped <= 0.05 * 200 + 3 * (0.05 * 0.95 * 200) ** 0.5


def test_what_differs_is_compared_as_far_as_it_can_be_and_said() -> None:
    before = evaluation({"x": noise(1, 60), "old": noise(2, 60)}, fingerprint="a")
    now = evaluation({"x": [0.0] * 50, "new": [0.0] * 50}, fingerprint="b")
    settings = replace(now.settings, depth=20)
    changed = replace(now.outcomes[0], text="another query")
    drift = compare_with_baseline(replace(now, outcomes=(changed, *now.outcomes[1:]), settings=settings), before)
    assert drift.queries == 49 and {fall.system for fall in drift.falls} == {"x"}
    assert drift.notes == (
        "The data are not those of the baseline: 49 of 50 queries are in both (the baseline has 60), and their "
        "candidates or judgments may differ.",
        "Not in the baseline, so not compared: new.",
        "Only in the baseline, so not compared: old.",
        "The baseline was made with depth 10, this evaluation with 20.",
    )


def test_what_cannot_be_compared_is_refused() -> None:
    one = evaluation({"x": noise(1)})
    with pytest.raises(InputError, match="no system in common"):
        compare_with_baseline(one, evaluation({"y": noise(1)}))
    with pytest.raises(InputError, match="no query in common"):
        compare_with_baseline(one, replace(one, outcomes=tuple(replace(o, id=f"other {o.id}") for o in one.outcomes)))
    with pytest.raises(InputError, match="AP, which this evaluation did not measure"):
        compare_with_baseline(one, replace(one, settings=replace(one.settings, measures=("AP",))))


def full() -> Evaluation:
    """Return an evaluation in which no part is empty."""
    mean = MeanEstimate(mean=0.5, low=0.4, high=0.6)
    test = Comparison(
        system="x",
        baseline=FIRST_STAGE,
        measure="nDCG@10",
        difference=mean,
        p=0.5,
        p_adjusted=1.0,
        helped=1,
        hurt=2,
        unchanged=3,
    )
    one = evaluation({FIRST_STAGE: noise(1, 4), "x": noise(2, 4)})
    bins = (Bin(low=0.0, high=0.1, count=3, score=0.05, relevant=0.1),)
    x = replace(
        one.systems[1],
        config={"type": "lexical", "k1": 1.2},
        failures={"tie": 2, "candidates": 1},
        p50=0.1,
        estimated=("cost",),
        depths=(Depth(depth=5, measures={"nDCG@10": mean}),),
        reliability=Reliability(ece=0.1, bins=bins),
    )
    place = DocumentRanks(id="d", grade=2, ranks={"x": 1, FIRST_STAGE: None})
    first = replace(one.outcomes[0], failures={"x": "tie"}, places=(place,), seconds={"x": 0.1})
    return replace(
        one,
        data=replace(one.data, problems=(Problem(kind="k", count=1, examples=("e",)),)),
        systems=(one.systems[0], x),
        comparisons=(test,),
        slices=(Slice(field="f", value="v", queries=4, measures={"x": {"nDCG@10": 0.5}}, comparisons=(test,)),),
        outcomes=(first, *one.outcomes[1:]),
    )


def test_an_evaluation_comes_back_from_its_json_as_it_was() -> None:
    one = full()
    assert Evaluation.from_dict(json.loads(json.dumps(one.to_dict()))) == one
    assert Evaluation.from_dict(one.to_dict()) == one
    assert Evaluation.from_dict({**one.to_dict(), "added later": 1}) == one


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": "rag_rerank.evaluation/9"}, f"its schema is 'rag_rerank.evaluation/9', expected '{SCHEMA}'"),
        ({"schema": None}, "it names no schema"),
        ({"outcomes": [{}]}, "cannot be read at outcomes.0.id"),
        ({"verdict": None}, "cannot be read at verdict"),
    ],
)
def test_another_file_is_refused_with_the_place(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        Evaluation.from_dict({**full().to_dict(), **change})
    assert message in str(caught.value)


def test_what_is_no_mapping_is_refused() -> None:
    with pytest.raises(InputError, match="it names no schema"):
        Evaluation.from_dict([])  # type: ignore[arg-type]
