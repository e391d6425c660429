"""Any rag_rerank reranker as a Haystack component: a ranker, and an indexer for rerankers that keep vectors."""

from haystack_integrations.components.rankers.rag_rerank.indexer import RagRerankIndexer
from haystack_integrations.components.rankers.rag_rerank.ranker import RagRerankRanker

__all__ = ["RagRerankIndexer", "RagRerankRanker"]
