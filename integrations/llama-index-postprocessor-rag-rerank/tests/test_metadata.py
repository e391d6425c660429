"""Types that read metadata, behind the adapter: it passes the metadata of each node on."""

from __future__ import annotations

from llama_index.core.schema import NodeWithScore, TextNode
from rag_rerank import Decay, Template
from rag_rerank.testing import ScriptedReranker

from llama_index.postprocessor.rag_rerank import RagRerank

OLD = TextNode(id_="old", text="It opens at 9.", metadata={"title": "Office", "creation_date": "2021-03-01"})
NEW = TextNode(id_="new", text="It opens at 10.", metadata={"title": "Office", "creation_date": "2026-11-20"})


def test_a_template_and_a_decay_read_the_metadata_of_nodes() -> None:
    scripted = ScriptedReranker(
        answers_on="sigmoid", by_text={"Office\nIt opens at 9.": 1.0, "Office\nIt opens at 10.": 0.5}
    )
    template = Template(reranker=scripted, text=["title"])
    decay = Decay(reranker=template, field="creation_date", half_life=90, now="2026-12-01")
    nodes = [NodeWithScore(node=OLD, score=0.9), NodeWithScore(node=NEW, score=0.8)]
    best = RagRerank(decay, metadata_mode="none").postprocess_nodes(nodes, query_str="When does it open?")
    assert [node.node_id for node in best] == ["new", "old"]
    assert [node.text for node in best] == [NEW.text, OLD.text]
    assert {key: best[1].metadata[key] for key in OLD.metadata} == OLD.metadata
