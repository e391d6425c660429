"""Intervals, tests and corrections keep their laws, and are right where the truth is known."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.simulated_collections import differences, interval_coverage

from rag_rerank import InputError
from rag_rerank.evaluation.report import Comparison, MeanEstimate
from rag_rerank.evaluation.statistics import adjusted_p, compare, estimate, holm, randomisation

VALUES = st.lists(st.sampled_from([-1.0, -0.5, -0.37, 0.0, 0.0, 0.13, 0.5, 0.63, 1.0]), min_size=1, max_size=40)


def by_query(values: list[float]) -> dict[str, float]:
    return {f"q{i}": value for i, value in enumerate(values)}


@given(VALUES, st.randoms())
def test_the_order_of_the_queries_does_not_matter(values: list[float], chance: object) -> None:
    other = list(values)
    chance.shuffle(other)  # type: ignore[attr-defined]
    assert estimate(values, samples=500) == estimate(other, samples=500)
    assert randomisation(values, samples=500) == randomisation(other, samples=500)


@given(VALUES, VALUES)
def test_turning_a_comparison_round_turns_its_signs_and_nothing_else(a: list[float], b: list[float]) -> None:
    n = min(len(a), len(b))
    left, right = by_query(a[:n]), by_query(b[:n])
    there = compare("x", "y", "m", left, right, samples=500)
    back = compare("y", "x", "m", right, left, samples=500)
    assert there.p == back.p
    assert (there.helped, there.hurt, there.unchanged) == (back.hurt, back.helped, back.unchanged)
    assert there.helped + there.hurt + there.unchanged == n
    assert there.difference.mean == pytest.approx(-back.difference.mean)
    assert there.difference.low == pytest.approx(-back.difference.high, abs=1e-9)
    assert there.difference.high == pytest.approx(-back.difference.low, abs=1e-9)


@given(VALUES, st.floats(0.01, 2.0), st.floats(0.1, 3.0))
def test_an_interval_moves_with_its_values_and_grows_with_them(values: list[float], by: float, times: float) -> None:
    one = estimate(values, samples=500)
    moved = estimate([value * times + by for value in values], samples=500)
    assert one.low - 1e-12 <= one.mean <= one.high + 1e-12
    for name in ("mean", "low", "high"):
        assert getattr(moved, name) == pytest.approx(getattr(one, name) * times + by, abs=1e-9)


@given(st.lists(st.sampled_from([-0.5, -0.25, 0.0, 0.25, 0.5, 1.0]), min_size=1, max_size=9))
def test_the_exact_p_value_is_the_share_of_signs_that_do_as_much(values: list[float]) -> None:
    sums = [
        sum(s * v for s, v in zip(signs, values, strict=True))
        for signs in itertools.product((1, -1), repeat=len(values))
    ]
    assert randomisation(values) == pytest.approx(sum(abs(s) >= abs(sum(values)) for s in sums) / len(sums))
    assert randomisation(values, fall=True) == pytest.approx(sum(s <= sum(values) for s in sums) / len(sums))


def test_drawn_signs_come_near_to_all_signs_and_p_is_never_zero() -> None:
    values = [0.1 * i - 0.35 for i in range(14)]
    signs = np.array(list(itertools.product((1, -1), repeat=14)))
    exact = float((abs(signs @ values) >= abs(sum(values)) - 1e-9).mean())
    assert randomisation(values) == pytest.approx(exact, abs=0.01)
    assert randomisation([0.5] * 200) == pytest.approx(1 / 10_001)
    assert randomisation([-0.5] * 200, fall=True) == pytest.approx(1 / 10_001)
    assert randomisation([0.5] * 200, fall=True) == 1.0


def test_where_there_is_no_difference_the_p_value_is_one_and_the_interval_has_no_width() -> None:
    same = compare("x", "y", "m", by_query([0.3, 0.7]), by_query([0.3, 0.7]))
    assert (same.p, same.p_adjusted, same.unchanged) == (1.0, 1.0, 2)
    assert same.difference == MeanEstimate(mean=0.0, low=0.0, high=0.0)
    assert estimate([0.1] * 30) == MeanEstimate(mean=0.1, low=0.1, high=0.1)
    one = compare("x", "y", "m", {"q": 1.0}, {"q": 0.25})
    assert (one.p, one.difference) == (1.0, MeanEstimate(mean=0.75, low=0.75, high=0.75))


def test_the_same_seed_gives_the_same_figures_in_plain_floats_and_another_seed_others() -> None:
    values = [math.sin(i) for i in range(50)]
    assert estimate(values, seed=3) == estimate(values, seed=3) != estimate(values, seed=4)
    assert randomisation(values, seed=3) == randomisation(values, seed=3) != randomisation(values, seed=4)
    found = compare("x", "y", "m", by_query(values), by_query([0.0] * 50))
    figures = (found.p, found.p_adjusted, found.difference.mean, found.difference.low, found.difference.high)
    assert all(type(figure) is float for figure in figures)
    assert all(type(count) is int for count in (found.helped, found.hurt, found.unchanged))


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(InputError, match="no queries"):
        estimate([])
    with pytest.raises(InputError, match="no queries"):
        compare("x", "y", "m", {}, {})
    with pytest.raises(InputError, match="not a finite number"):
        estimate([0.1, math.nan])
    with pytest.raises(InputError, match="not measured on the same queries"):
        compare("x", "y", "m", {"q1": 0.1}, {"q2": 0.1})


@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_keeps_the_order_lowers_nothing_and_is_one_for_one(values: list[float]) -> None:
    found = holm(values)
    assert all(p <= q <= min(1.0, p * len(values)) for p, q in zip(values, found, strict=True))
    by_p = [q for _, q in sorted(zip(values, found, strict=True))]
    assert by_p == sorted(by_p)
    assert holm(values[:1]) == tuple(values[:1])


def test_holm_gives_the_known_figures() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx((0.03, 0.06, 0.06, 0.02))
    zero = MeanEstimate(mean=0.0, low=0.0, high=0.0)
    family = [
        Comparison(
            system=name, baseline="b", measure="m", difference=zero, p=p, p_adjusted=p, helped=0, hurt=0, unchanged=1
        )
        for name, p in (("x", 0.04), ("y", 0.01))
    ]
    assert [(one.system, one.p, one.p_adjusted) for one in adjusted_p(family)] == [("x", 0.04, 0.04), ("y", 0.01, 0.02)]
    assert adjusted_p([]) == ()


@pytest.mark.parametrize("kind", ["one relevant", "graded"])
@pytest.mark.parametrize("n", [30, 50, 150])
def test_the_interval_holds_the_truth_in_95_of_100_simulations_give_or_take_3(kind: str, n: int) -> None:
    assert 0.92 <= interval_coverage(differences(kind), n, 600, samples=10_000) <= 0.98


@pytest.mark.parametrize("n", [8, 40])
def test_p_values_are_uniform_where_there_is_no_difference(n: int) -> None:
    rng, many = np.random.default_rng(5), 2_000
    found = np.array([randomisation(rng.normal(0, 0.2, n), samples=999) for _ in range(many)])
    for level in (0.01, 0.05, 0.1, 0.25, 0.5, 0.75):
        reached = np.floor(level * 2**n) / 2**n if n < 13 else level
        assert abs((found <= level).mean() - reached) < 4 * math.sqrt(level * (1 - level) / many)


def test_p_values_are_not_too_small_where_most_differences_are_zero() -> None:
    rng, many = np.random.default_rng(6), 2_000
    ties = np.array([-0.63, -0.5, -0.13, 0, 0, 0, 0, 0, 0.13, 0.5, 0.63])
    found = np.array([randomisation(rng.choice(ties, 30), samples=999) for _ in range(many)])
    for level in (0.01, 0.05, 0.25):
        assert (found <= level).mean() <= level + 4 * math.sqrt(level * (1 - level) / many)


def test_of_ten_systems_that_do_nothing_hardly_ever_one_is_found_and_one_that_helps_is_found_among_them() -> None:
    rng, false, found, many = np.random.default_rng(9), 0, 0, 300
    for _ in range(many):
        baseline = rng.normal(0, 0.1, 50)  # what all have in common: the tests are not independent
        p = [randomisation(rng.normal(0, 0.2, 50) - baseline, samples=2_000) for _ in range(10)]
        false += min(holm(p)) < 0.05
        helped = randomisation(rng.normal(0.2, 0.2, 50) - baseline, samples=2_000)
        found += holm([*p, helped])[-1] < 0.05
    assert false / many <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / many)
    assert found / many > 0.95
