"""A margin lets in who might still be kept, and costs nothing that it promises to keep."""

import asyncio
import json
import math
from collections.abc import Callable

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_rerank import Cascade, ConfigError, Fallback, Ranking, RateLimited, Stage, build, json_schema, to_config
from rag_rerank.testing import ScriptedReranker

eighths = st.integers(-40, 40).map(lambda n: n / 8)  # exact in binary, so that differences are exact too
margins = st.integers(0, 80).map(lambda n: n / 8)
cuts = st.integers(1, 8)
pairs_of_scores = st.lists(st.tuples(eighths, eighths), max_size=12)

ENOUGH = 1e6
"""A margin that no two scores of these tests lie apart."""


def cascade(scores: list[tuple[float, float]], **last: object) -> tuple[Cascade, ScriptedReranker]:
    """Return a cascade of two over the texts "0", "1", ..., with their scores in either stage, and its last stage."""
    cheap, strong = (
        ScriptedReranker(name=name, by_text={str(i): pair[n] for i, pair in enumerate(scores)})
        for n, name in enumerate(("cheap", "strong"))
    )
    cut = last.pop("cut", None)
    return Cascade(stages=(Stage(reranker=cheap), Stage(reranker=strong, **last)), cut=cut), strong


def texts(scores: list[tuple[float, float]]) -> list[str]:
    return [str(i) for i in range(len(scores))]


def asked(strong: ScriptedReranker) -> set[str]:
    return {text for _, call in strong.calls for text in call}


def run(scores: list[tuple[float, float]], **last: object) -> tuple[Ranking, set[str]]:
    """Return the ranking, and which texts the strong stage scored."""
    whole, strong = cascade(scores, **last)
    return whole.rerank("q", texts(scores)), asked(strong)


@given(pairs_of_scores, cuts, margins, st.one_of(st.none(), st.integers(9, 14)), st.booleans())
def test_nothing_is_lost_and_async_agrees(
    scores: list[tuple[float, float]], cut: int, margin: float, depth: int | None, border_only: bool
) -> None:
    whole, strong = cascade(scores, cut=cut, margin=margin, depth=depth, border_only=border_only)
    ranking = whole.rerank("q", [*texts(scores), " "])
    assert sorted(hit.id for hit in ranking) == sorted(map(str, range(len(scores) + 1)))
    assert [hit.rank for hit in ranking] == list(range(1, len(scores) + 2))
    assert {hit.text for hit in ranking if hit.score is not None} == asked(strong)
    standing = [2 if hit.score is None else 1 for hit in ranking]
    sure = [hit.unscored for hit in ranking].count("surely in before stage 2")
    assert standing[sure:] == sorted(standing[sure:]) and (border_only or not sure)
    assert [hit.unscored for hit in ranking[:sure]] == ["surely in before stage 2"] * sure
    there = asyncio.run(whole.arerank("q", [*texts(scores), " "]))
    assert there.hits == ranking.hits and there.trace.notes == ranking.trace.notes


@given(pairs_of_scores, cuts)
def test_a_margin_that_holds_all_scores_is_the_cascade_without_one(scores: list[tuple[float, float]], cut: int) -> None:
    assert run(scores, cut=cut, margin=ENOUGH)[0].hits == run(scores)[0].hits


@given(pairs_of_scores, cuts)
def test_with_no_margin_only_ties_at_the_cut_enter_beside_those_above_it(
    scores: list[tuple[float, float]], cut: int
) -> None:
    cheap = sorted((pair[0] for pair in scores), reverse=True)
    worst = cheap[min(cut, len(cheap)) - 1] if cheap else 0.0
    assert run(scores, cut=cut, margin=0.0)[1] == {str(i) for i, pair in enumerate(scores) if pair[0] >= worst}


@given(pairs_of_scores, cuts, margins, margins)
def test_a_wider_margin_never_lets_in_less(
    scores: list[tuple[float, float]], cut: int, one: float, other: float
) -> None:
    narrow, wide = sorted((one, other))
    entered = run(scores, cut=cut, margin=narrow)[1]
    assert entered <= run(scores, cut=cut, margin=wide)[1]
    assert len(entered) >= min(cut, len(scores))


@given(
    st.lists(st.tuples(eighths, st.integers(-80, 80)), max_size=12),
    cuts,
    margins,
    st.sampled_from([lambda x: x, lambda x: x**3, math.floor, lambda x: math.copysign(1.0, x), lambda x: 2 * x + 1]),
)
def test_noise_of_half_the_margin_changes_nothing_that_is_kept(
    drawn: list[tuple[float, int]], cut: int, margin: float, rising: Callable[[float], float]
) -> None:
    """If the strong score is a rising function of the cheap one plus noise within half the margin, all is kept.

    Candidates more than the margin apart then stay in order: from cheap_i - cheap_j > margin follows
    cheap_i + noise_i > cheap_j + noise_j, and a tie of the strong scores is broken by the cheap order. One that is
    stopped lies that far below each of the first `cut`, so it is none of the best `cut`; those that enter keep the
    order that they have in the whole. One that is surely in lies that far above each that stands behind the cut, so
    it is one of the best `cut`, and what is undecided fills the other places in the order of the whole.
    """
    noisy = [(cheap, float(rising(cheap + part * margin / 160))) for cheap, part in drawn]
    best = run(noisy)[0].hits[:cut]
    assert run(noisy, cut=cut, margin=margin)[0].hits[:cut] == best
    border, entered = run(noisy, cut=cut, margin=margin, border_only=True)
    assert {hit.id for hit in border[:cut]} == {hit.id for hit in best}
    assert entered <= run(noisy, cut=cut, margin=margin)[1]


