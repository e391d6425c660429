"""Vectors that nodes have already, and a ``BaseEmbedding`` for the query."""

from __future__ import annotations

import asyncio
import copy
from typing import Any

import pytest
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.schema import NodeWithScore, TextNode
from rag_rerank import InputError
from rag_rerank.backends.host_embedding import HostEmbeddingReranker

from llama_index.postprocessor.rag_rerank import RagRerank


class TwoNumbers(BaseEmbedding):
    """Embeds a query as east, and a text halfway to the north."""

    def _get_query_embedding(self, query: str) -> list[float]:
        return [1.0, 0.0]

    def _get_text_embedding(self, text: str) -> list[float]:
        return [0.6, 0.8]

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._get_query_embedding(query)


def nodes() -> list[NodeWithScore]:
    vectors = {"north": [0.0, 1.0], "east": [2.0, 0.0], "new": None, "west": [-1.0, 0.0]}
    return [
        NodeWithScore(node=TextNode(text=name, id_=name, embedding=vector), score=0.5)
        for name, vector in vectors.items()
    ]


@pytest.mark.parametrize("asynchronous", [False, True])
def test_nodes_are_ordered_by_their_own_embeddings_and_keep_them(asynchronous: bool) -> None:
    notes: list[str] = []
    reranker = HostEmbeddingReranker(embedder=TwoNumbers(model_name="two-numbers"))
    rerank = RagRerank(reranker, on_ranking=lambda ranking: notes.extend(ranking.trace.notes))
    given = nodes()
    before = copy.deepcopy(given)
    answer: Any = (rerank.apostprocess_nodes if asynchronous else rerank.postprocess_nodes)(given, query_str="q")
    ranked = asyncio.run(answer) if asynchronous else answer
    assert [node.node_id for node in ranked] == ["east", "new", "north", "west"]
    assert [node.score for node in ranked] == pytest.approx([1.0, 0.6, 0.0, -1.0])
    assert "1 of 4 texts had no vector of their own, and were embedded now" in notes
    assert {n.node_id: n.node.embedding for n in ranked} == {n.node_id: n.node.embedding for n in before}
    assert given == before
    assert reranker.label == "host_embedding:two-numbers"


def test_a_bad_embedding_names_the_node() -> None:
    node = NodeWithScore(node=TextNode(text="a", id_="odd", embedding=[1.0, 2.0, 3.0]))
    with pytest.raises(InputError, match="candidate 'odd': its vector has 3 numbers, and that of the query 2"):
        RagRerank(HostEmbeddingReranker(embedder=TwoNumbers())).postprocess_nodes([node], query_str="q")


def test_other_rerankers_leave_embeddings_alone() -> None:
    ranked = RagRerank("lexical").postprocess_nodes(nodes(), query_str="east")
    assert ranked[0].node.embedding == [2.0, 0.0]
