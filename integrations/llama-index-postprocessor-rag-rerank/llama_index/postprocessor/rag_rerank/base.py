"""Any rag_rerank reranker as a LlamaIndex node postprocessor: it returns the same nodes, best first."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Annotated, Any, ClassVar

from llama_index.core.bridge.pydantic import ConfigDict, Field, PlainSerializer
from llama_index.core.callbacks import CallbackManager, CBEventType, EventPayload
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.events.rerank import ReRankEndEvent, ReRankStartEvent
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import BaseNode, MetadataMode, NodeWithScore, QueryBundle
from llama_index.core.utils import get_tokenizer
from pydantic import InstanceOf, WithJsonSchema
from pydantic.json_schema import SkipJsonSchema
from rag_rerank import (
    Candidate,
    ConfigError,
    Context,
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
    finite_score,
    log_remarks,
    make_ids,
    make_signature,
    pack_hits,
    resolve_options,
    tag_ids,
    take_items,
    with_text,
)
from typing_extensions import Unpack

from llama_index.postprocessor.rag_rerank.indexer import RagRerankIndexer, node_text

dispatcher = get_dispatcher(__name__)
logger: logging.Logger = logging.getLogger(__name__)

_HOST = {"rag_rerank.host": "llama_index"}
"""The tag of each call: records show where it came from, and telemetry makes no second span for it."""


class RerankOptions(HostOptions, total=False):
    """The keyword arguments of `RagRerank`, which has the meaning of each."""

    metadata_mode: MetadataMode | str
    callback_manager: CallbackManager


class RagRerank(BaseNodePostprocessor):
    """A node postprocessor that orders nodes by their relevance to the query.

    It returns new ``NodeWithScore`` objects around the same nodes. Their score is on the scale of the ranking. A node
    without a score (no text of its own, or stopped in an early stage of a cascade) comes after all others, with the
    score ``None``, because its first-stage score would be on another scale. A node's ``embedding`` goes along, for a
    ``HostEmbeddingReranker``.

    Args:
        reranker: A name (``"embedded"``, ``"cohere:rerank-v3.5"``), a config mapping, the path of a config file, or
            a ``rag_rerank.Reranker``.
        top_k: How many nodes to return; ``None`` for all. With ``context``: how many it chooses from. ``top_n`` and
            ``k`` are other names for it.
        instruction: What relevance means here, in words, for a reranker that follows instructions; ``None`` for the one
            of its config. For another instruction, make another postprocessor of the same reranker:
            ``RagRerank(rerank.reranker, instruction=...)`` loads nothing again.
        context: Which nodes go to the LLM: a ``rag_rerank.Packing``, or a mapping of its options
            (``{"max_tokens": 3000, "tokenizer": "o200k_base", "duplicates": 0.8}``). Tokens are counted for what the
            LLM reads, text and metadata; with ``merge``, for the text alone. Without a ``tokenizer``, LlamaIndex's own
            counts (``llama_index.core.utils.get_tokenizer()``). ``source`` and ``position`` may name the
            node's own ``"ref_doc_id"`` and ``"start_char_idx"``, beside the metadata. A node whose text changes is
            returned as a copy of the best node, with the new text and no metadata for the LLM. The copy's metadata has
            the ids of merged neighbours under ``merged_ids``, or under ``trimmed`` the first and last character that
            are left of what the LLM would have read; if something between them is left out (``"trim": "relevant"``),
            ``trimmed_parts`` has each part that is left.
        metadata_mode: Which metadata the reranker reads together with a node's text.
        on_context: Called with the ``rag_rerank.Context`` of each call, which has the nodes that were left out, with
            reasons. A coroutine function is awaited, in async calls. Not serialised.
        on_ranking: Called with the ``rag_rerank.Ranking`` of each call, which has the scale, trace, usage, coverage
            and degradations. A hit's id is the node's ``node_id`` where it is the only node of the call with it, else
            its position. Not serialised.

    Raises:
        ConfigError: ``reranker`` cannot be built, an option is unknown or given twice, ``top_k`` or an option of
            ``context`` is wrong, or there is an instruction and nothing in the reranker takes one.
        ValidationError: Another option has a wrong value.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(
        arbitrary_types_allowed=True, extra="forbid", hide_input_in_errors=True
    )

    reranker: Annotated[Reranker, PlainSerializer(to_config), WithJsonSchema(CONFIG_SCHEMA)] = Field(
        frozen=True, description="What orders the nodes; serialised as its config."
    )
    top_k: int | None = Field(default=None, ge=1, description="How many nodes to return; None for all.")
    instruction: str | None = Field(
        default=None, description="What relevance means here, in words; None for the one of the reranker's config."
    )
    context: Annotated[InstanceOf[Packing], PlainSerializer(Packing.to_dict), WithJsonSchema(PACKING_SCHEMA)] | None = (
        Field(default=None, description="Which nodes go to the LLM, and within how many tokens.")
    )
    metadata_mode: MetadataMode = Field(
        default=MetadataMode.EMBED, description="Which metadata the reranker reads together with a node's text."
    )
    on_context: SkipJsonSchema[Callable[[Context], object] | None] = Field(
        default=None, exclude=True, repr=False, description="Called with the context of each call."
    )
    on_ranking: SkipJsonSchema[Callable[[Ranking], object] | None] = Field(
        default=None, exclude=True, repr=False, description="Called with the ranking of each call."
    )

    def __init__(self, reranker: Spec, **options: Unpack[RerankOptions]) -> None:
        # built before pydantic validates, so that a wrong config is a ConfigError, and no error quotes an API key
        own_options = {name: value for name, value in options.items() if name != "class_name"}  # `to_dict` writes it
        values = resolve_options(own_options, RerankOptions, type(self))
        value = build(reranker)
        check_instruction_option(value, values.get("instruction"))
        super().__init__(**values | {"reranker": value})

    @classmethod
    def class_name(cls) -> str:
        """Return the name of this class in serialised components."""
        return "RagRerank"

    def to_dict(self, **kwargs: Any) -> dict[str, Any]:
        """Return the config of the reranker and the options, for ``from_dict``.

        Raises:
            ConfigError: No config can express the reranker (it holds an injected client) or the context (a function).
        """
        to_config(self.reranker)  # raises its own error, which pydantic would wrap
        if self.context is not None:
            self.context.to_dict()
        return super().to_dict(**kwargs)

    def __getstate__(self) -> dict[str, Any]:
        state = super(RagRerank, self.model_copy()).__getstate__()  # it removes from its object what does not pickle
        if "reranker" not in state["__dict__"]:
            raise ConfigError(f"{self.reranker.label} holds a live object, which cannot be pickled", path="reranker")
        if "context" not in state["__dict__"]:
            raise ConfigError("it holds a live object, which cannot be pickled", path="context")
        return state

    def indexer(self) -> RagRerankIndexer:
        """Return a step for an ``IngestionPipeline`` that encodes nodes ahead, as this postprocessor reads them.

        Raises:
            ConfigError: Nothing in the reranker keeps vectors; see the type ``late_interaction``.
        """
        return RagRerankIndexer(self.reranker, self.metadata_mode)

    def postprocess_nodes(
        self,
        nodes: Iterable[NodeWithScore],
        query_bundle: QueryBundle | str | None = None,
        query_str: str | None = None,
    ) -> list[NodeWithScore]:
        """Order nodes by relevance, best first.

        Raises:
            ValueError: There is no query, or there are two.
            InputError: The query is blank, or something is not a `NodeWithScore`.
            RerankError: The reranker failed.
        """
        return super().postprocess_nodes(_take(nodes), _make_bundle(query_bundle), query_str)

    async def apostprocess_nodes(
        self,
        nodes: Iterable[NodeWithScore],
        query_bundle: QueryBundle | str | None = None,
        query_str: str | None = None,
    ) -> list[NodeWithScore]:
        """Do what `postprocess_nodes` does without blocking the event loop."""
        return await super().apostprocess_nodes(_take(nodes), _make_bundle(query_bundle), query_str)

    def _postprocess_nodes(
        self, nodes: Iterable[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        check_sync_hooks(on_ranking=self.on_ranking, on_context=self.on_context)
        call = _Call(self, nodes, query_bundle)
        if not call.nodes:
            return []
        with self._call_events(call) as finish:
            with tagged(**call.tags):
                ranking = self.reranker.rerank(
                    call.query.query_str, call.candidates, top_k=self.top_k, instruction=self.instruction
                )
                context = call.pack(ranking)
            out = finish(ranking, context)
        call_hooks(("on_ranking", self.on_ranking, ranking), ("on_context", self.on_context, context))
        return out

    @dispatcher.span
    async def _apostprocess_nodes(
        self, nodes: Iterable[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        call = _Call(self, nodes, query_bundle)
        if not call.nodes:
            return []
        with self._call_events(call) as finish:
            with tagged(**call.tags):
                ranking = await self.reranker.arerank(
                    call.query.query_str, call.candidates, top_k=self.top_k, instruction=self.instruction
                )
                context = None if self.context is None else await asyncio.to_thread(call.pack, ranking)
            out = finish(ranking, context)
        await acall_hooks(("on_ranking", self.on_ranking, ranking), ("on_context", self.on_context, context))
        return out

    @contextmanager
    def _call_events(self, call: _Call) -> Iterator[Callable[[Ranking, Context | None], list[NodeWithScore]]]:
        """Report the call to the host's events and callbacks.

        Yields a function that turns the ranking into nodes, and reports and logs the end of the call.
        """
        model, top_k = self.reranker.label, self.top_k or len(call.nodes)
        dispatcher.event(ReRankStartEvent(query=call.query, nodes=call.nodes, top_n=top_k, model_name=model))
        with self.callback_manager.event(
            CBEventType.RERANKING,
            payload={
                EventPayload.NODES: call.nodes,
                EventPayload.MODEL_NAME: model,
                EventPayload.QUERY_STR: call.query.query_str,
                EventPayload.TOP_K: top_k,
            },
        ) as event:

            def finish(ranking: Ranking, context: Context | None) -> list[NodeWithScore]:
                out = call.results(ranking, context)
                event.on_end(payload={EventPayload.NODES: out})
                facts: dict[str, Any] = {
                    "scale": ranking.scale,
                    "degraded": list(ranking.degraded),
                    "trace": ranking.trace.to_dict(),
                }
                if context is not None:
                    facts |= {"dropped": [drop.to_dict() for drop in context.dropped], "notes": list(context.notes)}
                dispatcher.event(ReRankEndEvent(nodes=out, tags=facts))
                log_remarks(logger, ranking, context)
                return out

            yield finish


RagRerank.__signature__ = make_signature(
    RagRerank.__init__, RerankOptions, {name: field.default for name, field in RagRerank.model_fields.items()}
)


class _Call:
    """The nodes of one call, as candidates, and the way back from hits to nodes."""

    def __init__(self, rerank: RagRerank, nodes: Iterable[NodeWithScore], query: QueryBundle | None) -> None:
        self.query = _required(query)
        self.nodes = _take(nodes)
        self._packing = rerank.context
        own_ids = [node.node_id for node in self.nodes]
        ids = make_ids(own_ids)
        self.tags = {**_HOST, **tag_ids(ids, own_ids)}
        self._by_id = dict(zip(ids, self.nodes, strict=True))
        self.candidates = [
            Candidate(
                id, node_text(node, rerank.metadata_mode), finite_score(node.score), node.metadata, node.node.embedding
            )
            for id, node in self._by_id.items()
        ]

    def pack(self, ranking: Ranking) -> Context | None:
        """Pack what the LLM will read.

        Nodes are compared by their texts, because metadata would make different nodes similar, or copies different.
        """
        packing = self._packing
        if packing is None:
            return None
        if packing.max_tokens is not None and packing.tokenizer is None:
            packing = replace(packing, tokenizer=get_tokenizer())
        hits, display_text = [], {}
        for hit in ranking:
            node = self._by_id[hit.id]
            text = node_text(node, MetadataMode.NONE)
            start = len(hit.text) - len(text) if hit.text.endswith(text) else None  # metadata come first
            hits.append(with_text(hit, text, start, _with_place(node.node)))
            display_text[hit.id] = text if packing.merge else node_text(node, MetadataMode.LLM)
        return pack_hits(packing, ranking, hits, display_text)

    def results(self, ranking: Ranking, context: Context | None) -> list[NodeWithScore]:
        """Return the resulting nodes."""
        if context is None:
            return [self._by_id[hit.id].model_copy(update={"score": hit.score}) for hit in ranking]
        return [self._node(piece) for piece in context.pieces]

    def _node(self, piece: Piece) -> NodeWithScore:
        """Return the best node of a piece; if the LLM would read another text than its, a copy with that text."""
        best = self._by_id[piece.best.id]
        node = best.node
        if piece.text != node.get_content(MetadataMode.LLM):
            extra = describe_changes(piece, [self._by_id[hit.id].node_id for hit in piece.hits])
            node = node.model_copy(update={"metadata": {**node.metadata, **extra}})
            node.set_content(piece.text)
            node.excluded_llm_metadata_keys = [*node.metadata]
            node.excluded_embed_metadata_keys = [*node.excluded_embed_metadata_keys, *extra]
        return best.model_copy(update={"node": node, "score": piece.best.score})


def _take(nodes: Iterable[NodeWithScore]) -> list[NodeWithScore]:
    return take_items(nodes, NodeWithScore, "nodes", _advise)


def _advise(item: object) -> str:
    """Return how to make nodes with a score of something else."""
    if isinstance(item, BaseNode):
        return "wrap each node: NodeWithScore(node=node)"
    if isinstance(item, str):
        return "wrap it: NodeWithScore(node=TextNode(text=text))"
    if isinstance(item, Candidate):
        return "a reranker itself takes candidates: rag_rerank.build(...).rerank(query, candidates)"
    if hasattr(item, "page_content"):
        return "LangChain's documents go to langchain_rag_rerank.RagRerank"
    if hasattr(item, "columns"):
        return 'make nodes of its rows: [NodeWithScore(node=TextNode(text=text)) for text in table["text"]]'
    return "a node is NodeWithScore(node=TextNode(text=text, metadata={...}), score=...)"


def _with_place(node: BaseNode) -> dict[str, Any]:
    """Return the metadata, with the place of the text in its document as the host's splitters set it."""
    place = {"ref_doc_id": node.ref_doc_id, "start_char_idx": getattr(node, "start_char_idx", None)}
    return {name: value for name, value in place.items() if value is not None} | node.metadata


def _make_bundle(query: QueryBundle | str | None) -> QueryBundle | None:
    """Return a query as the host's own class; the second argument is often a text."""
    return QueryBundle(query) if isinstance(query, str) else query


def _required(query: QueryBundle | None) -> QueryBundle:
    if query is None:
        raise ValueError("Missing query bundle in extra info.")
    if not isinstance(query, QueryBundle):
        raise InputError(f"the query must be a text or a QueryBundle, got a {type(query).__name__}")
    return query
