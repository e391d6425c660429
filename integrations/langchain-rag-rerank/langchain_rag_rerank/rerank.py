"""Any rag_rerank reranker as a LangChain document compressor: documents in, copies of them best first."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Any, ClassVar, cast

from langchain_core.callbacks import Callbacks
from langchain_core.documents import BaseDocumentCompressor, Document
from langchain_core.runnables import Runnable, RunnableLambda
from pydantic import ConfigDict, Field, InstanceOf, PlainSerializer, WithJsonSchema
from pydantic.json_schema import SkipJsonSchema
from rag_rerank import (
    Candidate,
    Context,
    Hit,
    InputError,
    Packing,
    Piece,
    Ranking,
    Reranker,
    Spec,
    build,
    tagged,
    to_config,
)
from rag_rerank.hosts import (
    CONFIG_SCHEMA,
    PACKING_SCHEMA,
    HostOptions,
    acall_hooks,
    call_hooks,
    check_instruction_option,
    check_sync_hooks,
    describe_changes,
    log_remarks,
    make_ids,
    make_signature,
    pack_hits,
    parse_text_option,
    resolve_options,
    tag_ids,
    take_items,
    with_text,
)
from typing_extensions import TypedDict as SchemaTypedDict
from typing_extensions import Unpack

from langchain_rag_rerank.documents import CONTENT, advise, find_id, read_text
from langchain_rag_rerank.indexer import RagRerankIndexer

logger: logging.Logger = logging.getLogger(__name__)

_HOST = {"rag_rerank.host": "langchain"}
"""The tag of each call: records show where it came from."""


class RerankInput(SchemaTypedDict):
    """The input of ``RagRerank.as_runnable()``."""

    documents: Sequence[Document]
    query: str


class InstructedInput(RerankInput, total=False):
    """The same where the reranker follows instructions: one here replaces that of the `RagRerank` for one call."""

    instruction: str | None


class RerankOptions(HostOptions, total=False):
    """The keyword arguments of `RagRerank`, which has the meaning of each."""

    text: str | Sequence[str] | None
    vector_key: str | None
    score_key: str | None


class RagRerank(BaseDocumentCompressor):
    r"""A document compressor that orders documents by their relevance to the query.

    It returns copies of the documents, of the same class and with the same id. Their metadata (a shallow copy) has
    ``relevance_score`` and, because a score means nothing without it, ``relevance_score_scale``. A document without a
    score (blank, or stopped in an early stage of a cascade) comes after all others, with the score ``None``.

    Args:
        reranker: A name (``"embedded"``, ``"cohere:rerank-v3.5"``), a config mapping, the path of a config file, or
            a ``rag_rerank.Reranker``.
        top_k: How many documents to return; ``None`` for all. With ``context``: how many it chooses from. ``top_n``
            and ``k`` are other names for it.
        instruction: What relevance means here, in words, for a reranker that follows instructions; ``None`` for the one
            of its config. A call can have its own: ``retriever.invoke(query, instruction=...)``, or
            ``{"documents": ..., "query": ..., "instruction": ...}`` as the input of `as_runnable`.
        context: Which documents go to the LLM: a ``rag_rerank.Packing``, or a mapping of its options
            (``{"max_tokens": 3000, "tokenizer": "o200k_base", "duplicates": 0.8}``). What is counted and trimmed is
            ``page_content``. Merged neighbours become a copy of the best one, with the ids of all in the metadata under
            ``merged_ids``. A trimmed document has the first and last character that are left under ``trimmed``; if
            something between them is left out (``"trim": "relevant"``), ``trimmed_parts`` has each part that is left.
        text: What the reranker reads of a document, if not ``page_content`` alone: a template
            (``"{title}\n{page_content}"``), or metadata keys to read before it (``["title", "section"]``). A key that
            a document lacks is left out, with the text around it in its line. What is returned does not change.
        vector_key: Metadata key of the document's own embedding, for a ``HostEmbeddingReranker``: it then uses the
            vector that the vector store returned. ``None`` reads none.
        score_key: Metadata key of the score; with ``_scale`` behind it, that of the scale. ``None`` writes neither, so
            that equal documents stay equal whatever the query.
        on_context: Called with the ``rag_rerank.Context`` of each call, which has the documents that were left out,
            with reasons. A coroutine function is awaited, in async calls. Not serialised.
        on_ranking: Called with the ``rag_rerank.Ranking`` of each call, which has the trace, usage, coverage and
            degradations. A hit's id is the document's own (``Document.id``, or else ``"id"`` or ``"_id"`` in the
            metadata) where no other document of the call has it, else its position. Not serialised.

    Raises:
        ConfigError: ``reranker`` cannot be built, an option is unknown or given twice, ``top_k``, ``text`` or an option
            of ``context`` is wrong, or there is an instruction and nothing in the reranker takes one.
        ValidationError: Another option has a wrong value.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(
        arbitrary_types_allowed=True, extra="forbid", hide_input_in_errors=True
    )

    reranker: Annotated[Reranker, PlainSerializer(to_config), WithJsonSchema(CONFIG_SCHEMA)] = Field(frozen=True)
    top_k: int | None = Field(default=None, ge=1)
    instruction: str | None = None
    context: Annotated[InstanceOf[Packing], PlainSerializer(Packing.to_dict), WithJsonSchema(PACKING_SCHEMA)] | None = (
        None
    )
    text: str | tuple[str, ...] | None = None
    vector_key: str | None = Field(default=None, min_length=1)
    score_key: str | None = Field(default="relevance_score", min_length=1)
    on_context: SkipJsonSchema[Callable[[Context], object] | None] = Field(default=None, exclude=True, repr=False)
    on_ranking: SkipJsonSchema[Callable[[Ranking], object] | None] = Field(default=None, exclude=True, repr=False)

    def __init__(self, reranker: Spec, **options: Unpack[RerankOptions]) -> None:
        # built before pydantic validates, so that a wrong config is a ConfigError, and no error quotes an API key
        values = resolve_options(options, RerankOptions, type(self))
        parse_text_option(values.get("text"), CONTENT)
        value = build(reranker)
        check_instruction_option(value, values.get("instruction"))
        super().__init__(**values | {"reranker": value})

    def compress_documents(
        self, documents: Iterable[Document], query: str, callbacks: Callbacks | None = None
    ) -> list[Document]:
        """Order documents by relevance, best first, in a child run called ``rag_rerank``.

        Raises:
            InputError: The query is blank, or something is not a document.
            RerankError: The reranker failed.
        """
        return self.as_runnable().invoke(_make_request(documents, query), {"callbacks": callbacks})

    async def acompress_documents(
        self, documents: Iterable[Document], query: str, callbacks: Callbacks | None = None
    ) -> list[Document]:
        """Do what `compress_documents` does without blocking the event loop."""
        return await self.as_runnable().ainvoke(_make_request(documents, query), {"callbacks": callbacks})

    def indexer(self) -> RagRerankIndexer:
        """Return a document transformer that encodes documents ahead, as this compressor reads them.

        Raises:
            ConfigError: Nothing in the reranker keeps vectors; see the type ``late_interaction``.
        """
        return RagRerankIndexer(self.reranker, text=self.text)

    def as_runnable(self) -> Runnable[InstructedInput, list[Document]]:
        """Return the same as a step of a chain: ``{"documents": retriever, "query": ...} | rerank.as_runnable()``."""
        kind = _InstructedStep if self.reranker.takes_instruction else _RerankStep
        return kind(self._rerank, afunc=self._arerank, name="rag_rerank")

    def _rerank(self, request: InstructedInput) -> list[Document]:
        check_sync_hooks(on_ranking=self.on_ranking, on_context=self.on_context)
        call = _Call(self, request)
        with tagged(**call.tags):
            ranking = self.reranker.rerank(call.query, call.candidates, top_k=self.top_k, instruction=call.instruction)
            context = call.pack(ranking)
        log_remarks(logger, ranking, context)
        call_hooks(("on_ranking", self.on_ranking, ranking), ("on_context", self.on_context, context))
        return call.results(ranking, context)

    async def _arerank(self, request: InstructedInput) -> list[Document]:
        call = _Call(self, request)
        with tagged(**call.tags):
            ranking = await self.reranker.arerank(
                call.query, call.candidates, top_k=self.top_k, instruction=call.instruction
            )
            context = None if self.context is None else await asyncio.to_thread(call.pack, ranking)
        log_remarks(logger, ranking, context)
        await acall_hooks(("on_ranking", self.on_ranking, ranking), ("on_context", self.on_context, context))
        return call.results(ranking, context)


