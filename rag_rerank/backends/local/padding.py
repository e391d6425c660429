"""Whether padding changes a model's logits: in most architectures a mask hides it, but not in all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rag_rerank.backends.local.pair_encoding import PairTokenizer
from rag_rerank.backends.local.samples import QUERIES, TEXTS, TOLERANCE
from rag_rerank.errors import InputTooLong
from rag_rerank.rank_correlation import relative_difference

__all__ = ["COARSE", "ROUGH", "ignores_padding"]

ROUGH = 0.05
"""Tolerance for models that compute in fp16 or int8."""

COARSE = 0.25
"""Tolerance for bf16, whose numbers have 8 bits: a small random ModernBERT differs by 0.12 in a batch of another shape.
A smaller effect of padding cannot be told from rounding there."""

_TEXTS = 2
"""A short text and one of a sentence: little work, and padding enough to show."""


def ignores_padding(
    tokenizer: PairTokenizer, run: Callable[[Mapping[str, Any]], Sequence[float]], tolerance: float = TOLERANCE
) -> bool:
    """Compute two pairs each alone and both in one padded batch, and return whether the logits agree.

    Args:
        tokenizer: Makes the inputs.
        run: Computes the logits of a batch; what it raises is let through.
        tolerance: Greatest `relative_difference` that counts as rounding.
    """
    try:
        pairs = tokenizer.lenient().encode(QUERIES[0], TEXTS[:_TEXTS], "truncate")
    except InputTooLong:  # a window that has no room for a text, so that there will be no input to pad
        return True
    alone = [logit for row in range(_TEXTS) for logit in run(pairs.arrays([row]))]
    together = run(pairs.arrays(range(_TEXTS)))
    return all(relative_difference(a, b) <= tolerance for a, b in zip(alone, together, strict=True))
