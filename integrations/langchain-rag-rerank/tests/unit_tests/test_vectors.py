"""Vectors that the vector store returned in the metadata, and an ``Embeddings`` for the query."""

from __future__ import annotations

import asyncio
import copy
from typing import Any

import pytest
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from pydantic import ValidationError
from rag_rerank import InputError
from rag_rerank.backends.host_embedding import HostEmbeddingReranker

from langchain_rag_rerank import RagRerank, RagRerankRetriever


class OneQuery(Embeddings):
    """Embeds the query alone, unless texts are allowed."""

    def __init__(self, *, texts: bool = False) -> None:
        self.texts = texts

    def embed_query(self, text: str) -> list[float]:
        return [1.0, 0.0]

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        assert self.texts, "every text has a vector of its own"
        return [[0.6, 0.8] for _ in texts]


def documents() -> list[Document]:
    vectors = {"north": [0.0, 1.0], "east": [2.0, 0.0], "west": [-1.0, 0.0]}
    return [Document(name, id=name, metadata={"vector": vector, "n": 1}) for name, vector in vectors.items()]


@pytest.mark.parametrize("asynchronous", [False, True])
def test_documents_are_ordered_by_the_vectors_in_their_metadata_and_keep_them(asynchronous: bool) -> None:
    rerank = RagRerank(HostEmbeddingReranker(embedder=OneQuery()), vector_key="vector")
    given = documents()
    before = copy.deepcopy(given)
    answer: Any = rerank.acompress_documents(given, "q") if asynchronous else rerank.compress_documents(given, "q")
    ranked = asyncio.run(answer) if asynchronous else answer
    assert [document.page_content for document in ranked] == ["east", "north", "west"]
    assert [document.metadata["relevance_score"] for document in ranked] == [1.0, 0.0, -1.0]
    assert {d.id: d.metadata["vector"] for d in ranked} == {d.id: d.metadata["vector"] for d in before}
    assert given == before


def test_a_document_without_a_vector_is_embedded() -> None:
    rerank = RagRerank(HostEmbeddingReranker(embedder=OneQuery(texts=True)), vector_key="vector")
    ranked = rerank.compress_documents([*documents(), Document("new")], "q")
    assert [document.page_content for document in ranked] == ["east", "new", "north", "west"]


def test_without_the_key_no_metadata_are_read_as_vectors() -> None:
    rerank = RagRerank(HostEmbeddingReranker(embedder=OneQuery(texts=True)))
    assert {d.metadata["relevance_score"] for d in rerank.compress_documents(documents(), "q")} == {0.6}


def test_a_bad_vector_names_the_document() -> None:
    rerank = RagRerank(HostEmbeddingReranker(embedder=OneQuery()), vector_key="n")
    with pytest.raises(InputError, match="candidate 'north': its vector is not a list of numbers"):
        rerank.compress_documents(documents(), "q")


def test_a_blank_key_is_refused_and_a_retriever_takes_the_option() -> None:
    with pytest.raises(ValidationError, match="vector_key"):
        RagRerank("lexical", vector_key="")
    from langchain_core.runnables import RunnableLambda

    first = RunnableLambda(lambda query: documents())
    retriever = RagRerankRetriever(first, HostEmbeddingReranker(embedder=OneQuery()), vector_key="vector", top_k=1)
    assert [document.page_content for document in retriever.invoke("q")] == ["east"]
