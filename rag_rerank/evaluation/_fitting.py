"""The two ways to fit a rising map to judged scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rag_rerank._extras import need
from rag_rerank.compose._maps import Method, interpolated, logistic

__all__ = ["Shape", "applied", "shaped"]

Shape = Mapping[str, Any]
"""What of a `CalibrationMap` decides its probabilities: slope and intercept, or scores and probabilities."""

_STEPS = 100
"""Newton steps at most; ten are usual."""


def shaped(method: Method, scores: Sequence[float], relevant: Sequence[bool]) -> Shape:
    """Fit a map."""
    return _platt(scores, relevant) if method == "platt" else _isotonic(scores, relevant)


def applied(shape: Shape, scores: Sequence[float]) -> list[float]:
    """Return the probability at each score, of a shape that may be none of a valid map: falling, or level."""
    if "slope" in shape:
        return [logistic(shape["slope"] * score + shape["intercept"]) for score in scores]
    return [interpolated(score, shape["scores"], shape["probabilities"]) for score in scores]


def _targets(relevant: Sequence[bool]) -> tuple[float, float]:
    """Return what a pair that is not relevant and one that is count as.

    Platt's 1 / (N- + 2) and (N+ + 1) / (N+ + 2), in place of 0 and 1: the mean of a probability under a uniform prior,
    so that no map is ever sure.
    """
    good = sum(relevant)
    return 1 / (len(relevant) - good + 2), (good + 1) / (good + 2)


def _platt(scores: Sequence[float], relevant: Sequence[bool]) -> Shape:
    """Fit a sigmoid by maximum likelihood (Platt, 1999), with the safe Newton steps of Lin, Lin and Weng (2007)."""
    import numpy as np

    low, high = _targets(relevant)
    raw = np.asarray(scores, dtype=np.float64)
    target = np.where(np.asarray(relevant), high, low)
    middle, width = raw.mean(), raw.std() or 1.0
    x = np.stack([(raw - middle) / width, np.ones_like(raw)])

    def loss(at: Any) -> float:
        z = at @ x
        return float(np.sum(np.logaddexp(0, z) - target * z))

    now = np.array([0.0, np.log(target.mean() / (1 - target.mean()))])
    for _ in range(_STEPS):
        p = np.exp(-np.logaddexp(0, -(now @ x)))
        gradient = x @ (p - target)
        if np.abs(gradient).max() < 1e-9 * len(raw):
            break
        curved = (x * (p * (1 - p))) @ x.T + 1e-12 * np.eye(2)
        step, was, share = np.linalg.solve(curved, gradient), loss(now), 1.0
        while loss(now - share * step) > was and share > 1e-10:
            share /= 2
        if share <= 1e-10:
            break
        now = now - share * step
    slope = float(now[0] / width)
    return {"slope": slope, "intercept": float(now[1]) - slope * float(middle)}


def _isotonic(scores: Sequence[float], relevant: Sequence[bool]) -> Shape:
    """Fit the rising steps of least squares, by scikit-learn; bounded by Platt's targets."""
    low, high = _targets(relevant)
    IsotonicRegression = need("sklearn.isotonic", extra="eval").IsotonicRegression
    fitted = IsotonicRegression(y_min=low, y_max=high, out_of_bounds="clip").fit(scores, [float(r) for r in relevant])
    return {
        "scores": tuple(map(float, fitted.X_thresholds_)),
        "probabilities": tuple(map(float, fitted.y_thresholds_)),
    }
