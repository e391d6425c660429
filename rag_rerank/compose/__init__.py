"""Rerankers made of rerankers."""

from rag_rerank.compose.cached import Cached
from rag_rerank.compose.cascade import Cascade, Stage
from rag_rerank.compose.fallback import Fallback

__all__ = ["Cached", "Cascade", "Fallback", "Stage"]
