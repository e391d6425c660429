"""Servers for any reranker: in the shapes that the clients of rerank APIs speak, and as tools of an MCP server."""

from rag_rerank.serving.app import create_app
from rag_rerank.serving.mcp import create_mcp_app, create_mcp_server, serve_stdio
from rag_rerank.serving.settings import ServerSettings

__all__ = ["ServerSettings", "create_app", "create_mcp_app", "create_mcp_server", "serve_stdio"]
