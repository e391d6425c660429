"""Any rag_rerank reranker as a LlamaIndex node postprocessor: nodes in, the same nodes best first."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from math import isfinite
from typing import Annotated, Any

from llama_index.core.bridge.pydantic import ConfigDict, Field, PlainSerializer
from llama_index.core.callbacks import CBEventType, EventPayload
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.events.rerank import ReRankEndEvent, ReRankStartEvent
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import BaseNode, MetadataMode, NodeWithScore, QueryBundle
from pydantic import InstanceOf
from rag_rerank import (
    Candidate,
    ConfigError,
    Context,
    Hit,
    Packing,
    Piece,
    Ranking,
    Reranker,
    Spec,
    build,
    tagged,
    to_config,
)

dispatcher = get_dispatcher(__name__)
logger = logging.getLogger(__name__)

_HOST = {"rag_rerank.host": "llama_index"}
"""The tag of each call: records say where it came from, and telemetry makes no second span of it."""


class RagRerank(BaseNodePostprocessor):
    """Orders nodes by their relevance to the query.

    The nodes that come out are new ``NodeWithScore`` objects around the nodes that went in. Their score is on the
    scale of the ranking; a node that was not scored (no text of its own, or stopped in an early stage of a cascade)
    stands behind all others with the score ``None``, because its first-stage score would be on another scale. So has
    one that a cascade's ``border_only`` stage found surely in, which stands before them.

    Args:
        reranker: A name (``"embedded"``, ``"cohere:rerank-v3.5"``), a config mapping, the path of a config file, or
            a ``rag_rerank.Reranker``.
        top_n: How many nodes to return; ``None`` for all. With ``context``: how many it chooses from.
        context: Which nodes go on to the LLM: a ``rag_rerank.Packing``, or a mapping of its options
            (``{"max_tokens": 3000, "tokenizer": "o200k_base", "duplicates": 0.8}``). What is counted is what the LLM
            reads, text and metadata; with ``merge``, the text alone. Beside the metadata, ``source`` and ``position``
            may name the node's own ``"ref_doc_id"`` and ``"start_char_idx"``. A node whose text changed is a copy of
            the best one with that text, shows the LLM no metadata, and has the ids of merged neighbours under
            ``merged_ids`` or the first and last character that are left of what the LLM would have read under
            ``trimmed``.
        metadata_mode: Which metadata is read together with a node's text.
        on_context: Called with the ``rag_rerank.Context`` of each call, which says why nodes are not in it. Not
            serialised.
        on_ranking: Called with the ``rag_rerank.Ranking`` of each call, which has the scale, trace, usage, coverage
            and degradations. A hit's id is the node's position among the incoming nodes. Not serialised.

    Raises:
        ConfigError: ``reranker`` names or describes nothing that can be built, or an option of ``context`` is wrong.
        ValidationError: Some other option is unknown or has a wrong value.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid", hide_input_in_errors=True)

    reranker: Annotated[Reranker, PlainSerializer(to_config)] = Field(
        frozen=True, description="What orders the nodes; serialised as its config."
    )
    top_n: int | None = Field(default=None, ge=1, description="How many nodes to return; None for all.")
    context: Annotated[InstanceOf[Packing], PlainSerializer(Packing.to_dict)] | None = Field(
        default=None, description="Which nodes go on to the LLM, and within how many tokens."
    )
    metadata_mode: MetadataMode = Field(
        default=MetadataMode.EMBED, description="Which metadata is read together with a node's text."
    )
    on_context: Callable[[Context], None] | None = Field(
        default=None, exclude=True, repr=False, description="Called with the context of each call."
    )
    on_ranking: Callable[[Ranking], None] | None = Field(
        default=None, exclude=True, repr=False, description="Called with the ranking of each call."
    )

    def __init__(self, reranker: Spec, **options: Any) -> None:
        # built before pydantic looks, so that a wrong config is a ConfigError and no error quotes a key in it
        if isinstance(options.get("context"), Mapping):
            options["context"] = Packing.from_dict(options["context"], path="context")
        super().__init__(**options | {"reranker": build(reranker)})

    @classmethod
    def class_name(cls) -> str:
        """Return the name that serialised components carry."""
        return "RagRerank"

    def to_dict(self, **kwargs: Any) -> dict[str, Any]:
        """Return what ``from_dict`` takes: the config of the reranker, and the options.

        Raises:
            ConfigError: No config can express the reranker (it holds an injected client) or the context (a function).
        """
        to_config(self.reranker)  # for its own error, which pydantic would wrap
        if self.context is not None:
            self.context.to_dict()
        return super().to_dict(**kwargs)

    def __getstate__(self) -> dict[str, Any]:
        state = super(RagRerank, self.model_copy()).__getstate__()  # takes out of its object what does not pickle
        if "reranker" not in state["__dict__"]:
            raise ConfigError(f"{self.reranker.label} holds a live object, which cannot be pickled", path="reranker")
        if "context" not in state["__dict__"]:
            raise ConfigError("it holds a live object, which cannot be pickled", path="context")
        return state

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        query = _required(query_bundle)
        if not nodes:
            return []
        with self._announced(nodes, query) as answered:
            with tagged(**_HOST):
                ranking = self.reranker.rerank(query.query_str, self._candidates(nodes), top_k=self.top_n)
            return answered(ranking, None if self.context is None else _packed(self.context, nodes, ranking))

    @dispatcher.span
    async def _apostprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        query = _required(query_bundle)
        if not nodes:
            return []
        with self._announced(nodes, query) as answered:
            with tagged(**_HOST):
                ranking = await self.reranker.arerank(query.query_str, self._candidates(nodes), top_k=self.top_n)
            if self.context is None:
                return answered(ranking, None)
            return answered(ranking, await asyncio.to_thread(_packed, self.context, nodes, ranking))

    def _candidates(self, nodes: list[NodeWithScore]) -> list[Candidate]:
        """Give each node its position as id, because a node may come twice."""
        return [
            Candidate(str(position), _text(node, self.metadata_mode), _finite(node.score), node.metadata)
            for position, node in enumerate(nodes)
        ]

    @contextmanager
    def _announced(
        self, nodes: list[NodeWithScore], query: QueryBundle
    ) -> Iterator[Callable[[Ranking, Context | None], list[NodeWithScore]]]:
        """Tell the host's events and callbacks; yields what turns the ranking into nodes and tells the end."""
        model, top_n = self.reranker.label, self.top_n or len(nodes)
        dispatcher.event(ReRankStartEvent(query=query, nodes=nodes, top_n=top_n, model_name=model))
        with self.callback_manager.event(
            CBEventType.RERANKING,
            payload={
                EventPayload.NODES: nodes,
                EventPayload.MODEL_NAME: model,
                EventPayload.QUERY_STR: query.query_str,
                EventPayload.TOP_K: top_n,
            },
        ) as event:

            def answered(ranking: Ranking, context: Context | None) -> list[NodeWithScore]:
                if context is None:
                    out = [nodes[int(hit.id)].model_copy(update={"score": hit.score}) for hit in ranking]
                else:
                    out = [_node(nodes, piece) for piece in context.pieces]
                event.on_end(payload={EventPayload.NODES: out})
                facts: dict[str, Any] = {
                    "scale": ranking.scale,
                    "degraded": list(ranking.degraded),
                    "trace": ranking.trace.to_dict(),
                }
                if context is not None:
                    facts |= {"dropped": [drop.to_dict() for drop in context.dropped], "notes": list(context.notes)}
                dispatcher.event(ReRankEndEvent(nodes=out, tags=facts))
                self._tell(ranking, context)
                return out

            yield answered

    def _tell(self, ranking: Ranking, context: Context | None) -> None:
        """Tell what nodes have no place to say."""
        for reason in ranking.degraded:
            logger.warning("degraded ranking: %s", reason)
        for note in context.notes if context is not None else ():
            logger.warning("context: %s", note)
        if self.on_ranking is not None:
            self.on_ranking(ranking)
        if self.on_context is not None and context is not None:
            self.on_context(context)


