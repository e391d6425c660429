"""Vectors of the host: each candidate's own, and an embedding object for the query and for texts without one."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rag_rerank
from rag_rerank import (
    BackendError,
    BackendTimeout,
    BackendUnavailable,
    BadResponse,
    Cached,
    Candidate,
    ConfigError,
    Ensemble,
    InputError,
    RateLimited,
    Windows,
    to_config,
)
from rag_rerank.backends.host_embedding import HostEmbeddingReranker
from rag_rerank.backends.lexical import LexicalReranker
from rag_rerank.testing import RerankerContract

EMBEDDED = str(Path(rag_rerank.__file__).parent / "models" / "late-minilm-v1" / "tokenizer.json")
QUERY = "how high is K2?"
VECTORS = {QUERY: [3.0, 4.0], "K2 is high.": [6.0, 8.0], "Garda is deep.": [4.0, -3.0], "A dog.": [-1.0, 0.0]}


class Embedder:
    """Notes what it embeds."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []

    def __call__(self, texts: list[str]) -> list[list[float]]:
        self.calls.append(list(texts))
        return [VECTORS[text] for text in texts]


class LangChainEmbeddings:
    model = "of-langchain"

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def embed_query(self, text: str) -> list[float]:
        self.calls.append(("query", text))
        return VECTORS[text]

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        self.calls.append(("texts", texts))
        return [VECTORS[text] for text in texts]

    async def aembed_query(self, text: str) -> list[float]:
        return self.embed_query(text)

    async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
        return self.embed_documents(texts)


class LlamaIndexEmbedding:
    model_name = "of-llama-index"

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def get_query_embedding(self, query: str) -> list[float]:
        self.calls.append(("query", query))
        return VECTORS[query]

    def get_text_embedding_batch(self, texts: list[str]) -> list[list[float]]:
        self.calls.append(("texts", texts))
        return [VECTORS[text] for text in texts]

    async def aget_query_embedding(self, query: str) -> list[float]:
        return self.get_query_embedding(query)

    async def aget_text_embedding_batch(self, texts: list[str]) -> list[list[float]]:
        return self.get_text_embedding_batch(texts)


def candidates(*, without: Sequence[str] = ()) -> list[Candidate]:
    texts = [text for text in VECTORS if text != QUERY]
    return [Candidate(text[0], text, vector=None if text in without else VECTORS[text]) for text in texts]


def by_id(ranking: Any) -> dict[str, float]:
    return {hit.id: hit.score for hit in ranking}


def lengths(texts: list[str]) -> list[list[float]]:
    return [[len(text), len(set(text)), 1.0] for text in texts]


class TestContract(RerankerContract):
    in_registry = False

    @pytest.fixture
    def reranker(self) -> HostEmbeddingReranker:
        return HostEmbeddingReranker(embedder=lengths)


def test_candidates_score_by_their_own_vectors_and_only_the_query_is_embedded() -> None:
    embedder = Embedder()
    ranking = HostEmbeddingReranker(embedder=embedder).rerank(QUERY, candidates())
    assert by_id(ranking) == pytest.approx({"K": 1.0, "G": 0.0, "A": -0.6})
    assert [hit.id for hit in ranking] == ["K", "G", "A"]
    assert ranking.scale == "similarity"
    assert embedder.calls == [[QUERY]]
    assert all(type(hit.score) is float for hit in ranking)


def test_a_dot_product_keeps_the_lengths() -> None:
    ranking = HostEmbeddingReranker(embedder=Embedder(), similarity="dot").rerank(QUERY, candidates())
    assert by_id(ranking) == {"K": 50.0, "G": 0.0, "A": -3.0}


def test_texts_without_a_vector_are_embedded_by_the_same_object_and_counted() -> None:
    embedder = Embedder()
    ranking = HostEmbeddingReranker(embedder=embedder).rerank(QUERY, candidates(without=["Garda is deep.", "A dog."]))
    assert by_id(ranking) == pytest.approx({"K": 1.0, "G": 0.0, "A": -0.6})
    assert embedder.calls == [[QUERY], ["Garda is deep.", "A dog."]]
    assert "2 of 3 texts had no vector of their own, and were embedded now" in ranking.trace.notes


@pytest.mark.parametrize("kind", [LangChainEmbeddings, LlamaIndexEmbedding])
def test_embedding_objects_of_the_hosts_embed_queries_as_queries(kind: type) -> None:
    for call in ("rerank", "arerank"):
        embedder = kind()
        reranker = HostEmbeddingReranker(embedder=embedder)
        answer = getattr(reranker, call)(QUERY, candidates(without=["A dog."]))
        ranking = asyncio.run(answer) if call == "arerank" else answer
        assert by_id(ranking) == pytest.approx({"K": 1.0, "G": 0.0, "A": -0.6})
        assert embedder.calls == [("query", QUERY), ("texts", ["A dog."])]
        assert reranker.model == getattr(embedder, "model_name", getattr(embedder, "model", None))


def test_a_function_runs_on_an_event_loop_too() -> None:
    ranking = asyncio.run(HostEmbeddingReranker(embedder=Embedder()).arerank(QUERY, candidates()))
    assert [hit.id for hit in ranking] == ["K", "G", "A"]


def test_prompts_go_before_what_is_embedded() -> None:
    seen: list[str] = []

    def embed(texts: list[str]) -> list[list[float]]:
        seen.extend(texts)
        return [[1.0, 1.0]] * len(texts)

    HostEmbeddingReranker(embedder=embed, query_prompt="query: ", text_prompt="passage: ").rerank("a", ["b"])
    assert seen == ["query: a", "passage: b"]


