"""How far two orders of the same things agree: measures on plain numbers, without any reranker."""

from __future__ import annotations

import math
from bisect import bisect_right, insort
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence

__all__ = ["kendall_tau_b", "rank_biased_overlap", "top_overlap"]


def kendall_tau_b(x: Sequence[float], y: Sequence[float]) -> float:
    """Return Kendall's rank correlation with his correction for ties (Biometrika 33, 1945), from -1 to 1.

    Where one side is all ties the formula divides by zero; then 1 if both are, else 0.
    """
    pairs = sorted(zip(x, y, strict=True))
    tied_x, tied_y, tied_both = (_tied(row) for row in (x, y, pairs))
    all_pairs = math.comb(len(pairs), 2)
    if all_pairs in (tied_x, tied_y):
        return float(tied_x == tied_y)
    seen: list[float] = []
    discordant = 0
    for _, value in pairs:  # rising in x: what is larger in y and came before is the wrong way round
        discordant += len(seen) - bisect_right(seen, value)
        insort(seen, value)
    difference = all_pairs - tied_x - tied_y + tied_both - 2 * discordant
    return difference / math.sqrt((all_pairs - tied_x) * (all_pairs - tied_y))


def rank_biased_overlap(first: Sequence[Hashable], second: Sequence[Hashable], p: float = 0.9) -> float:
    """Return the extrapolated rank-biased overlap of two orders of the same things, best first: 1 for the same order.

    Equation 32 of Webber, Moffat and Zobel (TOIS 28(4), 2010). Its weights add up to 1 and all things are shared at the
    last depth, so it is 1 less ``(1 - p) / p * sum of p ** depth * (1 - shared share at that depth)``, which is
    exactly 1 for equal orders. A place counts ``p`` times as much as the one before; with 0.9 the first ten places have
    86 % of the weight (there, equation 21).

    Args:
        first: Without repetitions, and not empty.
        second: The same things.
        p: More than 0, less than 1.
    """
    seen: set[Hashable] = set()
    overlap, missed = 0, 0.0
    for depth, (a, b) in enumerate(zip(first, second, strict=True), start=1):
        overlap += (a in seen) + (b in seen) + (a == b)
        seen |= {a, b}
        missed += (1 - overlap / depth) * p**depth
    return 1 - (1 - p) / p * missed


def top_overlap(first: Sequence[Hashable], second: Sequence[Hashable], k: int = 10) -> float:
    """Return which share of the ``k`` best of one order is among the ``k`` best of another; both best first."""
    k = min(k, len(first))
    return len(set(first[:k]) & set(second[:k])) / k


def _tied(row: Iterable[Hashable]) -> int:
    """Return how many pairs of a row are equal."""
    return sum(math.comb(count, 2) for count in Counter(row).values())
