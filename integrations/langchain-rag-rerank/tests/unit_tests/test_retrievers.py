from __future__ import annotations

import copy
import inspect
import pickle
from typing import Any

import pytest
from langchain_core.callbacks import CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.load import dumps
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableConfig
from pydantic import ValidationError
from rag_rerank import BackendUnavailable, ConfigError, Context, InputError, Ranking, build
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


async def test_top_k_of_the_call_goes_before_that_of_the_retriever_and_that_before_the_compressors(
    first_stage: FirstStage,
) -> None:
    rerank = RagRerank("lexical", top_k=2)
    assert len(RagRerankRetriever(first_stage, rerank).invoke(QUERY)) == 2
    retriever = RagRerankRetriever(first_stage, rerank, top_k=1)
    assert len(retriever.invoke(QUERY)) == 1
    assert len(retriever.invoke(QUERY, top_k=3)) == len(await retriever.ainvoke(QUERY, top_k=3)) == 3
    assert (retriever.top_k, rerank.top_k) == (1, 2)
    with pytest.raises(InputError):
        retriever.invoke(QUERY, top_k=0)


@pytest.mark.parametrize("name", ["top_k", "top_n", "k"])
async def test_the_cutoff_has_three_names_in_the_constructor_and_in_a_call(first_stage: FirstStage, name: str) -> None:
    options: Any = {name: 2}
    assert len(RagRerankRetriever(first_stage, "lexical", **options).invoke(QUERY)) == 2
    retriever = RagRerankRetriever(first_stage, RagRerank("lexical", **options))
    assert retriever.reranker.top_k == 2
    assert len(retriever.invoke(QUERY, **{name: 1})) == len(await retriever.ainvoke(QUERY, **{name: 1})) == 1
    other = "k" if name == "top_k" else "top_k"
    with pytest.raises(InputError, match="are one option under two names"):
        retriever.invoke(QUERY, **{name: 1, other: 1})
    for wrong in (0, "2", 1.5):
        with pytest.raises(InputError, match=f"^{name}: must be a whole number"):
            await retriever.ainvoke(QUERY, **{name: wrong})


def test_it_takes_all_options_of_the_compressor(first_stage: FirstStage) -> None:
    rankings: list[Ranking] = []
    contexts: list[Context] = []
    options: Any = {"score_key": None, "text": ["lang"], "context": {"top_k": 1}}
    hooks: Any = {"on_ranking": rankings.append, "on_context": contexts.append}
    documents = RagRerankRetriever(first_stage, "lexical", **options, **hooks, tags=["a"]).invoke(QUERY)
    assert documents == RagRerank("lexical", **options).compress_documents(first_stage.documents, QUERY)
    assert documents == [first_stage.documents[2]]
    assert (len(rankings[0]), len(contexts[0])) == (3, 1)
    assert rankings[0][0].text == f"de\n{TEXTS[2]}"


def test_its_options_go_before_those_of_a_compressor_which_stays_as_it_was(first_stage: FirstStage) -> None:
    class Mine(RagRerank):
        pass

    rerank = Mine("lexical", score_key="bm25", top_k=2)
    retriever = RagRerankRetriever(first_stage, rerank, score_key=None, text=["lang"])
    assert isinstance(retriever.reranker, Mine)
    assert retriever.reranker.reranker is rerank.reranker
    assert (retriever.reranker.score_key, retriever.reranker.text, retriever.reranker.top_k) == (None, ("lang",), 2)
    assert (rerank.score_key, rerank.text) == ("bm25", None)
    with pytest.raises(ConfigError, match=r"^text: "):
        RagRerankRetriever(first_stage, rerank, text="{title")


def test_both_have_the_options_of_the_compressor_in_their_signature() -> None:
    compressor = inspect.signature(RagRerank).parameters
    retriever = inspect.signature(RagRerankRetriever).parameters
    names = {"top_k", "top_n", "k", "instruction", "context", "text", "vector_key", "score_key"}
    names |= {"on_context", "on_ranking"}
    assert set(compressor) == {"reranker", *names}
    assert set(retriever) == {"base_retriever", "reranker", "name", "tags", "metadata", *names}
    assert compressor["score_key"].default == retriever["score_key"].default == "relevance_score"
    assert set(RagRerank.model_fields) <= set(compressor)
    assert set(RagRerankRetriever.model_fields) <= set(retriever)


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
    assert "bm25" in RagRerankRetriever(first_stage, rerank, top_k=1).invoke(QUERY)[0].metadata
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
    with pytest.raises(ConfigError, match=r"^unknown option 'topk' of RagRerankRetriever; did you mean 'top_k'"):
        RagRerankRetriever(first_stage, "lexical", topk=3)
    with pytest.raises(ConfigError, match=r"^k: must be a whole number of at least 1"):
        RagRerankRetriever(first_stage, "lexical", k=0)
    with pytest.raises(ConfigError, match=r"^top_k=3 and k=2 are one option under two names"):
        RagRerankRetriever(first_stage, "lexical", top_k=3, k=2)
    with pytest.raises(ConfigError, match=r"^context: unknown option 'max_token' of Packing; did you mean"):
        RagRerankRetriever(first_stage, "lexical", context={"max_token": 3})
    with pytest.raises(ValidationError, match="tags"):
        RagRerankRetriever(first_stage, "lexical", tags=3)


def test_it_copies_pickles_and_never_shows_a_key(first_stage: FirstStage, remote: Any) -> None:
    retriever = RagRerankRetriever(base_retriever=first_stage, reranker="lexical", top_k=2, tags=["a"])
    assert retriever.reranker.reranker == build("lexical")
    for twin in (copy.deepcopy(retriever), pickle.loads(pickle.dumps(retriever))):
        assert twin.invoke(QUERY) == retriever.invoke(QUERY)
        assert twin.tags == ["a"]
    secretive = RagRerankRetriever(first_stage, {"type": "remote", "api_key": "sk-hidden"})
    assert "sk-hidden" not in repr(secretive) + dumps(secretive)
