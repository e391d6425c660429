"""Measures of agreement between orders, on values worked out by hand and by other libraries."""

import random
from collections.abc import Sequence

import pytest

from rag_rerank.rank_correlation import kendall_tau_b, rank_biased_overlap, top_overlap


@pytest.mark.parametrize(
    ("x", "y", "tau"),
    [
        ([1, 2, 3, 4], [10, 20, 30, 40], 1.0),
        ([1, 2, 3, 4], [4, 3, 2, 1], -1.0),
        ([1, 2, 3, 4], [1, 2, 4, 3], 4 / 6),  # five pairs agree, one does not
        ([1, 2, 2, 3], [1, 2, 3, 4], 5 / (5 * 6) ** 0.5),  # one pair is tied on one side
        ([1, 1, 2], [1, 1, 2], 1.0),
        ([1, 1, 1], [1, 2, 3], 0.0),
        ([1, 1, 1], [2, 2, 2], 1.0),
        ([5], [7], 1.0),
        # as SciPy 1.17 says
        ([1, 2, 3, 4, 5, 6], [2, 1, 4, 3, 6, 5], 0.6),
        ([1, 1, 2, 3, 3, 3, 4], [5, 4, 4, 4, 6, 7, 7], 0.5294117647058824),
        ([0.5, 0.5, 0.2, 0.9], [1, 2, 2, 3], 0.4),
    ],
)
def test_kendalls_tau_b(x: Sequence[float], y: Sequence[float], tau: float) -> None:
    assert kendall_tau_b(x, y) == pytest.approx(tau)
    assert type(kendall_tau_b(x, y)) is float


def test_overlap_of_the_best() -> None:
    assert top_overlap([0, 1, 2, 5, 4, 3], [3, 1, 2, 5, 4, 0], k=3) == pytest.approx(2 / 3)
    assert top_overlap([1, 2], [2, 1]) == 1.0
    assert top_overlap("abcd", "cdab", k=2) == 0.0


def test_tau_b_is_what_counting_all_pairs_gives() -> None:
    dice = random.Random(7)
    for _ in range(50):
        x, y = ([dice.randrange(8) for _ in range(12)] for _ in range(2))
        pairs = [(x[i] - x[j], y[i] - y[j]) for i in range(12) for j in range(i)]
        same = sum((a > 0) - (a < 0) == (b > 0) - (b < 0) and a != 0 for a, b in pairs)
        turned = sum(a * b < 0 for a, b in pairs)
        untied = sum(a != 0 for a, _ in pairs) * sum(b != 0 for _, b in pairs)
        assert kendall_tau_b(x, y) == pytest.approx((same - turned) / untied**0.5)


@pytest.mark.parametrize(
    ("first", "second", "p", "overlap"),
    [
        # depths agree by 0, 1/2, 3/3: 0.9**3 + 0.1/0.9 * (0.81/2 + 0.729)
        ("abc", "cba", 0.9, 0.855),
        ("ab", "ba", 0.5, 0.5),
        ("a", "a", 0.3, 1.0),
        ("abcde", "abcde", 0.9, 1.0),
        # as the package rbo 0.1.3 says (rbo_ext)
        ("abcdefg", "bacdegf", 0.9, 0.8901585),
        ("abcdefg", "bacdegf", 0.5, 0.4973958333333333),
        ("abcdefghijkl", "lkjihgfedcba", 0.9, 0.4442989627905196),
        ("abcdefghijkl", "lkjihgfedcba", 0.5, 0.007200774485930735),
        ("abcdefghijkl", "bcadlefhgkij", 0.9, 0.8027645916833767),
        ("abcdefghijkl", "bcadlefhgkij", 0.5, 0.36408476506132753),
    ],
)
def test_rank_biased_overlap(first: Sequence[str], second: Sequence[str], p: float, overlap: float) -> None:
    assert rank_biased_overlap(first, second, p) == pytest.approx(overlap)
    assert rank_biased_overlap(second, first, p) == pytest.approx(overlap)


def test_the_first_places_count_most() -> None:
    order = list(range(100))
    top, bottom = order.copy(), order.copy()
    top[0], top[1] = 1, 0
    bottom[98], bottom[99] = 99, 98
    assert rank_biased_overlap(order, top) < rank_biased_overlap(order, bottom) < 1
