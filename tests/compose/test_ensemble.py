"""Ensemble: each formula against hand-computed values and a second implementation, and the laws of fusion."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.slow_rerankers import Timed

from rag_rerank import (
    AllFailed,
    AuthenticationError,
    BackendUnavailable,
    BadResponse,
    Candidate,
    Cascade,
    ConfigError,
    Deadline,
    Ensemble,
    Fallback,
    Ranking,
    RateLimited,
    Stage,
    build,
    load,
    to_config,
)
from rag_rerank.backends.lexical import LexicalReranker
from rag_rerank.compose.ensemble import fuse as fusion
from rag_rerank.testing import ScriptedReranker


def member(*scores: float, name: str = "m", **options: Any) -> ScriptedReranker:
    """A member that gives these scores to the texts "0", "1", "2" ..."""
    return ScriptedReranker(name=name, by_text={str(i): score for i, score in enumerate(scores)}, **options)


def fused(ensemble: Ensemble, count: int) -> dict[str, float | None]:
    return {hit.id: hit.raw_score for hit in ensemble.rerank("q", [str(i) for i in range(count)])}


def approximately(scores: dict[str, float | None], *expected: float) -> bool:
    return scores == {str(i): pytest.approx(value) for i, value in enumerate(expected)}


A, B = member(3.0, 1.0, 2.0, name="a"), member(10.0, 30.0, 20.0, name="b")


def test_rrf_adds_reciprocal_ranks() -> None:
    scores = fused(Ensemble(members=(A, B)), 3)  # ranks 1 3 2 and 3 1 2
    assert approximately(scores, 1 / 61 + 1 / 63, 1 / 63 + 1 / 61, 2 / 62)


def test_rrf_with_weights_and_another_constant() -> None:
    scores = fused(Ensemble(members=(A, B), weights=(2.0, 0.5), k=0.0), 3)
    assert approximately(scores, 2 / 1 + 0.5 / 3, 2 / 3 + 0.5 / 1, 2 / 2 + 0.5 / 2)


def test_combsum_adds_scores_between_0_and_1() -> None:
    assert approximately(fused(Ensemble(members=(A, B), fusion="combsum"), 3), 1.0, 1.0, 1.0)
    skewed = member(0.0, 10.0, 1.0)
    assert approximately(fused(Ensemble(members=(A, skewed), fusion="combsum"), 3), 1.0, 1.0, 0.5 + 0.1)


def test_combmnz_counts_who_scored() -> None:
    scores = fused(Ensemble(members=(A, B), fusion="combmnz"), 3)
    assert approximately(scores, 2.0, 2.0, 2.0)


def test_a_weighted_sum_of_z_scores() -> None:
    ensemble = Ensemble(members=(A, B), fusion="weighted", normalise="z-score", weights=(1.0, 3.0))
    unit = math.sqrt(1.5)  # of 1, 2, 3: mean 2, standard deviation sqrt(2/3)
    assert approximately(fused(ensemble, 3), unit - 3 * unit, -unit + 3 * unit, 0.0)


def test_scores_on_one_scale_are_added_as_they_are_presented() -> None:
    half = member(0.0, 0.0, answers_on="sigmoid")
    sure = member(50.0, -50.0, answers_on="sigmoid")
    ensemble = Ensemble(members=(half, sure), fusion="combsum", normalise="none")
    assert approximately(fused(ensemble, 2), 1.5, 0.5)


@pytest.mark.parametrize(("normalise", "expected"), [("min-max", 0.5), ("z-score", 0.0)])
def test_equal_scores_have_no_spread_to_divide_by(normalise: Any, expected: float) -> None:
    same = member(7.0, 7.0)
    scores = fused(Ensemble(members=(same, same), fusion="combsum", normalise=normalise), 2)
    assert approximately(scores, 2 * expected, 2 * expected)


def test_enormous_scores_do_not_overflow() -> None:
    wide = member(1.7e308, -1.7e308, 0.0)
    assert approximately(fused(Ensemble(members=(wide, wide), fusion="combsum"), 3), 2.0, 0.0, 1.0)
    scores = fused(Ensemble(members=(wide, wide), fusion="combsum", normalise="z-score"), 3)
    assert all(value is not None and math.isfinite(value) for value in scores.values())


def test_nearly_equal_scores_stay_finite() -> None:
    close = member(5e-324, 0.0, 1e-320)
    for normalise in ("min-max", "z-score"):
        scores = fused(Ensemble(members=(close, close), fusion="combsum", normalise=normalise), 3)
        assert all(value is not None and math.isfinite(value) for value in scores.values())


def test_ties_keep_the_incoming_order() -> None:
    assert [hit.id for hit in Ensemble(members=(A, B), fusion="combsum").rerank("q", ["0", "1", "2"])] == [*"012"]


def cascade(depth: int, scores: Sequence[float]) -> Any:
    """A member that scores only the first texts."""
    return Cascade(stages=(Stage(reranker=member(*scores), depth=depth),))


def test_what_a_member_left_without_a_score_counts_as_its_lowest_and_nothing_in_rrf() -> None:
    short = cascade(2, (4.0, 8.0))
    assert approximately(fused(Ensemble(members=(A, short), fusion="combsum"), 3), 1.0, 1.0, 0.5)
    assert approximately(fused(Ensemble(members=(A, short), fusion="combmnz"), 3), 2.0, 2.0, 0.5)
    assert approximately(fused(Ensemble(members=(A, short)), 3), 1 / 61 + 1 / 62, 1 / 63 + 1 / 61, 1 / 62)


def test_a_candidate_that_no_member_scored_stands_last_without_a_score() -> None:
    short = cascade(2, (4.0, 8.0))
    ranking = Ensemble(members=(short, short)).rerank("q", ["0", "1", "2", ""])
    assert [hit.id for hit in ranking] == ["1", "0", "2", "3"]
    assert [hit.unscored for hit in ranking][2:] == ["stopped before stage 1 (depth 2)"] * 2


def test_the_trace_has_the_members_scores_and_the_fused_ones() -> None:
    ranking = Ensemble(members=(A, B), fusion="combsum").rerank("q", ["0", "1", "2"])
    assert ranking.trace.path("0")[0].raw_score == 1.0
    assert [visit.raw_score for visit in ranking.trace.path("0")[1:]] == [3.0, 10.0]
    assert (ranking.scale, ranking.degraded, ranking.substituted) == ("unbounded", (), False)


def test_members_are_called_side_by_side(world: Any) -> None:
    ranking, took = world.timed(world.rank, Ensemble(members=(Timed(seconds=3), Timed(seconds=2))))
    assert took == 3 and ranking.degraded == ()


def test_a_member_with_a_transient_error_is_left_out_and_named(world: Any) -> None:
    down = Timed(name="down", error=RateLimited("slow"))
    ranking = world.rank(Ensemble(members=(A, down, B)), ["0", "1", "2"])
    assert ranking.hits == world.rank(Ensemble(members=(A, B)), ["0", "1", "2"]).hits
    assert ranking.degraded == ("fused without down (RateLimited)",) and ranking.substituted
    assert [child.error for child in ranking.trace.children] == [None, "RateLimited: slow", None]


@pytest.mark.parametrize("error", [AuthenticationError("key"), BadResponse("nan"), ValueError("bug")])
def test_a_failure_that_will_not_pass_is_raised(world: Any, error: Exception) -> None:
    outcome, took = world.timed(world.rank, Ensemble(members=(A, Timed(seconds=60), Timed(seconds=1, error=error))))
    assert type(outcome) is type(error) and took == 1  # nobody waits for what cannot help


def test_when_all_fail_every_error_is_kept(world: Any) -> None:
    members = (Timed(name="one", error=RateLimited("x")), Timed(name="two", error=BackendUnavailable("y")))
    error, _ = world.timed(world.rank, Ensemble(members=members))
    assert type(error) is AllFailed and [type(e) for e in error.errors] == [RateLimited, BackendUnavailable]
    assert str(error) == "no member can be fused: one (RateLimited), two (BackendUnavailable)"
    ranking = world.rank(Fallback(members=(Ensemble(members=members), A)), ["0"])
    assert ranking.degraded == ("a answered in place of ensemble (AllFailed)",)


def test_a_member_with_a_deadline_of_its_own_is_left_out_when_late(world: Any) -> None:
    late = Deadline(name="late", reranker=Timed(seconds=60), seconds=2, on_late="error")
    ranking, took = world.timed(world.rank, Ensemble(members=(A, late)), ["0", "1", "2"])
    assert took <= 2.25 and ranking.degraded == ("fused without late (DeadlineExceeded)",)


def test_a_member_on_another_scale_than_promised_is_left_out_of_a_sum() -> None:
    other_scale = Fallback(
        name="moved",
        members=(member(error=RateLimited("x"), answers_on="relevance"), member(5.0, answers_on="sigmoid")),
    )
    near = member(0.25, 0.5, answers_on="relevance")
    ranking = Ensemble(members=(near, other_scale), fusion="combsum", normalise="none").rerank("q", ["0", "1"])
    assert [hit.raw_score for hit in ranking] == [0.5, 0.25]
    assert any("moved (answered on the scale 'sigmoid', not 'relevance')" in reason for reason in ranking.degraded)
    assert ranking.substituted


def test_members_of_clashing_scales_are_refused_with_their_path() -> None:
    members = (member(answers_on="sigmoid", name="a"), member(answers_on="relevance", name="b"))
    with pytest.raises(ConfigError, match=r"^members\[1\]: b scores on the scale 'relevance' and a on 'sigmoid'"):
        Ensemble(members=members, fusion="combsum", normalise="none")
    Ensemble(members=members, fusion="combsum")  # each is normalised by itself


@pytest.mark.parametrize(
    ("options", "path", "words"),
    [
        ({"members": []}, "members", "at least two members, got 0"),
        ({"members": ["lexical"]}, "members", "at least two members, got 1"),
        ({"fusion": "rff"}, "fusion", "unknown fusion 'rff'|Input should be"),
        ({"fusion": "combsum", "normalise": "softmax"}, "normalise", "unknown normalise|Input should be"),
        ({"normalise": "min-max"}, "normalise", "rrf uses ranks"),
        ({"k": -1.0}, "k", "expected a number of at least 0, got -1"),
        ({"k": math.nan}, "k", "expected a finite number"),
        ({"k": math.inf}, "k", "expected a finite number"),
        ({"fusion": "weighted"}, "weights", "needs weights"),
        ({"fusion": "combsum", "weights": [1.0, 1.0]}, "weights", "has no weights"),
        ({"weights": [1.0]}, "weights", "1 weights for 2 members"),
        ({"weights": [1.0, -1.0]}, r"weights\[1\]", "expected a number of at least 0"),
        ({"weights": [math.nan, 1.0]}, r"weights\[0\]", "expected a finite number"),
        ({"weights": [0.0, 0.0]}, "weights", "all weights are 0"),
    ],
)
def test_what_makes_no_sense_is_refused_with_its_path(options: dict[str, Any], path: str, words: str) -> None:
    inner = {"type": "ensemble", "members": ["lexical", "lexical"], **options}
    with pytest.raises(ConfigError, match=rf"^stages\[0\]\.reranker\.{path}: .*({words})"):
        build({"type": "cascade", "stages": [{"reranker": inner}]})


def test_a_member_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^members\[1\]: expected a Reranker, got str"):
        Ensemble(members=(A, "lexical"))  # type: ignore[arg-type]


def test_a_config_within_itself_is_an_error_with_its_file(tmp_path: Any) -> None:
    file = tmp_path / "r.yaml"
    file.write_text("&e\ntype: ensemble\nmembers: [lexical, *e]\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"r\.yaml: .*within itself"):
        load(file)


def test_it_comes_from_config_and_goes_back() -> None:
    node = {"type": "ensemble", "members": ["lexical", {"type": "lexical", "b": 0.75}], "fusion": "weighted"}
    ensemble = build({**node, "normalise": "z-score", "weights": [0.25, 0.75]})
    assert build(to_config(ensemble)) == ensemble
    assert ensemble == Ensemble(
        members=(LexicalReranker(), LexicalReranker(b=0.75)),
        fusion="weighted",
        normalise="z-score",
        weights=(0.25, 0.75),
    )


numbers = st.one_of(
    st.integers(-3, 3).map(float), st.floats(-1e9, 1e9, allow_subnormal=False), st.sampled_from([1e300, -1e300, 0.0])
)
ways = st.sampled_from(
    [
        ("rrf", None),
        ("combmnz", "min-max"),
        *((f, n) for f in ("combsum", "weighted") for n in ("min-max", "z-score", "none")),
    ]
)


@st.composite
def cases(draw: st.DrawFn) -> tuple[Ensemble, int]:
    count = draw(st.integers(0, 7))
    members = tuple(
        cascade(draw(st.integers(1, 7)), draw(st.lists(numbers, min_size=count, max_size=count)))
        for _ in range(draw(st.integers(2, 4)))
    )
    fusion, normalise = draw(ways)
    weights = None
    if fusion == "weighted" or (fusion == "rrf" and draw(st.booleans())):
        weights = tuple(draw(st.lists(st.floats(0.1, 5), min_size=len(members), max_size=len(members))))
    return Ensemble(members=members, fusion=fusion, normalise=normalise, weights=weights), count


def again(ensemble: Ensemble, count: int) -> dict[str, float]:
    """The fused scores by a second implementation, straight from the formulas, in exact fractions where it can."""
    total: dict[str, Any] = {}
    scored: dict[str, int] = {}
    rankings = [m.rerank("q", [str(i) for i in range(count)]) for m in ensemble.members]
    for weight, ranking in zip(ensemble.weights or [1.0] * len(rankings), rankings, strict=True):
        of = {hit.id: Fraction(hit.raw_score) for hit in ranking if hit.raw_score is not None}
        places = sorted(of, key=lambda i: (-of[i], int(i)))
        for i in of:
            scored[i] = scored.get(i, 0) + 1
        if not of:
            continue
        low, high = min(of.values()), max(of.values())
        mean = sum(of.values()) / len(of)
        spread = math.sqrt(sum(((v - mean) / (high - low)) ** 2 for v in of.values()) / len(of)) if high > low else 1
        for i in (str(i) for i in range(count)):
            value = of.get(i, low)
            if ensemble.fusion == "rrf":
                vote: Any = Fraction(1) / (60 + 1 + places.index(i)) if i in of else Fraction(0)
            elif ensemble.normalise == "none":
                vote = value
            elif high == low:
                vote = Fraction(1, 2) if ensemble.normalise == "min-max" else Fraction(0)
            elif ensemble.normalise == "min-max":
                vote = (value - low) / (high - low)
            else:
                vote = (value - mean) / (high - low) / Fraction(spread)
            total[i] = total.get(i, Fraction(0)) + Fraction(weight) * vote
    factor = (lambda i: scored[i]) if ensemble.fusion == "combmnz" else (lambda i: 1)
    return {i: float(total[i] * factor(i)) for i in scored}


@settings(max_examples=300)
@given(cases())
def test_fused_scores_are_those_of_the_formulas_and_nothing_is_lost(case: tuple[Ensemble, int]) -> None:
    ensemble, count = case
    texts = [str(i) for i in range(count)]
    ranking = ensemble.rerank("q", texts)
    assert sorted(hit.id for hit in ranking) == sorted(texts)
    expected = again(ensemble, count)
    scores = {hit.id: hit.raw_score for hit in ranking if hit.raw_score is not None}
    assert scores.keys() == expected.keys()
    raw = [abs(hit.raw_score or 0) for m in ensemble.members for hit in m.rerank("q", texts)]
    largest = max([1.0, *raw] if ensemble.normalise == "none" else [1.0])  # what is added may cancel out
    for i, value in scores.items():
        assert math.isclose(value, expected[i], rel_tol=1e-9, abs_tol=1e-8 * largest)
    assert list(scores.values()) == sorted(scores.values(), reverse=True)


@settings(max_examples=60)
@given(cases())
def test_both_worlds_give_the_same_ranking(case: tuple[Ensemble, int]) -> None:
    ensemble, count = case
    candidates = [Candidate(f"d{i}", str(i), metadata={"n": i}) for i in range(count)]

    def facts(ranking: Ranking) -> Any:
        return ranking.hits, ranking.degraded, ranking.scale, ranking.substituted

    here = ensemble.rerank("q", candidates)
    there = asyncio.run(ensemble.arerank("q", candidates))
    assert facts(here) == facts(there)


@settings(max_examples=100)
@given(cases(), st.randoms(use_true_random=False))
def test_the_order_of_the_members_does_not_matter(case: tuple[Ensemble, int], random: Any) -> None:
    ensemble, count = case
    order = list(range(len(ensemble.members)))
    random.shuffle(order)
    weights = ensemble.weights and tuple(ensemble.weights[i] for i in order)
    turned = Ensemble(
        members=tuple(ensemble.members[i] for i in order),
        fusion=ensemble.fusion,
        normalise=ensemble.normalise,
        weights=weights,
    )
    one, other = fused(ensemble, count), fused(turned, count)
    largest = 1e301 if ensemble.normalise == "none" else 1.0  # what is added may cancel out
    for i, value in one.items():
        assert (
            other[i] is None
            if value is None
            else math.isclose(value, other[i] or 0.0, rel_tol=1e-9, abs_tol=1e-9 * (1 + largest))
        )


def test_many_scores_are_fused_away_from_the_event_loop_with_the_same_hits(monkeypatch: pytest.MonkeyPatch) -> None:
    threads = []

    def watched(*inputs: Any) -> Any:
        threads.append(threading.current_thread())
        return fusion(*inputs)

    monkeypatch.setattr("rag_rerank.compose.ensemble.fuse", watched)
    ensemble, texts = Ensemble(members=(A, B)), ["0", "1", "2"]
    few = asyncio.run(ensemble.arerank("q", texts))
    monkeypatch.setattr("rag_rerank.compose.ensemble._MANY", 5)
    many = asyncio.run(ensemble.arerank("q", texts))
    assert many.hits == few.hits
    assert threads[0] is threading.main_thread() is not threads[1]


@pytest.mark.parametrize("normalise", ["z-score", "none"])
def test_combmnz_refuses_scores_that_may_be_below_zero(normalise: Any) -> None:
    with pytest.raises(ConfigError, match="normalise: combmnz multiplies"):
        Ensemble(members=(A, B), fusion="combmnz", normalise=normalise)
    probabilities = (ScriptedReranker(answers_on="sigmoid"), ScriptedReranker(answers_on="sigmoid"))
    assert Ensemble(members=probabilities, fusion="combmnz", normalise="none")
