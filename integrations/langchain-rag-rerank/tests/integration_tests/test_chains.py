"""RagRerank in the host's own machinery."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, TypedDict

import pytest
from langchain_classic.retrievers import ContextualCompressionRetriever, EnsembleRetriever, MultiQueryRetriever
from langchain_classic.retrievers.document_compressors import DocumentCompressorPipeline
from langchain_core.documents import BaseDocumentTransformer, Document
from langchain_core.language_models import FakeListChatModel
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableLambda, RunnablePassthrough
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph

from langchain_rag_rerank import RagRerank, RagRerankRetriever

QUERY = "how warm must a bearded dragon be kept?"
TEXTS = (
    "Cranes migrate along the coast in autumn.",
    "A dragon wants shade at noon.",
    "A bearded dragon must be kept warm.",
    "The museum opens at nine.",
)
BEST_FIRST = [TEXTS[2], TEXTS[1], TEXTS[0], TEXTS[3]]


class FirstStage(BaseRetriever):
    """A first stage that always finds the same documents."""

    documents: list[Document]

    def _get_relevant_documents(self, query: str, *, run_manager: Any) -> list[Document]:
        return self.documents


@pytest.fixture
def first_stage() -> FirstStage:
    return FirstStage(documents=[Document(text, id=f"doc-{i}", metadata={"page": i}) for i, text in enumerate(TEXTS)])


def order(documents: list[Document]) -> list[str]:
    return [document.page_content for document in documents]


async def test_it_is_a_link_of_a_chain_and_its_run(first_stage: FirstStage, runs: Any) -> None:
    rerank = RagRerank("lexical", top_k=2).as_runnable()
    chain = {"documents": first_stage, "query": RunnablePassthrough()} | rerank
    config: Any = {"callbacks": [runs]}
    assert order(chain.invoke(QUERY, config)) == order(await chain.ainvoke(QUERY, config)) == BEST_FIRST[:2]
    assert runs.parents["rag_rerank"] == "RunnableSequence"


async def test_a_model_is_prompted_with_the_best_documents(first_stage: FirstStage, runs: Any) -> None:
    prompt = ChatPromptTemplate.from_template("Answer from:\n{context}\n\nQuestion: {question}")
    retriever = RagRerankRetriever(first_stage, "lexical", top_k=1)
    chain = (
        {"context": retriever | (lambda documents: "\n".join(order(documents))), "question": RunnablePassthrough()}
        | prompt
        | FakeListChatModel(responses=["About forty degrees."])
        | StrOutputParser()
    )
    config: Any = {"callbacks": [runs]}
    assert chain.invoke(QUERY, config) == await chain.ainvoke(QUERY, config) == "About forty degrees."
    (message,) = runs.outputs["ChatPromptTemplate"].messages
    assert message.content == f"Answer from:\n{TEXTS[2]}\n\nQuestion: {QUERY}"
    assert runs.parents["rag_rerank"] == "RagRerankRetriever"


async def test_inside_a_function_of_a_chain_its_run_finds_its_parent(first_stage: FirstStage, runs: Any) -> None:
    rerank = RagRerank("lexical", top_k=1)

    def search(query: str) -> list[Document]:
        return rerank.compress_documents(first_stage.documents, query)

    step = RunnableLambda(search, name="step")
    assert order(step.invoke(QUERY, {"callbacks": [runs]})) == BEST_FIRST[:1]
    assert runs.parents == {"step": None, "rag_rerank": "step"}


async def test_contextual_compression_retriever(first_stage: FirstStage, runs: Any) -> None:
    retriever = ContextualCompressionRetriever(
        base_compressor=RagRerank("lexical", top_k=3), base_retriever=first_stage
    )
    config: Any = {"callbacks": [runs]}
    ranked = retriever.invoke(QUERY, config)
    assert ranked == await retriever.ainvoke(QUERY, config)
    assert order(ranked) == BEST_FIRST[:3]
    assert [document.id for document in ranked] == ["doc-2", "doc-1", "doc-0"]
    assert runs.parents["rag_rerank"] == "ContextualCompressionRetriever"


async def test_document_compressor_pipeline(first_stage: FirstStage, runs: Any) -> None:
    class Halves(BaseDocumentTransformer):
        def transform_documents(self, documents: Any, **kwargs: Any) -> list[Document]:
            return [
                document.model_copy(update={"page_content": part})
                for document in documents
                for part in document.page_content.split(" must ")
            ]

    pipeline = DocumentCompressorPipeline(transformers=[Halves(), RagRerank("lexical", top_k=2)])
    for ranked in (
        pipeline.compress_documents(first_stage.documents, QUERY, callbacks=[runs]),
        await pipeline.acompress_documents(first_stage.documents, QUERY, callbacks=[runs]),
    ):
        assert sorted(order(list(ranked))) == ["A bearded dragon", "be kept warm."]
        assert runs.parents == {"rag_rerank": None}


class State(TypedDict):
    query: str
    documents: list[Document]


async def test_a_graph_checkpoints_the_result_of_its_rerank_node(first_stage: FirstStage) -> None:
    rerank = RagRerank("lexical", top_k=2)

    def sync_node(state: State) -> dict[str, Any]:
        return {"documents": rerank.compress_documents(state["documents"], state["query"])}

    async def async_node(state: State) -> dict[str, Any]:
        return {"documents": await rerank.acompress_documents(state["documents"], state["query"])}

    graph = StateGraph(State)
    graph.add_node("rerank", RunnableLambda(sync_node, afunc=async_node))
    graph.add_edge(START, "rerank")
    graph.add_edge("rerank", END)
    app = graph.compile(checkpointer=InMemorySaver())
    state: State = {"query": QUERY, "documents": [*first_stage.documents, Document("")]}
    for thread, invoke in (("sync", app.invoke), ("async", app.ainvoke)):
        config: Any = {"configurable": {"thread_id": thread}}
        answer = invoke(state, config)
        answer = answer if isinstance(answer, dict) else await answer
        documents = app.get_state(config).values["documents"]
        assert documents == answer["documents"]
        assert [(document.id, document.metadata["page"]) for document in documents] == [("doc-2", 2), ("doc-1", 1)]
        assert [type(document.metadata["relevance_score"]) for document in documents] == [float, float]


def test_one_word_in_the_config_changes_the_reranker(first_stage: FirstStage, tmp_path: Path) -> None:
    config = tmp_path / "rerank.yaml"
    results = {}
    for type in ("lexical", "embedded"):
        config.write_text(f"type: {type}\n")
        (document,) = RagRerankRetriever(first_stage, config, top_k=1).invoke(QUERY)
        results[type] = (document.page_content, document.metadata["relevance_score_scale"])
    assert results == {"lexical": (TEXTS[2], "unbounded"), "embedded": (TEXTS[2], "sigmoid")}


def test_the_example_of_the_readme_runs_and_puts_the_height_first(capsys: pytest.CaptureFixture[str]) -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"^```python\n(.*?)^```", readme, re.DOTALL | re.MULTILINE)
    exec(example, {})
    assert "8,611" in capsys.readouterr().out.splitlines()[0]


def queries_of(*lines: str) -> Any:
    """Return a chain that answers with these queries, as MultiQueryRetriever's language model does."""
    return RunnableLambda(lambda _: list(lines))


