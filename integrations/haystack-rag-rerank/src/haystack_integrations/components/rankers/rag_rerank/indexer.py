"""Texts encoded at ingestion: a component of an indexing pipeline that returns its documents unchanged."""

import asyncio
from collections.abc import Sequence
from typing import Any

from haystack import Document, component, default_from_dict, default_to_dict
from rag_rerank import Spec, to_config
from rag_rerank.hosts import find_indexes, index_texts, parse_text_option

from haystack_integrations.components.rankers.rag_rerank.documents import CONTENT, read_text, take_documents
from haystack_integrations.components.rankers.rag_rerank.specs import build_reranker, prebuild

__all__ = ["RagRerankIndexer"]


@component
class RagRerankIndexer:
    """A component of an indexing pipeline that encodes documents ahead, for a reranker that keeps vectors.

    The documents are returned as they are. Vectors are kept under ``Document.id``: a document that comes again with
    another text and the same id replaces its old vectors. The ranker must read the same text, so give both the same
    ``text``, or make this by `RagRerankRanker.indexer`.

    Args:
        reranker: A name, a config mapping, the path of a config file, or a ``rag_rerank.Reranker``, with a
            ``late_interaction`` or ``sparse`` reranker in it whose store is a folder. (Vectors in memory are seen by
            this very object only.)
        text: What the reranker reads of a document; see `RagRerankRanker`.

    Raises:
        ConfigError: ``reranker`` cannot be built, nothing in it keeps vectors, or ``text`` is wrong.
    """

    def __init__(self, reranker: Spec, *, text: str | Sequence[str] | None = None) -> None:
        self._template = parse_text_option(text, CONTENT)
        self.text = text if text is None or isinstance(text, str) else list(text)
        self.reranker = build_reranker(reranker)
        find_indexes(self.reranker)

    def to_dict(self) -> dict[str, Any]:
        """Return the config of the reranker and the option ``text``, for ``from_dict``; never a key.

        Raises:
            ConfigError: No config can express the reranker.
        """
        return default_to_dict(self, reranker=to_config(self.reranker), text=self.text)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "RagRerankIndexer":
        """Return the component of a dictionary of `to_dict`.

        Raises:
            ConfigError: The reranker cannot be built, or an option is wrong.
            DeserializationError: It is of another class.
        """
        return default_from_dict(cls, prebuild(data))

    @component.output_types(documents=list[Document])
    def run(self, documents: list[Document]) -> dict[str, list[Document]]:
        """Encode the documents that are not in the store yet.

        Args:
            documents: The documents.

        Returns:
            ``documents``: the same documents, unchanged.

        Raises:
            ConfigError: The store is full or cannot be written.
            InputError: Something is not a document.
            ModelLoadError: The model cannot be loaded.
        """
        items = take_documents(documents)
        texts = [read_text(self._template, document)[0] for document in items]
        index_texts(self.reranker, [document.id for document in items], texts)
        return {"documents": items}

    @component.output_types(documents=list[Document])
    async def run_async(self, documents: list[Document]) -> dict[str, list[Document]]:
        """Do what `run` does without blocking the event loop.

        Args:
            documents: The documents.

        Returns:
            As `run`.
        """
        return await asyncio.to_thread(self.run, documents)
