"""A retriever that reranks the results of another retriever; it does not need langchain-classic."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from langchain_core.callbacks import AsyncCallbackManagerForRetrieverRun, CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever, RetrieverLike
from pydantic import ConfigDict, Field, WithJsonSchema
from rag_rerank import ConfigError, InputError, Spec
from rag_rerank.hosts import make_signature, resolve_options, resolve_top_k
from typing_extensions import Unpack

from langchain_rag_rerank.rerank import DEFAULTS, RagRerank, RerankOptions

_RUNNABLE_SCHEMA = {"type": "object", "description": "A retriever, or any runnable from a query to documents."}


class RetrieverOptions(RerankOptions, total=False):
    """The keyword arguments of `RagRerankRetriever`: those of `RagRerank`, and those of every retriever."""

    name: str | None
    tags: list[str] | None
    metadata: dict[str, Any] | None


class RagRerankRetriever(BaseRetriever):
    """A retriever that calls a first-stage retriever, and returns its documents best first.

    Args:
        base_retriever: The first stage; should return more documents than are needed in the end.
        reranker: A `RagRerank` with its options, or what its constructor takes: a name, a config mapping, the path of
            a config file, or a ``rag_rerank.Reranker``.
        top_k: How many documents to return; ``None`` for the ``top_k`` of the `RagRerank`. ``top_n`` and ``k`` are
            other names for it. Can be set for a single call: ``retriever.invoke(query, top_k=3)``. So can
            ``instruction``. Other keyword arguments of a call go to the first stage.
        options: All other options of `RagRerank` (``instruction``, ``context``, ``text``, ``vector_key``,
            ``score_key``, ``on_ranking``, ``on_context``), which go before those of a `RagRerank` in ``reranker``; and
            ``name``, ``tags`` and ``metadata`` as in every retriever.

    Raises:
        ConfigError: As `RagRerank`.
        ValidationError: As `RagRerank`.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(
        arbitrary_types_allowed=True, extra="forbid", hide_input_in_errors=True
    )

    base_retriever: Annotated[RetrieverLike, WithJsonSchema(_RUNNABLE_SCHEMA)]
    reranker: RagRerank
    top_k: int | None = Field(default=None, ge=1)

    def __init__(
        self, base_retriever: RetrieverLike, reranker: Spec | RagRerank, **options: Unpack[RetrieverOptions]
    ) -> None:
        values = resolve_options(options, RetrieverOptions, type(self))
        own = {name: values.pop(name) for name in type(self).model_fields if name in values}
        if not isinstance(reranker, RagRerank):
            reranker = RagRerank(reranker, **values)
        elif values:
            checked = RagRerank(reranker.reranker, **values)
            reranker = reranker.model_copy(update={name: getattr(checked, name) for name in values})
        super().__init__(**own | {"base_retriever": base_retriever, "reranker": reranker})

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun, **options: Any
    ) -> list[Document]:
        rerank = self._for_call(options)
        documents = self.base_retriever.invoke(query, {"callbacks": run_manager.get_child()}, **options)
        return rerank.compress_documents(documents, query, callbacks=run_manager.get_child())

    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun, **options: Any
    ) -> list[Document]:
        rerank = self._for_call(options)
        documents = await self.base_retriever.ainvoke(query, {"callbacks": run_manager.get_child()}, **options)
        return await rerank.acompress_documents(documents, query, callbacks=run_manager.get_child())

    def _for_call(self, options: dict[str, Any]) -> RagRerank:
        """Return the reranker with cutoff and instruction of one call, which are taken from its options."""
        cutoffs = {name: options.pop(name, None) for name in ("top_k", "top_n", "k")}
        try:
            top_k = resolve_top_k(cutoffs) or self.top_k
        except ConfigError as error:  # an argument of a call is no config
            raise InputError(str(error)) from None
        own = {"top_k": top_k, "instruction": options.pop("instruction", None)}
        return self.reranker.model_copy(update={name: value for name, value in own.items() if value is not None})


RagRerankRetriever.__signature__ = make_signature(RagRerankRetriever.__init__, RetrieverOptions, DEFAULTS)
