"""Any rag_rerank reranker as a LangChain document compressor: documents in, copies of them best first."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, TypedDict

from langchain_core.callbacks import Callbacks
from langchain_core.documents import BaseDocumentCompressor, Document
from langchain_core.runnables import Runnable, RunnableLambda
from pydantic import ConfigDict, Field, InstanceOf, PlainSerializer
from rag_rerank import Candidate, ConfigError, Context, Packing, Piece, Ranking, Reranker, Spec, build, to_config

logger = logging.getLogger(__name__)


class RerankInput(TypedDict):
    """The input of ``RagRerank.as_runnable()``."""

    documents: Sequence[Document]
    query: str


class RagRerank(BaseDocumentCompressor):
    """A document compressor that orders documents by their relevance to the query.

    It returns copies of the documents, of the same class and with the same id. Their metadata (a shallow copy) has
    ``relevance_score`` and, because a score means nothing without it, ``relevance_score_scale``. A document without a
    score (blank, or stopped in an early stage of a cascade) comes after all others, with the score ``None``.

    Args:
        reranker: A name (``"embedded"``, ``"cohere:rerank-v3.5"``), a config mapping, the path of a config file, or
            a ``rag_rerank.Reranker``.
        top_n: How many documents to return; ``None`` for all. With ``context``: how many it chooses from.
        context: Which documents go to the LLM: a ``rag_rerank.Packing``, or a mapping of its options
            (``{"max_tokens": 3000, "tokenizer": "o200k_base", "duplicates": 0.8}``). Merged neighbours become a copy
            of the best one, with the ids of all in the metadata under ``merged_ids``. A trimmed document has the first
            and last character that are left under ``trimmed``.
        score_key: Metadata key of the score; with ``_scale`` behind it, that of the scale. ``None`` writes neither.
        on_context: Called with the ``rag_rerank.Context`` of each call, which has the documents that were left out,
            with reasons. Not serialised.
        on_ranking: Called with the ``rag_rerank.Ranking`` of each call, which has the trace, usage, coverage and
            degradations. A hit's id is the document's position in the input. Not serialised.

    Raises:
        ConfigError: ``reranker`` cannot be built, or an option of ``context`` is wrong.
        ValidationError: Another option is unknown or has a wrong value.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid", hide_input_in_errors=True)

    reranker: Annotated[Reranker, PlainSerializer(to_config)] = Field(frozen=True)
    top_n: int | None = Field(default=None, ge=1)
    context: Annotated[InstanceOf[Packing], PlainSerializer(Packing.to_dict)] | None = None
    score_key: str | None = Field(default="relevance_score", min_length=1)
    on_context: Callable[[Context], None] | None = Field(default=None, exclude=True, repr=False)
    on_ranking: Callable[[Ranking], None] | None = Field(default=None, exclude=True, repr=False)

    def __init__(self, reranker: Spec, **options: Any) -> None:
        # built before pydantic validates, so that a wrong config is a ConfigError, and no error quotes an API key
        if isinstance(options.get("context"), Mapping):
            options["context"] = Packing.from_dict(options["context"], path="context")
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
        """Return the same as a step of a chain: ``{"documents": retriever, "query": ...} | rerank.as_runnable()``."""
        return RunnableLambda(self._rerank, afunc=self._arerank, name="rag_rerank")

    def _rerank(self, request: RerankInput) -> list[Document]:
        documents = request["documents"]
        ranking = self.reranker.rerank(request["query"], _candidates(documents), top_k=self.top_n)
        return self._results(documents, ranking, None if self.context is None else _pack(self.context, ranking))

    async def _arerank(self, request: RerankInput) -> list[Document]:
        documents = request["documents"]
        ranking = await self.reranker.arerank(request["query"], _candidates(documents), top_k=self.top_n)
        context = None if self.context is None else await asyncio.to_thread(_pack, self.context, ranking)
        return self._results(documents, ranking, context)

    def _results(self, documents: Sequence[Document], ranking: Ranking, context: Context | None) -> list[Document]:
        """Return the resulting documents; log and pass to the hooks what documents cannot carry."""
        for reason in ranking.degraded:
            logger.warning("degraded ranking: %s", reason)
        if self.on_ranking is not None:
            self.on_ranking(ranking)
        if context is None:
            return [self._document(documents, Piece(text=hit.text, hits=(hit,)), ranking) for hit in ranking]
        for note in context.notes:
            logger.warning("context: %s", note)
        if self.on_context is not None:
            self.on_context(context)
        return [self._document(documents, piece, ranking) for piece in context.pieces]

    def _document(self, documents: Sequence[Document], piece: Piece, ranking: Ranking) -> Document:
        best = documents[int(piece.best.id)]
        extra: dict[str, Any] = {}
        if self.score_key is not None:
            extra = {self.score_key: piece.best.score, f"{self.score_key}_scale": ranking.scale}
        if len(piece.hits) > 1:
            extra["merged_ids"] = [documents[int(hit.id)].id for hit in piece.hits]
        if piece.trimmed is not None:
            extra["trimmed"] = list(piece.trimmed)
        return best.model_copy(update={"page_content": piece.text, "metadata": {**best.metadata, **extra}})


def _pack(packing: Packing, ranking: Ranking) -> Context:
    try:
        return packing.pack(ranking)
    except ConfigError as error:
        raise error.under("context") from error.__cause__


def _candidates(documents: Sequence[Document]) -> list[Candidate]:
    """Give each document its position as id, because ids may be absent or not unique."""
    return [
        Candidate(str(position), document.page_content, metadata=document.metadata)
        for position, document in enumerate(documents)
    ]