def test_a_difference_beyond_the_margin_is_not_turned_round() -> None:
    scores = [(3.0, 0.0), (2.0, 5.0), (1.0, 9.0)]
    kept = [[hit.id for hit in run(scores, cut=1, margin=margin)[0]][:1] for margin in (0.5, 1.0, 2.0)]
    assert kept == [["0"], ["1"], ["2"]]
    border = [run([(2.0, 0.0), (1.0, 5.0)], cut=1, margin=m, border_only=True)[1] for m in (0.95, 1.0, 1.05)]
    assert border == [set(), {"0", "1"}, {"0", "1"}]


def test_those_surely_in_are_ordered_and_scored_by_the_better_reranker_too() -> None:
    ranking, entered = run([(9.0, 1.0), (8.0, 3.0), (2.0, 2.0), (1.9, 4.0), (0.0, 9.0)], cut=3, margin=0.5)
    assert entered == {"0", "1", "2", "3"}
    assert [(hit.id, hit.score) for hit in ranking] == [("3", 4.0), ("1", 3.0), ("2", 2.0), ("0", 1.0), ("4", None)]


def test_only_the_border_enters_where_that_is_asked_and_those_surely_in_stand_first() -> None:
    ranking, entered = run(
        [(8.0, 1.0), (9.0, 3.0), (2.0, 2.0), (1.9, 4.0), (0.0, 9.0)], cut=3, margin=0.5, border_only=True
    )
    assert entered == {"2", "3"}
    assert [(hit.id, hit.score) for hit in ranking] == [("1", None), ("0", None), ("3", 4.0), ("2", 2.0), ("4", None)]
    assert [hit.unscored for hit in ranking if hit.unscored] == ["surely in before stage 2"] * 2 + [
        "stopped before stage 2 (more than 0.5 below place 3)"
    ]
    assert ranking.trace.notes[1] == (
        "stage 2: 2 of 5 entered (margin 0.5 at the cut of 3: 2 surely in, 2 undecided, 1 surely out)"
    )
    assert [(visit.step, visit.rank) for visit in ranking.trace.path("1")] == [("cheap", 1)]


def test_where_nobody_is_undecided_the_border_stage_is_not_asked() -> None:
    scores = [(float(-i), float(i)) for i in range(4)]
    for cut in (2, 4):
        whole, strong = cascade(scores, cut=cut, margin=0.5, border_only=True)
        ranking = whole.rerank("q", texts(scores))
        assert strong.calls == []
        assert [hit.id for hit in ranking] == ["0", "1", "2", "3"]
        assert {hit.score for hit in ranking} == {None} and ranking.scale == whole.scale
        assert "0 undecided" in ranking.trace.notes[1]


def test_unscored_hits_at_the_top_never_reach_another_stage() -> None:
    border, _ = cascade([(1.0, 1.0)], cut=1, margin=1.0, border_only=True)
    behind = Stage(reranker=ScriptedReranker())
    for inner in (border, Fallback(members=(ScriptedReranker(), border))):
        with pytest.raises(ConfigError, match=r"^stages\[0\]: border_only leaves the best hits without a score"):
            Cascade(stages=(Stage(reranker=inner), behind))
        assert Cascade(stages=(behind, Stage(reranker=inner))).scale == "unbounded"
    with pytest.raises(ConfigError, match=r"^stages\[1\]: border_only"):
        Cascade(stages=(behind, border.stages[1], behind), cut=1)


def test_the_trace_says_how_many_were_in_undecided_and_out_and_why_each_stopped() -> None:
    ranking, _ = run([(9.0, 1.0), (8.0, 3.0), (2.0, 2.0), (1.9, 4.0), (0.0, 9.0)], cut=3, margin=0.5)
    assert ranking.trace.notes == (
        "stage 1: 5 of 5 entered",
        "stage 2: 4 of 5 entered (margin 0.5 at the cut of 3: 2 surely in, 2 undecided, 1 surely out)",
    )
    assert ranking[-1].unscored == "stopped before stage 2 (more than 0.5 below place 3)"
    assert [(visit.step, visit.rank) for visit in ranking.trace.path("4")] == [("cheap", 5)]
    assert [(visit.step, visit.rank) for visit in ranking.trace.path("3")] == [("cheap", 4), ("strong", 1)]
    assert ranking.usage.texts == 9
    assert ranking.degraded == ()


