"""How far scores are probabilities: reliability bins, calibration error, Brier score and log loss."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from rag_rerank.errors import InputError
from rag_rerank.evaluation.report import Bin, Reliability

__all__ = ["brier", "log_loss", "reliability"]

_LEAST = 1e-15
"""Probability that the log loss uses instead of 0, so that one certain mistake does not cost infinity."""


def reliability(scores: Sequence[float], relevant: Sequence[bool], *, bins: int = 15) -> Reliability:
    """Compare scores with the share that is relevant, bin by bin.

    The bins hold equally many pairs as far as possible: equal scores always share a bin, so that the order of the
    pairs does not matter. The expected calibration error is the mean over the bins, weighted by count, of
    ``|mean score - share relevant|`` (Naeini, Cooper and Hauskrecht, AAAI 2015). They and Guo et al. (ICML 2017,
    the source of the 15 bins) use bins of equal width; scores of rerankers crowd near 0 and 1, so bins of equal mass
    (Nguyen and O'Connor, EMNLP 2015; Nixon et al., CVPR workshops 2019) keep all bins filled. It is not corrected for
    chance: for perfect probabilities it is above 0, by about ``0.8 * sqrt(bins * p * (1 - p) / pairs)`` where all are
    near ``p``.

    Args:
        scores: Numbers from 0 to 1.
        relevant: Whether each pair is relevant.
        bins: How many bins at most.

    Raises:
        InputError: There are no pairs, different numbers of scores and judgments, no bins, or a score outside 0..1.
    """
    if len(scores) != len(relevant) or not scores:
        raise InputError(f"needs at least one score, and a judgment for each; got {len(scores)} and {len(relevant)}")
    if bins < 1:
        raise InputError(f"bins must be at least 1, got {bins}")
    outside = next((score for score in scores if not 0 <= score <= 1), None)
    if outside is not None:
        raise InputError(f"a probability must be from 0 to 1, got {outside}")
    pairs = sorted((float(score), bool(good)) for score, good in zip(scores, relevant, strict=True))
    bins_of_pairs = tuple(_bin(pairs[start:end]) for start, end in _spans([score for score, _ in pairs], bins))
    return Reliability(
        ece=math.fsum(b.count * abs(b.score - b.relevant) for b in bins_of_pairs) / len(pairs), bins=bins_of_pairs
    )


def brier(scores: Sequence[float], relevant: Sequence[bool]) -> float:
    """Return the mean squared difference of probability and truth (Brier, 1950); 0 is best."""
    return math.fsum((score - good) ** 2 for score, good in zip(scores, relevant, strict=True)) / len(scores)


def log_loss(scores: Sequence[float], relevant: Sequence[bool]) -> float:
    """Return the mean of ``-ln`` of the probability given to what was true; 0 is best."""
    probabilities = (score if good else 1 - score for score, good in zip(scores, relevant, strict=True))
    return -math.fsum(math.log(max(p, _LEAST)) for p in probabilities) / len(scores)


def _spans(scores: Sequence[float], bins: int) -> Iterator[tuple[int, int]]:
    """Cut rising scores into spans of about equal length; equal scores stay together."""
    start = 0
    for i in range(1, bins + 1):
        end = max(start, round(i * len(scores) / bins))
        while start < end < len(scores) and scores[end] == scores[end - 1]:
            end += 1
        if end > start:
            yield start, end
            start = end


def _bin(pairs: Sequence[tuple[float, bool]]) -> Bin:
    count = len(pairs)
    return Bin(
        low=pairs[0][0],
        high=pairs[-1][0],
        count=count,
        score=math.fsum(score for score, _ in pairs) / count,
        relevant=sum(good for _, good in pairs) / count,
    )
