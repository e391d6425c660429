"""Sample texts of our own: two implementations of a model are compared on them before the faster one is used."""

from __future__ import annotations

__all__ = ["QUERIES", "TEXTS", "TOLERANCE"]

TOLERANCE = 1e-4
"""Largest difference between two fp32 logits of the same pair that counts as rounding: a
`rag_rerank.rank_correlation.relative_difference`."""

QUERIES = ("how deep is the lake in the south?", "почему в горах вода кипит раньше?")

_SENTENCES = (
    "yes",
    "The lake in the south is 346 m deep; the one in the north is shallow.",
    "Water boils at a lower temperature on a mountain, because the air pressure is lower there.",
    "В горах давление ниже, поэтому вода закипает при более низкой температуре.",
    "温度は重要です。夜は暖かくしてください。",
    "Cranes rest on the lake in autumn, then fly on along the coast. " * 6,
)

TEXTS = (*_SENTENCES, " ".join(_SENTENCES * 12))
"""From one word to several hundred tokens."""
