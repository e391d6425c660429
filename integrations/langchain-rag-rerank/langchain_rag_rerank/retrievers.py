"""A retriever that reranks the results of another retriever; it does not need langchain-classic."""

from __future__ import annotations

from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForRetrieverRun, CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever, RetrieverLike
from pydantic import ConfigDict, Field
from rag_rerank import Spec

from langchain_rag_rerank.rerank import RagRerank


class RagRerankRetriever(BaseRetriever):
    """A retriever that calls a first-stage retriever, and returns its documents best first.

    Args:
        base_retriever: The first stage; should return more documents than are needed in the end.
        reranker: A `RagRerank` with its options, or what its constructor takes: a name, a config mapping, the path of
            a config file, or a ``rag_rerank.Reranker``.
        k: How many documents to return; ``None`` for the ``top_n`` of the `RagRerank`. Can be set for a single call:
            ``retriever.invoke(query, k=3)``. Other keyword arguments of a call go to the first stage.

    Raises:
        ConfigError: ``reranker`` cannot be built.
        ValidationError: Another option is unknown or has a wrong value.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid", hide_input_in_errors=True)

    base_retriever: RetrieverLike
    reranker: RagRerank
    k: int | None = Field(default=None, ge=1)

    def __init__(self, base_retriever: RetrieverLike, reranker: Spec | RagRerank, **options: Any) -> None:
        if not isinstance(reranker, RagRerank):
            reranker = RagRerank(reranker)
        super().__init__(**options | {"base_retriever": base_retriever, "reranker": reranker})

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun, k: int | None = None, **search: Any
    ) -> list[Document]:
        documents = self.base_retriever.invoke(query, {"callbacks": run_manager.get_child()}, **search)
        return self._for(k).compress_documents(documents, query, callbacks=run_manager.get_child())

    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun, k: int | None = None, **search: Any
    ) -> list[Document]:
        documents = await self.base_retriever.ainvoke(query, {"callbacks": run_manager.get_child()}, **search)
        return await self._for(k).acompress_documents(documents, query, callbacks=run_manager.get_child())

    def _for(self, k: int | None) -> RagRerank:
        """Return the reranker with the cutoff of one call; the retriever itself is not changed."""
        top_n = self.k if k is None else k
        return self.reranker if top_n is None else self.reranker.model_copy(update={"top_n": top_n})
