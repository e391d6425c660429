"""The standard suite of langchain-tests, as it is."""

from __future__ import annotations

from typing import Any

from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableLambda
from langchain_tests.integration_tests import RetrieversIntegrationTests

from langchain_rag_rerank import RagRerankRetriever

DOCUMENTS = [Document(f"A bearded dragon basks for {hours} hours a day.") for hours in range(1, 6)]


class TestRagRerankRetriever(RetrieversIntegrationTests):
    @property
    def retriever_constructor(self) -> type[BaseRetriever]:
        return RagRerankRetriever

    @property
    def retriever_constructor_params(self) -> dict[str, Any]:
        return {"base_retriever": RunnableLambda(lambda query: DOCUMENTS), "reranker": "lexical"}

    @property
    def retriever_query_example(self) -> str:
        return "how long does a bearded dragon bask?"
