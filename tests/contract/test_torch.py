"""The contract of rerankers, for the torch backend: a cross-encoder and a causal reranker."""

from pathlib import Path

import pytest
from support import tiny_checkpoints, tiny_colbert, tiny_embeddings, tiny_sparse

from rag_rerank import Reranker
from rag_rerank.backends.embedding import EmbeddingReranker
from rag_rerank.backends.late_interaction import LateInteractionReranker
from rag_rerank.backends.local.kept_vectors.opening import StoreSettings
from rag_rerank.backends.sparse import SparseReranker
from rag_rerank.backends.torch import TorchReranker
from rag_rerank.testing import RerankerContract


@pytest.fixture(scope="module")
def cross_encoder() -> Reranker:
    return TorchReranker(model=str(tiny_checkpoints.checkpoint("bert")))


@pytest.fixture(scope="module")
def causal() -> Reranker:
    return TorchReranker(
        model=str(tiny_checkpoints.checkpoint("qwen3")), template="qwen3", instruction="Find what keeps it warm"
    )


class TestCrossEncoder(RerankerContract):
    @pytest.fixture
    def reranker(self, cross_encoder: Reranker) -> Reranker:
        return cross_encoder


class TestCausal(RerankerContract):
    @pytest.fixture
    def reranker(self, causal: Reranker) -> Reranker:
        return causal


@pytest.fixture(scope="module")
def embedding() -> Reranker:
    return EmbeddingReranker(model=str(tiny_embeddings.embedding_model("wide-last")))


class TestEmbedding(RerankerContract):
    @pytest.fixture
    def reranker(self, embedding: Reranker) -> Reranker:
        return embedding


class TestEmbeddingInAFolder(RerankerContract):
    @pytest.fixture
    def reranker(self, tmp_path: Path) -> Reranker:
        store = StoreSettings(path=str(tmp_path / "vectors"))
        folder = str(tiny_embeddings.embedding_model("wide"))
        return EmbeddingReranker(model=folder, store=store, precision="int8")


@pytest.fixture(scope="module")
def colbert() -> Reranker:
    return LateInteractionReranker(
        model=str(tiny_colbert.colbert("gte-modern")), runtime="torch", max_length=512, query_length=60, pool=2
    )


class TestColbert(RerankerContract):
    @pytest.fixture
    def reranker(self, colbert: Reranker) -> Reranker:
        return colbert


@pytest.fixture(scope="module")
def splade() -> Reranker:
    return SparseReranker(model=str(tiny_sparse.sparse("naver-long")))


class TestSplade(RerankerContract):
    @pytest.fixture
    def reranker(self, splade: Reranker) -> Reranker:
        return splade
