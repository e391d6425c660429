"""The interval of a difference in the benchmarks: a paired bootstrap over queries (10,000 samples, fixed seed)."""

from __future__ import annotations

import numpy as np


def interval(differences: np.ndarray) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of a mean."""
    rng = np.random.default_rng(0)
    means = differences[rng.integers(0, len(differences), (10_000, len(differences)))].mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)