DEFAULTS: dict[str, Any] = {name: field.default for name, field in RagRerank.model_fields.items()}
RagRerank.__signature__ = make_signature(RagRerank.__init__, RerankOptions, DEFAULTS)


class _RerankStep(RunnableLambda[InstructedInput, list[Document]]):
    """A step that knows its types: LangChain does not resolve annotations that are strings."""

    @property
    def InputType(self) -> type[InstructedInput]:
        return cast(type[InstructedInput], RerankInput)

    @property
    def OutputType(self) -> type[list[Document]]:
        return list[Document]


class _InstructedStep(_RerankStep):
    """The step of a reranker that follows instructions: graphs and tools show that it takes one."""

    @property
    def InputType(self) -> type[InstructedInput]:
        return InstructedInput


class _Call:
    """The documents of one call as they are when it starts, as candidates, and the way back from hits to documents."""

    def __init__(self, rerank: RagRerank, request: InstructedInput) -> None:
        documents, self.query, own_instruction = _read_request(request)
        self.instruction = rerank.instruction if own_instruction is None else own_instruction
        self._packing = rerank.context
        self._score_key = rerank.score_key
        template = parse_text_option(rerank.text, CONTENT)
        own_ids = [find_id(document) for document in documents]
        ids = make_ids(own_ids)
        self.tags = {**_HOST, **tag_ids(ids, own_ids)}
        self._documents = {}
        self._starts = {}
        self.candidates = []
        for id, document in zip(ids, documents, strict=True):
            document = document.model_copy(update={"metadata": dict(document.metadata)})
            text, start = read_text(template, document)
            self._documents[id], self._starts[id] = document, start
            vector = None if rerank.vector_key is None else document.metadata.get(rerank.vector_key)
            self.candidates.append(Candidate(id, text, metadata=document.metadata, vector=vector))

    def pack(self, ranking: Ranking) -> Context | None:
        """Pack what the LLM will read, which is each document's content, whatever the reranker read."""
        if self._packing is None:
            return None
        hits = [with_text(hit, self._documents[hit.id].page_content, self._starts[hit.id]) for hit in ranking]
        return pack_hits(self._packing, ranking, hits)

    def results(self, ranking: Ranking, context: Context | None) -> list[Document]:
        """Return the resulting documents."""
        if context is None:
            return [self._document(hit, ranking, {}) for hit in ranking]
        return [self._document(piece.best, ranking, self._changes(piece)) for piece in context.pieces]

    def _changes(self, piece: Piece) -> dict[str, Any]:
        """Return what is new in the document of a piece: its text and the metadata that say why."""
        marks = describe_changes(piece, [find_id(self._documents[hit.id]) for hit in piece.hits])
        return {CONTENT: piece.text, "metadata": marks}

    def _document(self, hit: Hit, ranking: Ranking, changes: dict[str, Any]) -> Document:
        document = self._documents[hit.id]
        scores: dict[str, Any] = {}
        if self._score_key is not None:
            scores = {self._score_key: hit.score, f"{self._score_key}_scale": ranking.scale}
        metadata = {**document.metadata, **scores, **changes.get("metadata", {})}
        return document.model_copy(update={**changes, "metadata": metadata})


def _make_request(documents: Iterable[Document], query: str) -> InstructedInput:
    return {"documents": take_items(documents, Document, "documents", advise), "query": query}


def _read_request(request: object) -> tuple[list[Document], str, str | None]:
    if not isinstance(request, dict) or not {"documents", "query"} <= request.keys():
        keys = f" with the keys {sorted(map(str, request))}" if isinstance(request, dict) else ""
        raise InputError(
            f'the step takes {{"documents": [...], "query": "..."}}, got a {type(request).__name__}{keys}; in a chain: '
            '{"documents": retriever, "query": RunnablePassthrough()} | rerank.as_runnable()'
        )
    documents = take_items(request["documents"], Document, "documents", advise)
    return documents, request["query"], request.get("instruction")
