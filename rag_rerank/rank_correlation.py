"""How far two rankings of the same things agree, in order and in scores: measures on plain numbers."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right, insort
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence

__all__ = ["kendall_tau_b", "rank_biased_overlap", "relative_difference", "spearman_rho", "top_overlap"]


def relative_difference(score: float, reference: float) -> float:
    """Return by how much a score differs from a reference: relative where that is beyond -1..1, else absolute.

    Floating point rounds relative to its numbers.
    """
    return abs(score - reference) / max(1.0, abs(reference))


def kendall_tau_b(x: Sequence[float], y: Sequence[float]) -> float:
    """Return Kendall's rank correlation with his correction for ties (Biometrika 33, 1945), from -1 to 1.

    Where one side is all ties the formula divides by zero; then 1 if both are, else 0.
    """
    pairs = sorted(zip(x, y, strict=True))
    tied_x, tied_y, tied_both = (_count_ties(row) for row in (x, y, pairs))
    all_pairs = math.comb(len(pairs), 2)
    if all_pairs in (tied_x, tied_y):
        return float(tied_x == tied_y)
    smaller_x: list[float] = []  # y of the pairs so far, sorted
    discordant = 0
    for _, y_value in pairs:  # in the order of x: each larger y before this one is a discordant pair
        discordant += len(smaller_x) - bisect_right(smaller_x, y_value)
        insort(smaller_x, y_value)
    difference = all_pairs - tied_x - tied_y + tied_both - 2 * discordant
    return difference / math.sqrt((all_pairs - tied_x) * (all_pairs - tied_y))


def spearman_rho(x: Sequence[float], y: Sequence[float]) -> float:
    """Return Spearman's rank correlation, from -1 to 1: Pearson's between the ranks, where ties share their mean rank.

    Where one side is all ties the formula divides by zero; then it is 0.
    """
    ranks_x, ranks_y = _mean_ranks(x), _mean_ranks(y)
    middle = (len(ranks_x) + 1) / 2
    products = math.fsum((a - middle) * (b - middle) for a, b in zip(ranks_x, ranks_y, strict=True))
    squares = (math.fsum((rank - middle) ** 2 for rank in ranks) for ranks in (ranks_x, ranks_y))
    scale = math.sqrt(math.prod(squares))
    return max(-1.0, min(1.0, products / scale)) if scale else 0.0


def rank_biased_overlap(first: Sequence[Hashable], second: Sequence[Hashable], p: float = 0.9) -> float:
    """Return the extrapolated rank-biased overlap of two orders of the same things, best first: 1 for the same order.

    Equation 32 of Webber, Moffat and Zobel (TOIS 28(4), 2010). Its weights add up to 1 and all things are shared at the
    last depth, so it is 1 less ``(1 - p) / p * sum of p ** depth * (1 - shared share at that depth)``, which is
    exactly 1 for equal orders. A rank counts ``p`` times as much as the one before; with 0.9 the first ten ranks have
    86 % of the weight (equation 21 there).

    Args:
        first: Without repetitions, and not empty.
        second: The same things.
        p: More than 0, less than 1.
    """
    items: set[Hashable] = set()
    overlap, missed = 0, 0.0
    for depth, (a, b) in enumerate(zip(first, second, strict=True), start=1):
        overlap += (a in items) + (b in items) + (a == b)
        items |= {a, b}
        missed += (1 - overlap / depth) * p**depth
    return 1 - (1 - p) / p * missed


def top_overlap(first: Sequence[Hashable], second: Sequence[Hashable], k: int = 10) -> float:
    """Return the share of the ``k`` best of one order that is among the ``k`` best of another; both best first."""
    k = min(k, len(first))
    return len(set(first[:k]) & set(second[:k])) / k


def _mean_ranks(values: Sequence[float]) -> list[float]:
    """Return the rank of each value, 1 for the smallest; equal values share the mean of their ranks."""
    ordered = sorted(values)
    return [(bisect_left(ordered, value) + bisect_right(ordered, value) + 1) / 2 for value in values]


def _count_ties(row: Iterable[Hashable]) -> int:
    """Return how many pairs of values in a row are equal."""
    return sum(math.comb(count, 2) for count in Counter(row).values())
