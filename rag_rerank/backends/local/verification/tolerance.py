"""How near a score must come to a published one: the rounding of the print, and the noise of both number formats.

All is compared on the scale of logits. A published number is a range there: half a unit of its last printed digit, and
one step of the number format that it was computed in, to both sides. A probability becomes a range of logits, which has
no end where the number was rounded to 0 or 1. Then comes the `NOISE` of a whole model in that format, and that of the
model here, if it does not compute in fp32.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

__all__ = ["NOISE", "Kind", "Precision", "Range", "allowed_range", "as_published", "raw_score_of"]

Kind = Literal["logit", "probability", "maxsim"]
"""What a published number is: a raw logit, a sigmoid of one, or a sum of cosines."""

Precision = Literal["fp32", "fp16", "bf16", "int8"]
"""The number format that a score was computed in."""

NOISE: dict[Precision, tuple[float, float]] = {
    "fp32": (0.005, 0.0),
    "fp16": (0.03, 1 / 256),
    "bf16": (0.24, 1 / 32),
    "int8": (0.3, 1 / 32),
}
"""How far a logit may move because a whole model computes in a format: a constant, and a share of the logit.

- fp32: what the tests of Text Embeddings Inference allow between two implementations (5e-3; fastembed allows 1e-3).
- fp16: three published fp16 runs of bge-reranker-large differ by up to 0.012, and two of bge-reranker-v2-gemma by 0.023
  at a logit of 9; a trained MiniLM of 6 layers moved by up to 0.011 on the 109 pairs of the published scores.
- bf16: eight times as much, because its numbers have three bits less; the same MiniLM moved by up to 0.17.
- int8: the published int8 and fp32 scores of ms-marco-MiniLM-L6-v2 differ by 0.18 at a logit of 9.
"""

_STEP: dict[Precision, float] = {"fp32": 2.0**-23, "fp16": 2.0**-10, "bf16": 2.0**-7, "int8": 2.0**-23}
"""Distance of neighbouring numbers, as a share of the power of two below them."""

_MAXSIM = 0.001
"""What the tests of sentence-transformers allow for a MaxSim: this much, and this share of it."""


class Range(NamedTuple):
    """A range of scores, ends included."""

    low: float
    high: float

    def holds(self, score: float) -> bool:
        """Whether a score is in the range."""
        return self.low <= score <= self.high

    def distance(self, score: float) -> float:
        """Return how far a score is outside of the range; 0 inside."""
        return max(self.low - score, score - self.high, 0.0)

    def meets(self, other: Range) -> bool:
        """Whether two ranges share a score."""
        return self.low <= other.high and other.low <= self.high


def allowed_range(
    value: float,
    kind: Kind,
    precision: Precision,
    *,
    here: Precision = "fp32",
    rounding: float | None = None,
    shift: float = 0.0,
    relative: float = 0.0,
    noise: float | None = None,
) -> Range:
    """Return the raw scores that agree with a published number.

    Args:
        value: The number, as printed.
        kind: What it is.
        precision: The format that it was computed in.
        here: The format that the model here computes in.
        rounding: Half a unit of the last printed digit; by default of the digits that the number has.
        shift: What was subtracted from the logit before its sigmoid was taken.
        relative: A share of the logit that is allowed on top.
        noise: How far the logit may move, in place of `NOISE` of the published format.
    """
    half = _half_a_digit(value) if rounding is None else rounding
    half += _step(value, precision)
    low, high = value - half, value + half
    if kind == "maxsim":
        own = _MAXSIM * (1 + abs(value))
        return Range(low - own, high + own)
    if kind == "probability":
        low, high = _logit(low) + shift, _logit(high) + shift
    nearest = min((end for end in (low, high) if math.isfinite(end)), key=abs, default=0.0)
    constant, share = NOISE[precision] if noise is None else (noise, 0.0)
    margin = constant + (share + relative) * abs(nearest)
    if here != "fp32":
        constant, share = NOISE[here]
        margin += constant + share * abs(nearest)
    return Range(low - margin, high + margin)


def as_published(score: float, kind: Kind, shift: float = 0.0) -> float:
    """Return a raw score as a published number of this kind would show it."""
    if kind != "probability":
        return score
    x = score - shift
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def raw_score_of(value: float, kind: Kind, shift: float = 0.0) -> float:
    """Return the raw score that a published number means; infinite for a probability of 0 or 1."""
    return _logit(value) + shift if kind == "probability" else value


def _half_a_digit(value: float) -> float:
    """Return half a unit of the last digit that a number has, as Python prints it."""
    mantissa, _, exponent = repr(float(value)).partition("e")
    digits = len(mantissa.partition(".")[2])
    return 0.5 * 10.0 ** (int(exponent or 0) - digits)


def _step(value: float, precision: Precision) -> float:
    return 0.0 if value == 0 else 2.0 ** math.floor(math.log2(abs(value))) * _STEP[precision]


def _logit(p: float) -> float:
    if p <= 0:
        return -math.inf
    return math.inf if p >= 1 else math.log(p) - math.log1p(-p)
