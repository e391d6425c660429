from langchain_rag_rerank import __all__

EXPECTED_ALL = ["RagRerank", "RagRerankIndexer", "RagRerankRetriever"]


def test_all_imports() -> None:
    assert sorted(EXPECTED_ALL) == sorted(__all__)
