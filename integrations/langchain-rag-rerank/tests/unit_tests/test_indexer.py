"""Documents are encoded at ingestion, as the compressor reads them, and come back unchanged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from langchain_core.documents import Document
from rag_rerank import ConfigError, InputError, build

from langchain_rag_rerank import RagRerank, RagRerankIndexer

pytest.importorskip("lmdb", reason="needs the extra store")

DOCUMENTS = [
    Document("K2 is 8,611 m high.", id="k2", metadata={"title": "Mountains"}),
    Document("Lake Garda is 346 m deep.", metadata={"_id": "garda"}),
    Document("The Rhine is 1,230 km long."),
    Document(" "),
]


def config(folder: Path) -> dict[str, Any]:
    return {"type": "late_interaction", "model": "embedded", "store": {"path": str(folder)}}


def texts_from_the_store(rerank: RagRerank, documents: list[Document]) -> str:
    rankings: list[Any] = []
    rerank.model_copy(update={"on_ranking": rankings.append}).compress_documents(documents, "how high is K2?")
    (note,) = [note for step in rankings[0].trace.walk() for note in step.notes if "store" in note]
    return str(note)


@pytest.mark.parametrize("text", [None, ["title"]])
def test_what_was_indexed_is_not_encoded_again(tmp_path: Path, text: list[str] | None) -> None:
    before = [document.model_dump() for document in DOCUMENTS]
    indexer = RagRerankIndexer(config(tmp_path), text=text)
    assert indexer.transform_documents(DOCUMENTS) == DOCUMENTS
    assert [document.model_dump() for document in DOCUMENTS] == before
    rerank = RagRerank(config(tmp_path), text=text)
    assert "3 of 3 texts" in texts_from_the_store(rerank, DOCUMENTS)


async def test_the_compressor_makes_its_own_indexer(tmp_path: Path) -> None:
    rerank = RagRerank({"type": "cascade", "stages": [{"reranker": config(tmp_path)}]}, text=["title"])
    await rerank.indexer().atransform_documents(DOCUMENTS)
    assert "3 of 3 texts" in texts_from_the_store(rerank, DOCUMENTS)


def test_a_document_that_changed_replaces_its_vectors_and_others_stay(tmp_path: Path) -> None:
    indexer = RagRerankIndexer(config(tmp_path))
    indexer.transform_documents(DOCUMENTS)
    indexer.transform_documents([Document("K2 was climbed in 1954.", id="k2"), Document("No id, another batch.")])
    assert isinstance(indexer.reranker.store_stats.texts, int)  # type: ignore[attr-defined]
    assert indexer.reranker.store_stats.texts == 4  # type: ignore[attr-defined]


def test_a_reranker_that_keeps_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="keeps no vectors"):
        RagRerankIndexer("lexical")
    with pytest.raises(ConfigError, match="keeps no vectors"):
        RagRerank(build("lexical")).indexer()


def test_windows_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cuts texts into windows"):
        RagRerankIndexer({"type": "windows", "reranker": config(tmp_path)})


def test_what_is_no_document_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="must be a list or another iterable of Document"):
        RagRerankIndexer(config(tmp_path)).transform_documents("text")  # type: ignore[arg-type]


def test_the_store_is_opened_at_first_use(tmp_path: Path) -> None:
    indexer = RagRerankIndexer(config(tmp_path / "vectors"))
    assert not (tmp_path / "vectors").exists()
    indexer.transform_documents(DOCUMENTS)
    assert (tmp_path / "vectors").is_dir()
