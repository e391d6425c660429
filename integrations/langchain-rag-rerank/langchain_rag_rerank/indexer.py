"""Texts encoded at ingestion: a LangChain document transformer that returns its documents unchanged."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from langchain_core.documents import BaseDocumentTransformer, Document
from rag_rerank import Reranker, Spec, build
from rag_rerank.hosts import find_indexes, index_texts, parse_text_option, take_items

from langchain_rag_rerank.documents import CONTENT, advise, find_id, read_text


class RagRerankIndexer(BaseDocumentTransformer):
    """A document transformer that encodes documents for a ``late_interaction`` reranker, ahead of all queries.

    The documents are returned as they are. Vectors are kept under the document's own id (``Document.id``, or else
    ``"id"`` or ``"_id"`` in the metadata): a document that comes again with another text replaces its old vectors. The
    compressor must read the same text, so give both the same ``text``, or make this by `RagRerank.indexer`.

    Args:
        reranker: A name, a config mapping, the path of a config file, or a ``rag_rerank.Reranker``, with a
            ``late_interaction`` reranker in it whose store is a folder. (Vectors in memory are seen by this very
            object only.)
        text: What the reranker reads of a document; see `RagRerank`.

    Raises:
        ConfigError: ``reranker`` cannot be built, nothing in it keeps vectors, or ``text`` is wrong.
    """

    def __init__(self, reranker: Spec, *, text: str | Sequence[str] | None = None) -> None:
        self.reranker: Reranker = build(reranker)
        self.text = text
        find_indexes(self.reranker)
        self._template = parse_text_option(text, CONTENT)

    def transform_documents(self, documents: Sequence[Document], **kwargs: Any) -> Sequence[Document]:
        """Encode the documents that are not in the store yet, and return all of them unchanged.

        Raises:
            ConfigError: The store is full or cannot be written.
            InputError: Something is not a document.
            ModelLoadError: The model cannot be loaded.
        """
        items = take_items(documents, Document, "documents", advise)
        texts = [read_text(self._template, document)[0] for document in items]
        index_texts(self.reranker, [find_id(document) for document in items], texts)
        return documents

    async def atransform_documents(self, documents: Sequence[Document], **kwargs: Any) -> Sequence[Document]:
        """Do the same without blocking the event loop."""
        return await asyncio.to_thread(self.transform_documents, documents, **kwargs)
