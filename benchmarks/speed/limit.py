"""The lower limit of the time of an engine that computes every layer, and measures of how close two score lists are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean


def flops(shape: Mapping[str, int], lengths: Sequence[int]) -> int:
    """Return the floating-point operations of the matrix products, without padding.

    In each layer, for each token: query, key, value and output projections, the two feed-forward products, and the
    two products of attention with each token of the same input. A multiply-add counts as two. Embeddings, norms,
    softmax, GELU and the head are left out, and so is DeBERTa's attention to relative positions.
    """
    hidden, inner = shape["hidden"], shape["inner"]
    each = 2 * (4 * hidden * hidden + 2 * hidden * inner)
    return shape["layers"] * sum(n * each + n * n * 4 * hidden for n in lengths)


def spearman(a: Sequence[float], b: Sequence[float]) -> float:
    """Return the rank correlation of two lists without ties (ties keep their order)."""
    ranks = [_ranks(a), _ranks(b)]
    mean = fmean(ranks[0])
    products = [fmean((x - mean) * (y - mean) for x, y in zip(p, q, strict=True)) for p, q in (ranks, ranks[:1] * 2)]
    return products[0] / products[1]


def overlap(a: Sequence[float], b: Sequence[float], k: int = 10) -> float:
    """Return the share of the best ``k`` that two lists of scores have in common."""
    best = [set(sorted(range(len(scores)), key=lambda i: -scores[i])[:k]) for scores in (a, b)]
    return len(best[0] & best[1]) / min(k, len(a))


def difference(a: Sequence[float], b: Sequence[float]) -> float:
    """Return the largest absolute difference."""
    return max(abs(x - y) for x, y in zip(a, b, strict=True))


def _ranks(scores: Sequence[float]) -> list[int]:
    ranks = [0] * len(scores)
    for rank, i in enumerate(sorted(range(len(scores)), key=lambda i: scores[i])):
        ranks[i] = rank
    return ranks
