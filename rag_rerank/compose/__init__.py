"""Rerankers made of rerankers."""

from rag_rerank.compose.cascade import Cascade, Stage
from rag_rerank.compose.fallback import Fallback

__all__ = ["Cascade", "Fallback", "Stage"]
