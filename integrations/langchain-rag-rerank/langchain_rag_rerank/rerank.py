"""Any rag_rerank reranker as a LangChain document compressor: documents in, copies of them best first."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Annotated, Any, TypedDict

from langchain_core.callbacks import Callbacks
from langchain_core.documents import BaseDocumentCompressor, Document
from langchain_core.runnables import Runnable, RunnableLambda
from pydantic import ConfigDict, Field, PlainSerializer
from rag_rerank import Candidate, Ranking, Reranker, Spec, build, to_config

logger = logging.getLogger(__name__)


class RerankInput(TypedDict):
    """What ``RagRerank.as_runnable()`` takes."""

    documents: Sequence[Document]
    query: str


class RagRerank(BaseDocumentCompressor):
    """Orders documents by their relevance to the query.

    The documents that come out are copies of those that went in, of the same class and with the same id. Their
    metadata (a shallow copy) says what the reranker found: ``relevance_score`` and, because a score means nothing
    without it, ``relevance_score_scale``. A document that was not scored (blank, or stopped in an early stage of a
    cascade) stands behind all others with the score ``None``; one that a cascade's ``border_only`` stage found surely
    in stands before them, also with ``None``.

    Args:
        reranker: A name (``"embedded"``, ``"cohere:rerank-v3.5"``), a config mapping, the path of a config file, or
            a ``rag_rerank.Reranker``.
        top_n: How many documents to return; ``None`` for all.
        score_key: Metadata key of the score, and with ``_scale`` behind it of the scale; ``None`` writes neither.
        on_ranking: Called with the ``rag_rerank.Ranking`` of each call, which has the trace, usage, coverage and
            degradations. A hit's id is the document's position among the incoming documents. Not serialised.

    Raises:
        ConfigError: ``reranker`` names or describes nothing that can be built.
        ValidationError: Some other option is unknown or has a wrong value.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid", hide_input_in_errors=True)

    reranker: Annotated[Reranker, PlainSerializer(to_config)] = Field(frozen=True)
    top_n: int | None = Field(default=None, ge=1)
    score_key: str | None = Field(default="relevance_score", min_length=1)
    on_ranking: Callable[[Ranking], None] | None = Field(default=None, exclude=True, repr=False)

    def __init__(self, reranker: Spec, **options: Any) -> None:
        # built before pydantic looks, so that a wrong config is a ConfigError and no error quotes a key in it
        super().__init__(**options | {"reranker": build(reranker)})

    def compress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> list[Document]:
        """Order documents by relevance, best first, in a child run called ``rag_rerank``.

        Raises:
            RerankError: The query is blank, or the reranker failed.
        """
        return self.as_runnable().invoke({"documents": documents, "query": query}, {"callbacks": callbacks})

    async def acompress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> list[Document]:
        """Do what `compress_documents` does without blocking the event loop."""
        return await self.as_runnable().ainvoke({"documents": documents, "query": query}, {"callbacks": callbacks})

    def as_runnable(self) -> Runnable[RerankInput, list[Document]]:
        """Return the same as a link of a chain: ``{"documents": retriever, "query": ...} | rerank.as_runnable()``."""
        return RunnableLambda(self._rerank, afunc=self._arerank, name="rag_rerank")

    def _rerank(self, request: RerankInput) -> list[Document]:
        documents = request["documents"]
        ranking = self.reranker.rerank(request["query"], _candidates(documents), top_k=self.top_n)
        return self._ranked(documents, ranking)

    async def _arerank(self, request: RerankInput) -> list[Document]:
        documents = request["documents"]
        ranking = await self.reranker.arerank(request["query"], _candidates(documents), top_k=self.top_n)
        return self._ranked(documents, ranking)

    def _ranked(self, documents: Sequence[Document], ranking: Ranking) -> list[Document]:
        ranked = []
        for hit in ranking:
            document, metadata = documents[int(hit.id)], {}
            if self.score_key is not None:
                metadata = {self.score_key: hit.score, f"{self.score_key}_scale": ranking.scale}
            ranked.append(document.model_copy(update={"metadata": {**document.metadata, **metadata}}))
        for reason in ranking.degraded:  # documents have no place to say so
            logger.warning("degraded ranking: %s", reason)
        if self.on_ranking is not None:
            self.on_ranking(ranking)
        return ranked


def _candidates(documents: Sequence[Document]) -> list[Candidate]:
    """Give each document its position as id, because ids may be absent or come twice."""
    return [
        Candidate(str(position), document.page_content, metadata=document.metadata)
        for position, document in enumerate(documents)
    ]
