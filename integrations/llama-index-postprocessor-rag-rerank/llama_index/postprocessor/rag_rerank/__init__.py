"""Any rag_rerank reranker as a LlamaIndex node postprocessor."""

from llama_index.postprocessor.rag_rerank.base import RagRerank
from llama_index.postprocessor.rag_rerank.indexer import RagRerankIndexer

__all__ = ["RagRerank", "RagRerankIndexer"]
