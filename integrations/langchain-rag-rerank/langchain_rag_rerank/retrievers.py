"""A retriever that reranks what another retriever found, without the need for langchain-classic."""

from __future__ import annotations

from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForRetrieverRun, CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever, RetrieverLike
from pydantic import ConfigDict, Field
from rag_rerank import Spec

from langchain_rag_rerank.rerank import RagRerank


class RagRerankRetriever(BaseRetriever):
    """Asks a first-stage retriever, and returns what it found best first.

    Args:
        base_retriever: The first stage; should return more documents than are wanted in the end.
        reranker: A `RagRerank` with its options, or anything that makes one: a name, a config mapping, the path of
            a config file, or a ``rag_rerank.Reranker``.
        k: How many documents to return; ``None`` leaves it to the ``top_n`` of the `RagRerank`. May be given anew
            for one call: ``retriever.invoke(query, k=3)``. Other keyword arguments of a call go to the first stage.

    Raises:
        ConfigError: ``reranker`` names or describes nothing that can be built.
        ValidationError: Some other option is unknown or has a wrong value.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid", hide_input_in_errors=True)

    base_retriever: RetrieverLike
    reranker: RagRerank
    k: int | None = Field(default=None, ge=1)

    def __init__(self, base_retriever: RetrieverLike, reranker: Spec | RagRerank, **options: Any) -> None:
        made = reranker if isinstance(reranker, RagRerank) else RagRerank(reranker)
        super().__init__(**options | {"base_retriever": base_retriever, "reranker": made})

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun, k: int | None = None, **search: Any
    ) -> list[Document]:
        found = self.base_retriever.invoke(query, {"callbacks": run_manager.get_child()}, **search)
        return self._for(k).compress_documents(found, query, callbacks=run_manager.get_child())

    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun, k: int | None = None, **search: Any
    ) -> list[Document]:
        found = await self.base_retriever.ainvoke(query, {"callbacks": run_manager.get_child()}, **search)
        return await self._for(k).acompress_documents(found, query, callbacks=run_manager.get_child())

    def _for(self, k: int | None) -> RagRerank:
        """Return the reranker with the cutoff of one call; the retriever itself stays as it is."""
        wanted = self.k if k is None else k
        return self.reranker if wanted is None else self.reranker.model_copy(update={"top_n": wanted})
