"""What a language model answered, in one form for all clients."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from rag_rerank.trace import Usage

__all__ = ["Completion"]


@dataclass(frozen=True, slots=True)
class Completion:
    """An answer of a language model.

    Args:
        text: What it wrote.
        logprobs: For each token of the answer, the likeliest tokens at its place with their log-probabilities; empty
            where the endpoint does not give them.
        refusal: Whether the model or a filter of its provider declined to answer.
        cut_off: Whether the answer ends because it reached a limit of length.
        model: The model that answered, if the answer names it.
        usage: The tokens and the cost that the answer names.
    """

    text: str = field(repr=False)
    logprobs: tuple[Mapping[str, float], ...] = field(default=(), repr=False)
    refusal: bool = False
    cut_off: bool = False
    model: str | None = None
    usage: Usage = field(default_factory=Usage)
