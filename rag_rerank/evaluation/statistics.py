"""How precise a mean over queries is, and whether two systems differ: bootstrap and randomisation over queries.

Queries are the sampling units, as in Sakai ("Evaluating evaluation metrics based on the bootstrap", SIGIR 2006) and
Smucker, Allan and Carterette ("A comparison of statistical significance tests for information retrieval evaluation",
CIKM 2007), who found that the randomisation test and the bootstrap agree, and that neither assumes a distribution.
Several systems are corrected for as a family; without that, one of many useless ones would look better (Carterette,
"Multiple testing in statistical analysis of systems-based information retrieval experiments", TOIS 2012).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from rag_rerank._lazy import need
from rag_rerank.errors import InputError
from rag_rerank.evaluation.report import Comparison, MeanEstimate

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, np.dtype[Any]]

__all__ = ["ALPHA", "SAMPLES", "SEED", "adjusted_p", "compare", "estimate", "randomisation"]

ALPHA = 0.05
"""A corrected p-value below this is significant; intervals cover 1 - ALPHA."""

SAMPLES = 10_000
"""Bootstrap and randomisation samples."""

SEED = 0

_EXACT = 13
"""With up to this many differences other than zero, all 2**13 = 8,192 signs are tried and none is drawn."""

_ROWS = 250
"""Samples computed at a time, to bound the memory."""


def estimate(values: Iterable[float], *, samples: int = SAMPLES, seed: int = SEED) -> MeanEstimate:
    """Return the mean with its 95 % interval.

    Percentile bootstrap, widened for few values by Student's t in place of the normal distribution and by
    n / (n - 1) (Hesterberg, "What teachers should know about the bootstrap", The American Statistician 2015), since
    the plain one is too narrow there. BCa and the studentised bootstrap cover less where most differences are zero, as
    they are between rankings. The second half of the samples mirrors the first on the sorted values (Hall,
    "Antithetic resampling for the bootstrap", Biometrika 1989), so that the interval of negated values is the negated
    interval. The order of the values does not matter.

    One value, or equal values, give an interval of no width: they say nothing about the spread. Where hardly any value
    differs from the rest, the interval is too narrow, as is every interval computed from the values alone.

    Args:
        values: One value a query.
        samples: Bootstrap samples.
        seed: Their seed.

    Raises:
        InputError: There is no value, or one is not finite.
    """
    import numpy as np

    special = need("scipy.special", extra="eval")

    x = np.sort(_finite(values))
    mean, n = float(x.mean()), len(x)
    if x[0] == x[-1]:
        return MeanEstimate(mean=float(x[0]), low=float(x[0]), high=float(x[0]))
    reach = special.stdtrit(n - 1, 1 - ALPHA / 2) * np.sqrt(n / (n - 1))
    low, high = np.quantile(_resample(x, samples, seed), special.ndtr((-reach, reach)))
    return MeanEstimate(mean=mean, low=float(low), high=float(high))


def randomisation(
    differences: Iterable[float], *, fall: bool = False, samples: int = SAMPLES, seed: int = SEED
) -> float:
    """Return the p-value of the paired randomisation test (Fisher): how often swapped systems differ as much.

    If both systems are the same, each difference could as well have the other sign. With up to
    13 differences other than zero all signs are tried; beyond, ``samples`` are drawn and the p-value is
    ``(r + 1) / (samples + 1)``, which is never zero (Phipson and Smyth, "Permutation p-values should never be zero",
    SAGMB 2010). Two-sided, and the same for negated differences.

    Args:
        differences: One paired difference a query.
        fall: One-sided instead: how often the sum is as low by chance.
        samples: Signs drawn.
        seed: Their seed.

    Raises:
        InputError: There is no difference, or one is not finite.
    """
    import numpy as np

    x = _finite(differences)
    x = x[x != 0.0]
    if not len(x):
        return 1.0
    sizes = np.sort(np.abs(x))
    total = float(sizes.sum())
    exact = len(x) <= _EXACT
    signs = _all_signs(len(x)) if exact else _random_signs(len(x), samples, seed)
    sums = 2 * _product(signs, sizes) - total
    observed, rounding = float(x.sum()), 1e-12 * total
    as_extreme = sums <= observed + rounding if fall else np.abs(sums) >= abs(observed) - rounding
    r = int(as_extreme.sum())
    return r / len(sums) if exact else (r + 1) / (len(sums) + 1)


def compare(
    system: str,
    baseline: str,
    measure: str,
    a: Mapping[str, float],
    b: Mapping[str, float],
    *,
    samples: int = SAMPLES,
    seed: int = SEED,
) -> Comparison:
    """Compare a system with a baseline on the same queries; its ``p_adjusted`` is ``p`` until `adjusted_p`.

    Args:
        system: Name of the system.
        baseline: Name of the system it is compared with.
        measure: Name of the measure.
        a: Query id -> value of the system.
        b: Query id -> value of the baseline.
        samples: Bootstrap and randomisation samples.
        seed: Their seed.

    Raises:
        InputError: The queries are not the same, there are none, or a value is not finite.
    """
    if a.keys() != b.keys():
        raise InputError(f"{system!r} and {baseline!r} were not measured on the same queries")
    differences = [a[query] - b[query] for query in a]
    p = randomisation(differences, samples=samples, seed=seed)
    return Comparison(
        system=system,
        baseline=baseline,
        measure=measure,
        difference=estimate(differences, samples=samples, seed=seed),
        p=p,
        p_adjusted=p,
        helped=sum(d > 0 for d in differences),
        hurt=sum(d < 0 for d in differences),
        unchanged=sum(d == 0 for d in differences),
    )


def adjusted_p(family: Sequence[Comparison]) -> tuple[Comparison, ...]:
    """Return the comparisons, in their order, with p-values corrected for all of them.

    Holm's step-down method ("A simple sequentially rejective multiple test procedure", Scandinavian Journal of
    Statistics 1979): the chance of even one false finding in the family stays below the level, however the
    comparisons depend on each other.
    """
    corrected = holm([comparison.p for comparison in family])
    return tuple(replace(comparison, p_adjusted=p) for comparison, p in zip(family, corrected, strict=True))


def holm(values: Sequence[float]) -> tuple[float, ...]:
    """Return p-values corrected by Holm's method, in their order."""
    largest, corrected = 0.0, {}
    for step, i in enumerate(sorted(range(len(values)), key=values.__getitem__)):
        largest = max(largest, min(1.0, (len(values) - step) * values[i]))
        corrected[i] = largest
    return tuple(corrected[i] for i in range(len(values)))


