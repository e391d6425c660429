"""What a disagreement with published scores looks like, and what usually causes it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from statistics import fmean, pstdev

from rag_rerank.rank_correlation import kendall_tau_b

__all__ = ["likely_causes"]

_NEAR = 0.1
"""A share of the spread of the published scores that still counts as the same number."""

_FLAT = 0.25
"""A spread of less than this share of the published one is that of a head that learnt nothing, or of a lost prompt."""

_SAME_ORDER = 0.8
"""Kendall's tau from which on two orders are the same but for a few places."""


def likely_causes(
    published: Sequence[float], here: Sequence[float], *, cut: int, has_prompt: bool, revisions: str
) -> tuple[str, ...]:
    """Return what probably is wrong, the likeliest first.

    Args:
        published: The published logits; those without an end are left out, with their scores here.
        here: The raw scores here.
        cut: How many of the texts were cut.
        has_prompt: Whether the model reads a prompt.
        revisions: A sentence on a revision that is not the pinned one; empty where it is.
    """
    return tuple(_causes(published, here, cut, has_prompt, revisions))


def _causes(
    published: Sequence[float], here: Sequence[float], cut: int, has_prompt: bool, revisions: str
) -> Iterator[str]:
    if cut:
        yield f"the window is too short: {cut} of the texts were cut; look at max_length, and at tokenizer_config.json"
    if revisions:
        yield revisions
    if len(published) > 1:
        yield from _causes_by_numbers(published, here, has_prompt)
    else:
        yield "one pair alone does not show what is wrong; compare the head, the tokenizer and the revision"


def _causes_by_numbers(published: Sequence[float], here: Sequence[float], has_prompt: bool) -> Iterator[str]:
    spread = max(max(published) - min(published), 1.0)
    near = _NEAR * spread
    inputs = "the prompt template or the instruction is another one" if has_prompt else "the tokenizer is another one"
    if _largest(-p - h for p, h in zip(published, here, strict=True)) <= near:
        yield "the labels are swapped: the scores are the published ones with the other sign"
    elif _largest(_sigmoid(p) - h for p, h in zip(published, here, strict=True)) <= _NEAR:
        yield "a sigmoid is applied twice: the scores here are probabilities, and the published ones are logits"
    elif pstdev(here) < _FLAT * pstdev(published):
        yield "the head is not the trained one: the scores hardly differ from each other"
        yield f"{inputs}, so that the model reads something else than in its training"
    elif kendall_tau_b(published, here) >= _SAME_ORDER:
        shift = fmean(h - p for p, h in zip(published, here, strict=True))
        if _largest(h - p - shift for p, h in zip(published, here, strict=True)) <= near:
            yield f"all scores are shifted by about {shift:+.2g}: the bias of the head is another one, or is absent"
        yield f"{inputs}: the order is the published one, and the numbers are not"
        yield "an activation of the head is missing, or is applied twice"
        yield "the weights are those of another revision, or were quantized"
    else:
        yield "the head is not the trained one, or belongs to another model: even the order differs"
        yield f"{inputs}, such as one that keeps or changes the case of letters"
        yield "an activation of the head is missing"
        yield "the weights are those of another model or revision"


def _largest(differences: Iterator[float]) -> float:
    return max(map(abs, differences))


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))