@pytest.mark.parametrize("vector", [np.array([6.0, 8.0], dtype=np.float32), (6, 8), [np.float64(6), 8]])
def test_vectors_of_any_kind_of_number_are_read_and_stay_as_they_are(vector: Any) -> None:
    candidate = Candidate("K", "K2 is high.", vector=vector)
    ranking = HostEmbeddingReranker(embedder=Embedder()).rerank(QUERY, [candidate])
    assert ranking[0].score == pytest.approx(1.0) and type(ranking[0].score) is float
    assert ranking[0].candidate.vector is vector
    again = Candidate.from_dict(candidate.to_dict())
    assert again == candidate and list(again.vector or ()) == [6.0, 8.0]


@pytest.mark.parametrize(
    ("vector", "problem"),
    [
        ([1.0, 2.0, 3.0], "its vector has 3 numbers, and that of the query 2"),
        ([1.0, math.nan], "its vector holds nan, which is not a finite number"),
        ([1.0, math.inf], "its vector holds inf"),
        ([], "its vector is empty"),
        ("1, 2", "its vector is not a list of numbers"),
        ([[1.0, 2.0]], "its vector is not a list of numbers"),
        (["1", "2"], "its vector is not a list of numbers"),
        ([[1.0], [1.0, 2.0]], "its vector is not a list of numbers"),
    ],
)
def test_a_bad_vector_names_the_candidate(vector: Any, problem: str) -> None:
    given = [Candidate("good", "K2 is high.", vector=[1.0, 0.0]), Candidate("bad one", "A dog.", vector=vector)]
    with pytest.raises(InputError, match=f"candidate 'bad one': {problem}"):
        HostEmbeddingReranker(embedder=Embedder()).rerank(QUERY, given)


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ([], "gave 0 vectors for 1 texts"),
        (3.5, "gave float instead of vectors"),
        ([[1.0, math.nan]], "gave a vector 0 that holds nan"),
        ([None], "gave a vector 0 that is not a list of numbers"),
    ],
)
def test_a_bad_answer_of_the_object_is_an_error(answer: Any, problem: str) -> None:
    with pytest.raises(BadResponse, match=problem):
        HostEmbeddingReranker(embedder=lambda texts: answer).rerank(QUERY, candidates())


def test_texts_with_vectors_of_another_length_than_the_query_are_a_bad_answer() -> None:
    with pytest.raises(BadResponse, match="gave a vector of 1 numbers, and that of the query 2"):
        HostEmbeddingReranker(embedder=lambda texts: [[1.0] * (2 if t == QUERY else 1) for t in texts]).rerank(
            QUERY, ["A dog."]
        )


class ApiTimeoutError(Exception):
    pass


class ApiConnectionError(Exception):
    pass


class StatusError(Exception):
    def __init__(self, status: int) -> None:
        super().__init__("key sk-secret is over its limit")
        self.status_code = status


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ApiTimeoutError(), BackendTimeout),
        (ApiConnectionError(), BackendUnavailable),
        (StatusError(429), RateLimited),
        (StatusError(503), BackendUnavailable),
        (StatusError(401), BackendError),
        (KeyError("sk-secret"), BackendError),
    ],
)
def test_an_error_of_the_object_is_one_of_the_backend_without_its_words(
    error: Exception, kind: type[BackendError]
) -> None:
    def embed(texts: list[str]) -> Any:
        raise error

    with pytest.raises(BackendError) as caught:
        HostEmbeddingReranker(embedder=embed, model="m").rerank(QUERY, candidates())
    assert type(caught.value) is kind and caught.value.__cause__ is error
    assert "sk-secret" not in str(caught.value) and type(error).__name__ in str(caught.value)


def test_parts_of_a_text_never_score_by_the_vector_of_the_whole() -> None:
    seen: list[str] = []

    def embed(texts: list[str]) -> list[list[float]]:
        seen.extend(texts)
        return [[1.0, float(len(text))] for text in texts]

    text = "one two three four five six seven eight nine ten"
    reranker = Windows(reranker=HostEmbeddingReranker(embedder=embed), tokens=4, overlap=0, tokenizer=EMBEDDED)
    reranker.rerank("q", [Candidate("long", text, vector=[1.0, 0.0])])
    assert len(seen) > 2 and text not in seen


def test_other_rerankers_and_composites_pass_vectors_on() -> None:
    fused = Ensemble(members=(HostEmbeddingReranker(embedder=Embedder()), LexicalReranker()))
    given = candidates()
    ranking = fused.rerank(QUERY, given)
    assert {hit.id: hit.candidate for hit in ranking} == {one.id: one for one in given}
    assert all(hit.candidate.vector == VECTORS[hit.text] for hit in ranking)


def test_no_cache_and_no_config_may_hold_it() -> None:
    reranker = HostEmbeddingReranker(embedder=Embedder())
    with pytest.raises(ConfigError, match="its own vector"):
        Cached(reranker=reranker)
    with pytest.raises(ConfigError, match="host_embedding"):
        to_config(reranker)


def test_something_that_embeds_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"expected an Embeddings of LangChain.*got str"):
        HostEmbeddingReranker(embedder="text-embedding-3-small")


def test_identity_is_that_of_the_model_and_the_similarity() -> None:
    one = HostEmbeddingReranker(embedder=Embedder(), model="m")
    assert one.identity == HostEmbeddingReranker(embedder=Embedder(), model="m").identity
    assert one.identity != HostEmbeddingReranker(embedder=Embedder(), model="n").identity
    assert one.identity != HostEmbeddingReranker(embedder=Embedder(), model="m", similarity="dot").identity
