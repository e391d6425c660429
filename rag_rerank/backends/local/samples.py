"""Own sentences on which two ways to compute the same model are compared before the faster one is trusted."""

from __future__ import annotations

__all__ = ["QUERIES", "TEXTS", "TOLERANCE"]

TOLERANCE = 1e-4
"""Largest difference between two fp32 logits of the same pair that is let through: absolute, or for logits beyond -1..1
relative to the logit, because fp32 rounds relative to its numbers."""

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