def _text(node: NodeWithScore, mode: MetadataMode) -> str:
    """Return text and metadata; nothing for a node without text, whose metadata alone would say nothing."""
    return node.get_content(mode) if node.get_content(MetadataMode.NONE).strip() else ""


def _packed(packing: Packing, nodes: list[NodeWithScore], ranking: Ranking) -> Context:
    """Pack what the LLM will read. Nodes are compared by their texts: metadata makes all alike, or copies differ."""
    hits, shown = [], {}
    for hit in ranking:
        node = nodes[int(hit.id)]
        text = _text(node, MetadataMode.NONE)
        candidate = replace(hit.candidate, text=text, metadata=_with_place(node.node))
        known = (hit.coverage, hit.unscored, hit.window) if text == hit.text else (None, hit.unscored)
        hits.append(Hit(hit.rank, hit.score, hit.raw_score, candidate, *known))
        shown[hit.id] = text if packing.merge else _text(node, MetadataMode.LLM)
    try:
        packed: Context = packing.pack(replace(ranking, hits=tuple(hits)), shown=shown)
    except ConfigError as error:
        raise error.under("context") from error.__cause__
    return packed


def _with_place(node: BaseNode) -> dict[str, Any]:
    """Return the metadata, and beside it where the host's splitters say that the text comes from."""
    place = {"ref_doc_id": node.ref_doc_id, "start_char_idx": getattr(node, "start_char_idx", None)}
    return {name: value for name, value in place.items() if value is not None} | node.metadata


def _node(nodes: list[NodeWithScore], piece: Piece) -> NodeWithScore:
    """Return the best node of a piece; where the LLM would read anything but the piece's text, a copy with that."""
    found = nodes[int(piece.best.id)]
    node = found.node
    if piece.text != node.get_content(MetadataMode.LLM):
        marks: dict[str, Any] = {}
        if len(piece.hits) > 1:
            marks["merged_ids"] = [nodes[int(hit.id)].node_id for hit in piece.hits]
        if piece.trimmed is not None:
            marks["trimmed"] = list(piece.trimmed)
        node = node.model_copy(update={"metadata": {**node.metadata, **marks}})
        node.set_content(piece.text)
        node.excluded_llm_metadata_keys = [*node.metadata]
        node.excluded_embed_metadata_keys = [*node.excluded_embed_metadata_keys, *marks]
    return found.model_copy(update={"node": node, "score": piece.best.score})


def _finite(score: float | None) -> float | None:
    """Return a first-stage score, or ``None`` for one that says nothing (NaN for an all-zero embedding)."""
    return score if score is not None and isfinite(score) else None


def _required(query: QueryBundle | None) -> QueryBundle:
    if query is None:
        raise ValueError("Missing query bundle in extra info.")
    return query
