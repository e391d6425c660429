"""Types that read metadata, behind the adapter: it passes the metadata of each document on."""

from __future__ import annotations

import pytest
from langchain_core.documents import Document
from rag_rerank import Decay, Ranking, Template
from rag_rerank.testing import ScriptedReranker

from langchain_rag_rerank import RagRerank

OLD = Document("It opens at 9.", id="old", metadata={"title": "Office", "published": "2021-03-01"})
NEW = Document("It opens at 10.", id="new", metadata={"title": "Office", "published": "2026-11-20"})


@pytest.mark.parametrize("wrong_order", [[OLD, NEW], [NEW, OLD]], ids=["old first", "new first"])
def test_a_template_and_a_decay_read_the_metadata_of_documents(wrong_order: list[Document]) -> None:
    scripted = ScriptedReranker(
        answers_on="sigmoid", by_text={"Office\nIt opens at 9.": 1.0, "Office\nIt opens at 10.": 0.5}
    )
    template = Template(reranker=scripted, text=["title"])
    rankings: list[Ranking] = []
    rerank = RagRerank(
        Decay(reranker=template, field="published", half_life=90, now="2026-12-01"), on_ranking=rankings.append
    )
    best = rerank.compress_documents(wrong_order, "When does it open?")
    assert [document.id for document in best] == ["new", "old"]
    assert [document.page_content for document in best] == [NEW.page_content, OLD.page_content]
    assert {key: best[1].metadata[key] for key in OLD.metadata} == OLD.metadata
    assert "relevance_score" not in OLD.metadata
    assert set(rankings[0].trace.contributions) == {"old", "new"}
