"""Any rag_rerank reranker as a LlamaIndex node postprocessor."""

from llama_index.postprocessor.rag_rerank.base import RagRerank

__all__ = ["RagRerank"]
