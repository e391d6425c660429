"""What the reranker reads of a document."""

from haystack import Document
from rag_rerank import Candidate
from rag_rerank.hosts import TextTemplate, take_items

__all__ = ["CONTENT", "read_text", "take_documents"]

CONTENT = "content"
"""The name of a document's text in templates."""


def take_documents(documents: object) -> list[Document]:
    """Return the documents as a list of our own.

    Raises:
        InputError: Something is not a document.
    """
    return take_items(documents, Document, "documents", _advise)  # type: ignore[arg-type]


def read_text(template: TextTemplate | None, document: Document) -> tuple[str, int | None]:
    """Return what the reranker reads, and where the document's own text begins in it, if it is all there.

    A document without text (an image, a table) gives an empty text, which is not scored.
    """
    content = document.content or ""
    return (content, 0) if template is None else template.render(document.meta, content)


def _advise(item: object) -> str:
    """Return how to make documents of something else."""
    if isinstance(item, str):
        return "wrap it: Document(content=text)"
    if isinstance(item, Candidate):
        return "a reranker itself takes candidates: rag_rerank.build(...).rerank(query, candidates)"
    if hasattr(item, "page_content"):
        return "LangChain's documents go to langchain_rag_rerank.RagRerank"
    if hasattr(item, "get_content"):
        return "LlamaIndex's nodes go to llama_index.postprocessor.rag_rerank.RagRerank"
    if hasattr(item, "columns"):
        return 'make documents of its rows: [Document(content=text) for text in table["text"]]'
    if isinstance(item, dict):
        return "make a document of each: Document.from_dict(item)"
    return "a document is Document(content=text, meta={...})"
