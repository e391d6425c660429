"""A server for any reranker, which answers in the shapes that the clients of rerank APIs speak."""

from rag_rerank.serving.app import create_app
from rag_rerank.serving.settings import ServerSettings

__all__ = ["ServerSettings", "create_app"]