async def test_without_scores_what_several_queries_bring_merges_in_a_multi_query_retriever(
    first_stage: FirstStage,
) -> None:
    def union(**options: Any) -> MultiQueryRetriever:
        inner = RagRerankRetriever(first_stage, "lexical", top_k=3, **options)
        return MultiQueryRetriever(retriever=inner, llm_chain=queries_of(QUERY, "when does the museum open?"))

    for documents in (union(score_key=None).invoke(QUERY), await union(score_key=None).ainvoke(QUERY)):
        assert order(documents) == [*BEST_FIRST[:3], TEXTS[3]]
        assert all(document in first_stage.documents for document in documents)
    assert len(union().invoke(QUERY)) > 4  # the scores of two queries make two documents of one
    packed = union(score_key=None, context={"max_tokens": 200, "tokenizer": len}, text=["page"]).invoke(QUERY)
    assert len({document.id for document in packed}) == len(packed)


async def test_the_union_of_several_queries_is_reranked_for_the_first_one(first_stage: FirstStage) -> None:
    union = MultiQueryRetriever(retriever=first_stage, llm_chain=queries_of(QUERY, "when does the museum open?"))
    retriever = RagRerankRetriever(union, "lexical", top_k=2)
    for documents in (retriever.invoke(QUERY), await retriever.ainvoke(QUERY)):
        assert order(documents) == BEST_FIRST[:2]
        assert "relevance_score" in documents[0].metadata


async def test_an_ensemble_retriever_finds_no_doubles(first_stage: FirstStage) -> None:
    for options in ({}, {"score_key": None}):
        members = [RagRerankRetriever(first_stage, name, top_k=3, **options) for name in ("lexical", "embedded")]
        ensemble = EnsembleRetriever(retrievers=[*members, first_stage], weights=[1, 1, 0.1])
        for documents in (ensemble.invoke(QUERY), await ensemble.ainvoke(QUERY)):
            assert sorted(order(documents)) == sorted(TEXTS)
            assert order(documents)[0] == TEXTS[2]
