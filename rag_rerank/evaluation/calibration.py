"""Fitting probabilities of relevance on judged queries."""

from __future__ import annotations

from rag_rerank.evaluation._reliability import reliability

__all__ = ["reliability"]
