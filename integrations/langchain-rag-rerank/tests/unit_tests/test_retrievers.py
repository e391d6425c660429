from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
from langchain_core.callbacks import CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.load import dumps
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableConfig
from pydantic import ValidationError
from rag_rerank import BackendUnavailable, ConfigError, InputError, Ranking, build
from rag_rerank.testing import ScriptedReranker

from langchain_rag_rerank import RagRerank, RagRerankRetriever

QUERY = "how warm must a bearded dragon be kept?"
TEXTS = ("Cranes migrate in autumn.", "A dragon wants shade at noon.", "A bearded dragon must be kept warm.")


class FirstStage(BaseRetriever):
    """A first stage that always finds the same documents; ``lang`` may narrow them for one call."""

    documents: list[Document]

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun, lang: str | None = None
    ) -> list[Document]:
        return [document for document in self.documents if lang in (None, document.metadata["lang"])]

    async def _aget_relevant_documents(self, query: str, *, run_manager: Any, **search: Any) -> list[Document]:
        return self._get_relevant_documents(query, run_manager=run_manager, **search)


@pytest.fixture
def first_stage() -> FirstStage:
    return FirstStage(
        documents=[
            Document(text, id=str(i), metadata={"lang": lang})
            for i, (text, lang) in enumerate(zip(TEXTS, ("en", "en", "de"), strict=True))
        ]
    )


def order(documents: list[Document]) -> list[str]:
    return [document.page_content for document in documents]


async def test_it_returns_what_the_first_stage_found_best_first(first_stage: FirstStage) -> None:
    retriever = RagRerankRetriever(first_stage, "lexical")
    expected = RagRerank("lexical").compress_documents(first_stage.documents, QUERY)
    assert retriever.invoke(QUERY) == await retriever.ainvoke(QUERY) == expected
    assert order(expected) == [TEXTS[2], TEXTS[1], TEXTS[0]]


async def test_k_of_the_call_goes_before_k_of_the_retriever_and_that_before_top_n(first_stage: FirstStage) -> None:
    rerank = RagRerank("lexical", top_n=2)
    assert len(RagRerankRetriever(first_stage, rerank).invoke(QUERY)) == 2
    retriever = RagRerankRetriever(first_stage, rerank, k=1)
    assert len(retriever.invoke(QUERY)) == 1
    assert len(retriever.invoke(QUERY, k=3)) == len(await retriever.ainvoke(QUERY, k=3)) == 3
    assert (retriever.k, rerank.top_n) == (1, 2)
    with pytest.raises(InputError):
        retriever.invoke(QUERY, k=0)


async def test_other_arguments_of_a_call_reach_the_first_stage(first_stage: FirstStage) -> None:
    retriever = RagRerankRetriever(first_stage, "lexical")
    assert order(retriever.invoke(QUERY, lang="de")) == order(await retriever.ainvoke(QUERY, lang="de")) == [TEXTS[2]]


async def test_nothing_found_is_nothing_reranked() -> None:
    reranker = ScriptedReranker()
    retriever = RagRerankRetriever(FirstStage(documents=[]), reranker)
    assert retriever.invoke(QUERY) == await retriever.ainvoke(QUERY) == []
    assert reranker.calls == []


def test_the_options_of_a_rag_rerank_come_along(first_stage: FirstStage) -> None:
    rankings: list[Ranking] = []
    rerank = RagRerank("lexical", score_key="bm25", on_ranking=rankings.append)
    assert "bm25" in RagRerankRetriever(first_stage, rerank, k=1).invoke(QUERY)[0].metadata
    assert [len(ranking) for ranking in rankings] == [1]


async def test_both_stages_are_child_runs(first_stage: FirstStage, runs: Any) -> None:
    retriever = RagRerankRetriever(first_stage, "lexical")
    for native in (False, True):
        config: RunnableConfig = {"callbacks": [runs]}
        ranked = await retriever.ainvoke(QUERY, config) if native else retriever.invoke(QUERY, config)
        assert runs.parents == {
            "RagRerankRetriever": None,
            "FirstStage": "RagRerankRetriever",
            "rag_rerank": "RagRerankRetriever",
        }
        assert runs.outputs.pop("FirstStage") == first_stage.documents
        assert runs.outputs.pop("rag_rerank") == runs.outputs.pop("RagRerankRetriever") == ranked


async def test_a_failed_reranker_fails_the_retriever(first_stage: FirstStage, runs: Any) -> None:
    retriever = RagRerankRetriever(first_stage, ScriptedReranker(error=BackendUnavailable("down")))
    with pytest.raises(BackendUnavailable):
        retriever.invoke(QUERY, {"callbacks": [runs]})
    assert set(runs.errors) == {"rag_rerank", "RagRerankRetriever"}
    with pytest.raises(BackendUnavailable):
        await retriever.ainvoke(QUERY)


def test_a_wrong_option_is_refused(first_stage: FirstStage) -> None:
    with pytest.raises(ConfigError, match="did you mean"):
        RagRerankRetriever(first_stage, "lexicl")
    for options in ({"top_k": 3}, {"k": 0}):
        with pytest.raises(ValidationError):
            RagRerankRetriever(first_stage, "lexical", **options)


def test_it_copies_pickles_and_never_shows_a_key(first_stage: FirstStage, remote: Any) -> None:
    retriever = RagRerankRetriever(base_retriever=first_stage, reranker="lexical", k=2, tags=["a"])
    assert retriever.reranker.reranker == build("lexical")
    for twin in (copy.deepcopy(retriever), pickle.loads(pickle.dumps(retriever))):
        assert twin.invoke(QUERY) == retriever.invoke(QUERY)
        assert twin.tags == ["a"]
    secretive = RagRerankRetriever(first_stage, {"type": "remote", "api_key": "sk-hidden"})
    assert "sk-hidden" not in repr(secretive) + dumps(secretive)