def test_no_more_candidates_than_places_are_all_in() -> None:
    ranking, entered = run([(9.0, 1.0), (0.0, 3.0)], cut=2, margin=0.0)
    assert entered == {"0", "1"}
    assert ranking.trace.notes[1] == (
        "stage 2: 2 of 2 entered (margin 0 at the cut of 2: 2 surely in, 0 undecided, 0 surely out)"
    )


def test_depth_bounds_what_a_margin_lets_in() -> None:
    scores = [(float(-i), float(i)) for i in range(8)]
    ranking, entered = run(scores, cut=2, margin=4.0, depth=3)
    assert entered == {"0", "1", "2"}
    assert {hit.unscored for hit in ranking[3:]} == {"stopped before stage 2 (depth 3)"}
    assert run(scores, cut=2, margin=0.0, depth=3)[0][-1].unscored.endswith("(more than 0 below place 2)")


def test_the_margin_is_measured_in_raw_scores() -> None:
    logits = ScriptedReranker(by_text={"a": 9.0, "b": 7.0}, answers_on="sigmoid")  # 0.9999 and 0.9991
    last = ScriptedReranker()
    Cascade(stages=(Stage(reranker=logits), Stage(reranker=last, margin=1.0)), cut=1).rerank("q", ["a", "b"])
    assert asked(last) == {"a"}


def test_each_margin_is_measured_in_the_stage_before_it() -> None:
    first = ScriptedReranker(by_text={"a": 4.0, "b": 3.5, "c": 3.0, "d": 0.0})
    second = ScriptedReranker(by_text={"a": 10.0, "b": 30.0, "c": 25.0})
    third = ScriptedReranker(by_text={"b": 1.0, "c": 2.0})
    stages = (Stage(reranker=first), Stage(reranker=second, margin=1.0), Stage(reranker=third, margin=5.0))
    ranking = Cascade(stages=stages, cut=1).rerank("q", ["a", "b", "c", "d"])
    assert (asked(second), asked(third)) == ({"a", "b", "c"}, {"b", "c"})
    assert [hit.id for hit in ranking] == ["2", "1", "0", "3"]


def test_a_degraded_stage_before_has_no_margin_because_its_units_may_be_others() -> None:
    down = ScriptedReranker(name="down", error=RateLimited("slow down"))
    spare = ScriptedReranker(name="spare", by_text={"a": 900.0, "b": 500.0, "c": 100.0})
    last = ScriptedReranker(by_text={"c": 1.0})
    stages = (Stage(reranker=Fallback(members=(down, spare))), Stage(reranker=last, margin=0.5))
    ranking = Cascade(stages=stages, cut=1).rerank("q", ["a", "b", "c"])
    assert asked(last) == {"a", "b", "c"}
    assert ranking.degraded and ranking[0].text == "c"
    assert ranking.trace.notes[1] == (
        "stage 2: 3 of 3 entered; its margin of 0.5 was not applied, because the stage before was degraded"
    )


def test_without_candidates_nothing_is_asked() -> None:
    ranking, entered = run([], cut=2, margin=1.0)
    assert len(ranking) == 0 and entered == set()


@pytest.mark.parametrize("margin", [-0.1, float("nan"), float("inf")])
def test_a_margin_that_measures_nothing_is_refused(margin: float) -> None:
    with pytest.raises(ConfigError, match=r"^margin: margin must be a finite number of at least 0, got"):
        Stage(reranker=ScriptedReranker(), margin=margin)


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ({"stages": [{}, {"margin": 1.0}]}, r"^stages\[1\].margin: a margin needs the cascade's cut"),
        ({"stages": [{"margin": 1.0}, {}], "cut": 2}, r"^stages\[0\].margin: the first stage has no stage before it"),
        ({"stages": [{}, {}], "cut": 2}, r"^cut: .* no stage has a margin"),
        ({"stages": [{}, {"margin": 1.0}], "cut": 0}, r"^cut: cut must be at least 1, got 0"),
        ({"stages": [{}, {"margin": -1.0}], "cut": 2}, r"^stages\[1\].margin: margin must be a finite number"),
        ({"stages": [{}, {"border_only": True}]}, r"^stages\[1\].border_only: border_only needs a margin"),
        ({"stages": [{}, {"margin": "1"}], "cut": 2}, r"^stages\[1\].margin: "),
        ({"stages": [{}, {"margin": 1.0, "depth": 2}], "cut": 2}, r"^stages\[1\].depth: depth 2 lets in no more than"),
    ],
)
def test_margins_without_meaning_are_refused_with_their_path(node: dict[str, object], message: str) -> None:
    stages = [{"reranker": "lexical", **stage} for stage in node["stages"]]
    with pytest.raises(ConfigError, match=message):
        build({"type": "cascade", **node, "stages": stages})


def test_a_margin_goes_through_config_and_schema() -> None:
    node = {
        "type": "cascade",
        "stages": [
            {"reranker": {"type": "lexical"}},
            {"reranker": {"type": "lexical", "k1": 1.2}, "margin": 2, "border_only": True},
        ],
        "cut": 5,
    }
    made = build(node)
    assert to_config(made) == node
    assert build(json.loads(json.dumps(to_config(made)))) == made
    jsonschema.validate(node, json_schema())
