"""What the reranker reads of a document, and the document's id."""

from __future__ import annotations

from numbers import Integral
from uuid import UUID

from langchain_core.documents import Document
from rag_rerank import Candidate
from rag_rerank.hosts import TextTemplate

CONTENT = "page_content"
"""The name of a document's text in templates."""


def find_id(document: Document) -> str | None:
    """Return the id of a document, or else the one that its store put into the metadata."""
    for id in (document.id, document.metadata.get("id"), document.metadata.get("_id")):
        if isinstance(id, (str, Integral, UUID)) and not isinstance(id, bool) and id != "":
            return str(id)
    return None


def advise(item: object) -> str:
    """Return how to make documents of something else."""
    if isinstance(item, str):
        return "wrap it: Document(page_content=text)"
    if isinstance(item, Candidate):
        return "a reranker itself takes candidates: rag_rerank.build(...).rerank(query, candidates)"
    if hasattr(item, "get_content"):
        return "LlamaIndex's nodes go to llama_index.postprocessor.rag_rerank.RagRerank"
    if hasattr(item, "columns"):
        return 'make documents of its rows: [Document(page_content=text) for text in table["text"]]'
    if isinstance(item, dict):
        return "make a document of each: Document(page_content=..., metadata=...)"
    return "a document is Document(page_content=text, metadata={...})"


def read_text(template: TextTemplate | None, document: Document) -> tuple[str, int | None]:
    """Return what the reranker reads, and where the document's own text begins in it, if it is all there."""
    content = document.page_content
    return (content, 0) if template is None else template.render(document.metadata, content)
