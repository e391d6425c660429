"""The scales of scores, and the score that is presented for a raw one."""

from __future__ import annotations

import math
from typing import Literal, get_args

__all__ = ["SCALES", "Scale", "present"]

Scale = Literal["calibrated", "sigmoid", "relevance", "similarity", "unbounded", "rank"]
"""The meaning of ``Hit.score``.

- ``calibrated``: a probability of relevance, fitted on judgments.
- ``sigmoid``: ``1 / (1 + exp(-logit))`` of a cross-encoder; in 0..1, monotone, not a probability.
- ``relevance``: a provider's number in 0..1; not comparable between models.
- ``similarity``: a cosine or a dot product.
- ``unbounded``: any real number (BM25, fused scores); only the order means something.
- ``rank``: a place, because the model gives no scores: 1 for the first of n, ``1 - 1/n`` for the second ...
"""

SCALES: tuple[Scale, ...] = get_args(Scale)


def present(raw: float, scale: Scale) -> float:
    """Return the presented score of a raw score: the float64 sigmoid of a logit, else the number itself."""
    if scale != "sigmoid":
        return raw
    if raw >= 0:
        return 1.0 / (1.0 + math.exp(-raw))
    small = math.exp(raw)
    return small / (1.0 + small)
