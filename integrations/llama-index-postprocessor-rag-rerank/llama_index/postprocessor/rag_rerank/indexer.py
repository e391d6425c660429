"""Texts encoded at ingestion: a step of a LlamaIndex pipeline that returns its nodes unchanged."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar

from llama_index.core.bridge.pydantic import ConfigDict, Field, PlainSerializer
from llama_index.core.schema import BaseNode, MetadataMode, NodeWithScore, TransformComponent
from pydantic import WithJsonSchema
from rag_rerank import Reranker, Spec, build, to_config
from rag_rerank.hosts import CONFIG_SCHEMA, find_indexes, index_texts

__all__ = ["RagRerankIndexer", "node_text"]


class RagRerankIndexer(TransformComponent):
    """A step of an ``IngestionPipeline`` that encodes nodes for a ``late_interaction`` reranker, ahead of all queries.

    The nodes are returned as they are. Vectors are kept under ``node_id``: a node that comes again with another text
    replaces its old vectors. The postprocessor must read the same text, so give both the same ``metadata_mode``, or
    make the step by `RagRerank.indexer`.

    Args:
        reranker: A name, a config mapping, the path of a config file, or a ``rag_rerank.Reranker``, with a
            ``late_interaction`` reranker in it whose store is a folder. (Vectors in memory are seen by this very
            object only.)
        metadata_mode: Which metadata the reranker reads together with a node's text.

    Raises:
        ConfigError: ``reranker`` cannot be built, or nothing in it keeps vectors.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(
        arbitrary_types_allowed=True, extra="forbid", hide_input_in_errors=True
    )

    reranker: Annotated[Reranker, PlainSerializer(to_config), WithJsonSchema(CONFIG_SCHEMA)] = Field(
        frozen=True, description="What keeps the vectors; serialised as its config."
    )
    metadata_mode: MetadataMode = Field(
        default=MetadataMode.EMBED, description="Which metadata the reranker reads together with a node's text."
    )

    def __init__(self, reranker: Spec, metadata_mode: MetadataMode | str = MetadataMode.EMBED, **extra: Any) -> None:
        extra.pop("class_name", None)  # `to_dict` writes it
        values: dict[str, Any] = {"reranker": build(reranker), "metadata_mode": metadata_mode, **extra}
        find_indexes(values["reranker"])
        super().__init__(**values)

    @classmethod
    def class_name(cls) -> str:
        """Return the name of this class in serialised components."""
        return "RagRerankIndexer"

    def __call__(self, nodes: Sequence[BaseNode], **kwargs: Any) -> Sequence[BaseNode]:
        """Encode the nodes that are not in the store yet, and return all of them unchanged.

        Raises:
            ConfigError: The store is full or cannot be written.
            ModelLoadError: The model cannot be loaded.
        """
        texts = [node_text(NodeWithScore(node=node), self.metadata_mode) for node in nodes]
        index_texts(self.reranker, [node.node_id for node in nodes], texts)
        return nodes

    async def acall(self, nodes: Sequence[BaseNode], **kwargs: Any) -> Sequence[BaseNode]:
        """Do the same without blocking the event loop."""
        return await asyncio.to_thread(self.__call__, nodes, **kwargs)


def node_text(node: NodeWithScore, mode: MetadataMode) -> str:
    """Return text and metadata; an empty text for a node without text, whose metadata alone says too little."""
    return node.get_content(mode) if node.get_content(MetadataMode.NONE).strip() else ""
