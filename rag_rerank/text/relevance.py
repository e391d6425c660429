"""Which sentences are relevant, among those of all hits of a ranking."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, TypeVar

__all__ = ["relevant"]


class ScoredSpan(Protocol):
    """A stretch of a text with a score."""

    @property
    def start(self) -> int:
        """The first character."""

    @property
    def raw_score(self) -> float:
        """The score; larger is more relevant."""


S = TypeVar("S", bound=ScoredSpan)

_SHARE = 0.5
"""Where the limit lies between the least and the most relevant sentence of the ranking, by raw score. Set in advance;
docs/how-to/spans.md has what it keeps and what it cuts."""


def relevant(spans: Mapping[str, Sequence[S]]) -> dict[str, list[S]]:
    """Return the relevant sentences of each text, the most relevant first.

    The best sentence of a text is always relevant. Another one is if its raw score lies in the upper part of the range
    from the least to the best sentence of all texts. The rule needs no scale: it is the same for logits, cosines and
    BM25.

    Args:
        spans: A text's id -> its sentences with their scores.
    """
    scores = [span.raw_score for of_text in spans.values() for span in of_text]
    low, high = min(scores, default=0.0), max(scores, default=0.0)
    limit = low * (1 - _SHARE) + high * _SHARE  # a product each, because the difference may overflow
    by_text = {}
    for id, of_text in spans.items():
        falling = sorted(of_text, key=lambda span: (-span.raw_score, span.start))
        by_text[id] = [span for i, span in enumerate(falling) if i == 0 or span.raw_score >= limit]
    return by_text
