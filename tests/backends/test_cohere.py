from __future__ import annotations

import pytest

from rag_rerank.backends.cohere import CohereReranker
from rag_rerank.backends.voyage import VoyageReranker
from rag_rerank.testing import RerankerContract


class TestCohere(RerankerContract):
    @pytest.fixture
    def reranker(self, rerank_server):
        return CohereReranker(base_url=rerank_server.url, api_key="k")


class TestVoyage(RerankerContract):
    @pytest.fixture
    def reranker(self, rerank_server):
        return VoyageReranker(base_url=rerank_server.voyage_url, api_key="k")