def _finite(values: Iterable[float]) -> Array:
    import numpy as np

    x = np.fromiter(values, dtype=np.float64)
    if not len(x):
        raise InputError("there are no queries to take a mean over")
    if not np.isfinite(x).all():
        raise InputError("a measure of a query is not a finite number")
    return x


def _resample(x: Array, samples: int, seed: int) -> Array:
    """Return bootstrap means of sorted values."""
    import numpy as np

    counts = _counts(len(x), -(-samples // 2), seed)
    return _product(counts, np.stack((x, x[::-1]), axis=1)).ravel() / len(x)


@lru_cache(maxsize=4)
def _counts(n: int, samples: int, seed: int) -> Array:
    """Return how often each of ``n`` values is in each sample; the same for all systems of a slice."""
    import numpy as np

    random = np.random.default_rng((seed, n))
    counts = np.empty((samples, n), dtype=np.uint8)  # the same value 256 times does not happen
    for start in range(0, samples, _ROWS):
        rows = min(_ROWS, samples - start)
        draws = random.integers(0, n, (rows, n)) + n * np.arange(rows)[:, None]
        counts[start : start + rows] = np.bincount(draws.ravel(), minlength=rows * n).reshape(rows, n)
    return counts


def _all_signs(n: int) -> Array:
    import numpy as np

    return (np.arange(2**n)[:, None] >> np.arange(n)) & 1


def _random_signs(n: int, samples: int, seed: int) -> Array:
    import numpy as np

    bits = np.random.default_rng((seed, n)).integers(0, 256, (samples, -(-n // 8)), dtype=np.uint8)
    return np.unpackbits(bits, axis=1, count=n)


def _product(rows: Array, x: Array) -> Array:
    """Return ``rows @ x`` for small whole numbers, a few rows at a time."""
    import numpy as np

    parts = (rows[start : start + _ROWS].astype(np.float64) @ x for start in range(0, len(rows), _ROWS))
    return np.concatenate(list(parts))
