"""Any rag_rerank reranker as a LlamaIndex node postprocessor: nodes in, the same nodes best first."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import isfinite
from typing import Annotated, Any

from llama_index.core.bridge.pydantic import ConfigDict, Field, PlainSerializer
from llama_index.core.callbacks import CBEventType, EventPayload
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.events.rerank import ReRankEndEvent, ReRankStartEvent
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import MetadataMode, NodeWithScore, QueryBundle
from rag_rerank import Candidate, ConfigError, Ranking, Reranker, Spec, build, to_config

dispatcher = get_dispatcher(__name__)
logger = logging.getLogger(__name__)


class RagRerank(BaseNodePostprocessor):
    """Orders nodes by their relevance to the query.

    The nodes that come out are new ``NodeWithScore`` objects around the nodes that went in. Their score is on the
    scale of the ranking; a node that was not scored (no text of its own, or stopped in an early stage of a cascade)
    stands behind all others with the score ``None``, because its first-stage score would be on another scale. So has
    one that a cascade's ``border_only`` stage found surely in, which stands before them.

    Args:
        reranker: A name (``"embedded"``, ``"cohere:rerank-v3.5"``), a config mapping, the path of a config file, or
            a ``rag_rerank.Reranker``.
        top_n: How many nodes to return; ``None`` for all.
        metadata_mode: Which metadata is read together with a node's text.
        on_ranking: Called with the ``rag_rerank.Ranking`` of each call, which has the scale, trace, usage, coverage
            and degradations. A hit's id is the node's position among the incoming nodes. Not serialised.

    Raises:
        ConfigError: ``reranker`` names or describes nothing that can be built.
        ValidationError: Some other option is unknown or has a wrong value.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid", hide_input_in_errors=True)

    reranker: Annotated[Reranker, PlainSerializer(to_config)] = Field(
        frozen=True, description="What orders the nodes; serialised as its config."
    )
    top_n: int | None = Field(default=None, ge=1, description="How many nodes to return; None for all.")
    metadata_mode: MetadataMode = Field(
        default=MetadataMode.EMBED, description="Which metadata is read together with a node's text."
    )
    on_ranking: Callable[[Ranking], None] | None = Field(
        default=None, exclude=True, repr=False, description="Called with the ranking of each call."
    )

    def __init__(self, reranker: Spec, **options: Any) -> None:
        # built before pydantic looks, so that a wrong config is a ConfigError and no error quotes a key in it
        super().__init__(**options | {"reranker": build(reranker)})

    @classmethod
    def class_name(cls) -> str:
        """Return the name that serialised components carry."""
        return "RagRerank"

    def to_dict(self, **kwargs: Any) -> dict[str, Any]:
        """Return what ``from_dict`` takes: the config of the reranker, and the options.

        Raises:
            ConfigError: No config can express the reranker (it holds an injected client).
        """
        to_config(self.reranker)  # for its own error, which pydantic would wrap
        return super().to_dict(**kwargs)

    def __getstate__(self) -> dict[str, Any]:
        state = super(RagRerank, self.model_copy()).__getstate__()  # takes out of its object what does not pickle
        if "reranker" not in state["__dict__"]:
            raise ConfigError(f"{self.reranker.label} holds a live object, which cannot be pickled", path="reranker")
        return state

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        query = _required(query_bundle)
        if not nodes:
            return []
        with self._announced(nodes, query) as answered:
            return answered(self.reranker.rerank(query.query_str, self._candidates(nodes), top_k=self.top_n))

    @dispatcher.span
    async def _apostprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        query = _required(query_bundle)
        if not nodes:
            return []
        with self._announced(nodes, query) as answered:
            return answered(await self.reranker.arerank(query.query_str, self._candidates(nodes), top_k=self.top_n))

    def _candidates(self, nodes: list[NodeWithScore]) -> list[Candidate]:
        """Give each node its position as id, because a node may come twice."""
        return [
            Candidate(str(position), self._text(node), _finite(node.score), node.metadata)
            for position, node in enumerate(nodes)
        ]

    def _text(self, node: NodeWithScore) -> str:
        """Return text and metadata; nothing for a node without text, whose metadata alone would say nothing."""
        has_text = node.get_content(MetadataMode.NONE).strip()
        return node.get_content(self.metadata_mode) if has_text else ""

    @contextmanager
    def _announced(
        self, nodes: list[NodeWithScore], query: QueryBundle
    ) -> Iterator[Callable[[Ranking], list[NodeWithScore]]]:
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

            def answered(ranking: Ranking) -> list[NodeWithScore]:
                ranked = [nodes[int(hit.id)].model_copy(update={"score": hit.score}) for hit in ranking]
                event.on_end(payload={EventPayload.NODES: ranked})
                facts = {"scale": ranking.scale, "degraded": list(ranking.degraded), "trace": ranking.trace.to_dict()}
                dispatcher.event(ReRankEndEvent(nodes=ranked, tags=facts))
                for reason in ranking.degraded:  # nodes have no place to say so
                    logger.warning("degraded ranking: %s", reason)
                if self.on_ranking is not None:
                    self.on_ranking(ranking)
                return ranked

            yield answered


def _finite(score: float | None) -> float | None:
    """Return a first-stage score, or ``None`` for one that says nothing (NaN for an all-zero embedding)."""
    return score if score is not None and isfinite(score) else None


def _required(query: QueryBundle | None) -> QueryBundle:
    if query is None:
        raise ValueError("Missing query bundle in extra info.")
    return query
