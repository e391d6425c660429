"""Relevant spans: the parts of a text with their scores, and which of them are relevant in a whole ranking."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rag_rerank._checks import finite
from rag_rerank.errors import InputError

__all__ = ["RelevantSpan", "relevant"]

_SHARE = 0.5
"""Where the limit lies between the least and the most relevant sentence of the ranking, by raw score. Set in advance;
docs/how-to/spans.md has what it keeps and what it cuts."""


@dataclass(frozen=True, slots=True)
class RelevantSpan:
    """A stretch of a text, as a rule a sentence, and how relevant it is by itself.

    Args:
        start: Its first character, counted in code points of the text.
        end: The character after its last.
        score: The presented score, on the scale of whatever scored it: of ``by`` in `RelevantSpans`.
        raw_score: The number behind it, as ``Hit.raw_score``. Larger is more relevant.
        is_relevant: Whether it is relevant, where whatever scored it decides that itself: Cohere returns relevant spans
            only, and OpenProvence models have a threshold. ``None`` where every sentence has a score, and `pack`
            compares them.

    Raises:
        InputError: It is empty or begins before the text, or a score is not a finite number.
    """

    start: int
    end: int
    score: float
    raw_score: float
    is_relevant: bool | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.end:
            raise InputError(f"a span begins in the text and is not empty, got {self.start!r} to {self.end!r}")
        for name in ("score", "raw_score"):
            object.__setattr__(self, name, finite(getattr(self, name), f"span: {name}"))

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON-ready values; ``RelevantSpan(**values)`` rebuilds the span from them."""
        return {
            "start": self.start,
            "end": self.end,
            "score": self.score,
            "raw_score": self.raw_score,
            "is_relevant": self.is_relevant,
        }


def relevant(spans: Mapping[str, Sequence[RelevantSpan]]) -> dict[str, list[RelevantSpan]]:
    """Return the relevant spans of each text, the most relevant first.

    A span that says itself whether it is relevant is taken at its word. Of the others, the best one of a text is always
    relevant, and another one is if its raw score lies in the upper part of the range from the least to the best of all
    texts. This rule needs no scale: it is the same for logits, cosines and BM25.

    Args:
        spans: A text's id -> its spans.
    """
    compared = [span.raw_score for of_text in spans.values() for span in of_text if span.is_relevant is None]
    low, high = min(compared, default=0.0), max(compared, default=0.0)
    limit = low * (1 - _SHARE) + high * _SHARE  # a product each, because the difference may overflow
    by_text = {}
    for id, of_text in spans.items():
        falling = sorted(of_text, key=lambda span: (-span.raw_score, span.start))
        by_text[id] = [span for i, span in enumerate(falling) if _is_relevant(span, limit, is_best=i == 0)]
    return by_text


def _is_relevant(span: RelevantSpan, limit: float, *, is_best: bool) -> bool:
    return is_best or span.raw_score >= limit if span.is_relevant is None else span.is_relevant
