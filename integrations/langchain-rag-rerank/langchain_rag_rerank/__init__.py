"""Any rag_rerank reranker as a LangChain document compressor, runnable and retriever."""

from langchain_rag_rerank.indexer import RagRerankIndexer
from langchain_rag_rerank.rerank import RagRerank
from langchain_rag_rerank.retrievers import RagRerankRetriever

__all__ = ["RagRerank", "RagRerankIndexer", "RagRerankRetriever"]
