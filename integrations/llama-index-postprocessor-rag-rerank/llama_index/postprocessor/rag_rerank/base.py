"""Any rag_rerank reranker as a LlamaIndex node postprocessor: it returns the same nodes, best first."""

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
"""The tag of each call: records show where it came from, and telemetry makes no second span for it."""


class RagRerank(BaseNodePostprocessor):
    """A node postprocessor that orders nodes by their relevance to the query.

    It returns new ``NodeWithScore`` objects around the same nodes. Their score is on the scale of the ranking. A node
    without a score (no text of its own, or stopped in an early stage of a cascade) comes after all others, with the
    score ``None``, because its first-stage score would be on another scale.

    Args:
        reranker: A name (``"embedded"``, ``"cohere:rerank-v3.5"``), a config mapping, the path of a config file, or
            a ``rag_rerank.Reranker``.
        top_n: How many nodes to return; ``None`` for all. With ``context``: how many it chooses from.
        context: Which nodes go to the LLM: a ``rag_rerank.Packing``, or a mapping of its options
            (``{"max_tokens": 3000, "tokenizer": "o200k_base", "duplicates": 0.8}``). Tokens are counted for what the
            LLM reads, text and metadata; with ``merge``, for the text alone. ``source`` and ``position`` may name the
            node's own ``"ref_doc_id"`` and ``"start_char_idx"``, beside the metadata. A node whose text changes is
            returned as a copy of the best node, with the new text and no metadata for the LLM. The copy's metadata has
            the ids of merged neighbours under ``merged_ids``, or under ``trimmed`` the first and last character that
            are left of what the LLM would have read.
        metadata_mode: Which metadata the reranker reads together with a node's text.
        on_context: Called with the ``rag_rerank.Context`` of each call, which has the nodes that were left out, with
            reasons. Not serialised.
        on_ranking: Called with the ``rag_rerank.Ranking`` of each call, which has the scale, trace, usage, coverage
            and degradations. A hit's id is the node's position in the input. Not serialised.

    Raises:
        ConfigError: ``reranker`` cannot be built, or an option of ``context`` is wrong.
        ValidationError: Another option is unknown or has a wrong value.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid", hide_input_in_errors=True)

    reranker: Annotated[Reranker, PlainSerializer(to_config)] = Field(
        frozen=True, description="What orders the nodes; serialised as its config."
    )
    top_n: int | None = Field(default=None, ge=1, description="How many nodes to return; None for all.")
    context: Annotated[InstanceOf[Packing], PlainSerializer(Packing.to_dict)] | None = Field(
        default=None, description="Which nodes go to the LLM, and within how many tokens."
    )
    metadata_mode: MetadataMode = Field(
        default=MetadataMode.EMBED, description="Which metadata the reranker reads together with a node's text."
    )
    on_context: Callable[[Context], None] | None = Field(
        default=None, exclude=True, repr=False, description="Called with the context of each call."
    )
    on_ranking: Callable[[Ranking], None] | None = Field(
        default=None, exclude=True, repr=False, description="Called with the ranking of each call."
    )

    def __init__(self, reranker: Spec, **options: Any) -> None:
        # built before pydantic validates, so that a wrong config is a ConfigError, and no error quotes an API key
        if isinstance(options.get("context"), Mapping):
            options["context"] = Packing.from_dict(options["context"], path="context")
        super().__init__(**options | {"reranker": build(reranker)})

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

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        query = _required(query_bundle)
        if not nodes:
            return []
        with self._call_events(nodes, query) as finish:
            with tagged(**_HOST):
                ranking = self.reranker.rerank(query.query_str, self._candidates(nodes), top_k=self.top_n)
            return finish(ranking, None if self.context is None else _pack(self.context, nodes, ranking))

    @dispatcher.span
    async def _apostprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        query = _required(query_bundle)
        if not nodes:
            return []
        with self._call_events(nodes, query) as finish:
            with tagged(**_HOST):
                ranking = await self.reranker.arerank(query.query_str, self._candidates(nodes), top_k=self.top_n)
            if self.context is None:
                return finish(ranking, None)
            return finish(ranking, await asyncio.to_thread(_pack, self.context, nodes, ranking))

    def _candidates(self, nodes: list[NodeWithScore]) -> list[Candidate]:
        """Give each node its position as id, because a node may occur twice."""
        return [
            Candidate(str(position), _text(node, self.metadata_mode), _finite(node.score), node.metadata)
            for position, node in enumerate(nodes)
        ]

    @contextmanager
    def _call_events(
        self, nodes: list[NodeWithScore], query: QueryBundle
    ) -> Iterator[Callable[[Ranking, Context | None], list[NodeWithScore]]]:
        """Report the call to the host's events and callbacks.

        Yields a function that turns the ranking into nodes, and reports the end of the call.
        """
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

            def finish(ranking: Ranking, context: Context | None) -> list[NodeWithScore]:
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
                self._report(ranking, context)
                return out

            yield finish

    def _report(self, ranking: Ranking, context: Context | None) -> None:
        """Log and pass to the hooks what nodes cannot carry."""
        for reason in ranking.degraded:
            logger.warning("degraded ranking: %s", reason)
        for note in context.notes if context is not None else ():
            logger.warning("context: %s", note)
        if self.on_ranking is not None:
            self.on_ranking(ranking)
        if self.on_context is not None and context is not None:
            self.on_context(context)


def _text(node: NodeWithScore, mode: MetadataMode) -> str:
    """Return text and metadata; an empty text for a node without text, whose metadata alone says too little."""
    return node.get_content(mode) if node.get_content(MetadataMode.NONE).strip() else ""


def _pack(packing: Packing, nodes: list[NodeWithScore], ranking: Ranking) -> Context:
    """Pack what the LLM will read.

    Nodes are compared by their texts, because metadata would make different nodes similar, or copies different.
    """
    hits, display_text = [], {}
    for hit in ranking:
        node = nodes[int(hit.id)]
        text = _text(node, MetadataMode.NONE)
        candidate = replace(hit.candidate, text=text, metadata=_with_place(node.node))
        facts = (hit.coverage, hit.unscored, hit.window) if text == hit.text else (None, hit.unscored)
        hits.append(Hit(hit.rank, hit.score, hit.raw_score, candidate, *facts))
        display_text[hit.id] = text if packing.merge else _text(node, MetadataMode.LLM)
    try:
        context: Context = packing.pack(replace(ranking, hits=tuple(hits)), display_text=display_text)
    except ConfigError as error:
        raise error.under("context") from error.__cause__
    return context


def _with_place(node: BaseNode) -> dict[str, Any]:
    """Return the metadata, with the place of the text in its document as the host's splitters set it."""
    place = {"ref_doc_id": node.ref_doc_id, "start_char_idx": getattr(node, "start_char_idx", None)}
    return {name: value for name, value in place.items() if value is not None} | node.metadata


def _node(nodes: list[NodeWithScore], piece: Piece) -> NodeWithScore:
    """Return the best node of a piece; if the LLM would read another text than the piece's, a copy with that text."""
    best = nodes[int(piece.best.id)]
    node = best.node
    if piece.text != node.get_content(MetadataMode.LLM):
        extra: dict[str, Any] = {}
        if len(piece.hits) > 1:
            extra["merged_ids"] = [nodes[int(hit.id)].node_id for hit in piece.hits]
        if piece.trimmed is not None:
            extra["trimmed"] = list(piece.trimmed)
        node = node.model_copy(update={"metadata": {**node.metadata, **extra}})
        node.set_content(piece.text)
        node.excluded_llm_metadata_keys = [*node.metadata]
        node.excluded_embed_metadata_keys = [*node.excluded_embed_metadata_keys, *extra]
    return best.model_copy(update={"node": node, "score": piece.best.score})


def _finite(score: float | None) -> float | None:
    """Return a first-stage score, or ``None`` for one that says nothing (NaN for an all-zero embedding)."""
    return score if score is not None and isfinite(score) else None


def _required(query: QueryBundle | None) -> QueryBundle:
    if query is None:
        raise ValueError("Missing query bundle in extra info.")
    return query
