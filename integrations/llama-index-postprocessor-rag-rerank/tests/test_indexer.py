"""Nodes are encoded in an ingestion pipeline, as the postprocessor reads them, and come back unchanged."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
from llama_index.core.ingestion import IngestionPipeline
from llama_index.core.schema import MetadataMode, NodeWithScore, TextNode
from rag_rerank import ConfigError

from llama_index.postprocessor.rag_rerank import RagRerank, RagRerankIndexer

pytest.importorskip("lmdb", reason="needs the extra store")


def nodes() -> list[TextNode]:
    return [
        TextNode(text="K2 is 8,611 m high.", id_="k2", metadata={"title": "Mountains"}),
        TextNode(text="Lake Garda is 346 m deep.", id_="garda"),
        TextNode(text=" ", id_="blank", metadata={"title": "Nothing"}),
    ]


def config(folder: Path) -> dict[str, Any]:
    return {"type": "late_interaction", "model": "embedded", "store": {"path": str(folder)}}


def texts_from_the_store(rerank: RagRerank) -> str:
    rankings: list[Any] = []
    given = [NodeWithScore(node=node) for node in nodes()]
    rerank.model_copy(update={"on_ranking": rankings.append}).postprocess_nodes(given, "how high is K2?")
    (note,) = [note for step in rankings[0].trace.walk() for note in step.notes if "store" in note]
    return str(note)


@pytest.mark.parametrize("mode", [MetadataMode.EMBED, MetadataMode.NONE])
def test_what_a_pipeline_indexed_is_not_encoded_again(tmp_path: Path, mode: MetadataMode) -> None:
    rerank = RagRerank(config(tmp_path), metadata_mode=mode)
    pipeline = IngestionPipeline(transformations=[rerank.indexer()])
    out = pipeline.run(nodes=nodes())
    assert [node.to_dict() for node in out] == [node.to_dict() for node in nodes()]
    assert "2 of 2 texts" in texts_from_the_store(RagRerank(config(tmp_path), metadata_mode=mode))


async def test_async(tmp_path: Path) -> None:
    pipeline = IngestionPipeline(transformations=[RagRerankIndexer(config(tmp_path))])
    assert len(await pipeline.arun(nodes=nodes())) == 3
    assert "2 of 2 texts" in texts_from_the_store(RagRerank(config(tmp_path)))


def test_a_node_that_changed_replaces_its_vectors(tmp_path: Path) -> None:
    indexer = RagRerankIndexer(config(tmp_path))
    indexer(nodes())
    indexer([TextNode(text="K2 was climbed in 1954.", id_="k2")])
    assert indexer.reranker.store_stats.texts == 2  # type: ignore[attr-defined]


def test_it_is_serialised_and_pickled(tmp_path: Path) -> None:
    indexer = RagRerankIndexer(config(tmp_path), metadata_mode=MetadataMode.NONE)
    for copy in (RagRerankIndexer.from_dict(indexer.to_dict()), pickle.loads(pickle.dumps(indexer))):
        assert copy.reranker == indexer.reranker
        assert copy.metadata_mode is MetadataMode.NONE


def test_a_reranker_that_keeps_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="keeps no vectors"):
        RagRerankIndexer("lexical")
