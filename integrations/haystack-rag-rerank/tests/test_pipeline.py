"""The components inside Haystack's own machinery: pipelines, YAML, super components, tools, tracing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, ClassVar

import pytest
from haystack import Document, Pipeline, SuperComponent
from haystack.components.builders import PromptBuilder
from haystack.components.retrievers.in_memory import InMemoryBM25Retriever
from haystack.components.writers import DocumentWriter
from haystack.core.errors import PipelineRuntimeError
from haystack.document_stores.in_memory import InMemoryDocumentStore
from haystack.tools import ComponentTool
from rag_rerank import BackendUnavailable, Fallback, Ranking, build
from rag_rerank.testing import ScriptedReranker

from haystack_integrations.components.rankers.rag_rerank import RagRerankIndexer, RagRerankRanker

pytestmark = pytest.mark.integration

QUERY = "how tall is K2?"
TEXTS = ("K2 was first climbed in 1954.", "Lake Garda is 346 m deep.", "K2 is 8,611 m high.")
CONFIG = {"type": "cascade", "stages": [{"reranker": "lexical", "depth": 3}, {"reranker": "embedded"}]}

EMBEDDED = build("embedded")
"""Loaded once for all tests of this file."""

Run = Callable[..., Any]
Make = Callable[..., Pipeline]


@pytest.fixture
def retriever() -> InMemoryBM25Retriever:
    store = InMemoryDocumentStore()
    store.write_documents([Document(id=f"d{i}", content=text, meta={"n": i}) for i, text in enumerate(TEXTS)])
    return InMemoryBM25Retriever(store)


def test_a_query_pipeline_reranks_and_its_prompt_reads_the_best_first(run: Run, retriever: Any, pipeline: Make) -> None:
    rag = pipeline(retriever=retriever, ranker=RagRerankRanker(EMBEDDED, top_k=2))
    rag.add_component("prompt", PromptBuilder("{% for d in documents %}{{ d.content }}|{% endfor %}"))
    rag.connect("ranker.documents", "prompt.documents")
    for options, texts in (({}, (TEXTS[2], TEXTS[0])), ({"top_k": 1}, (TEXTS[2],))):
        answer = run(rag, {"retriever": {"query": QUERY}, "ranker": {"query": QUERY, **options}})
        assert answer["prompt"]["prompt"] == "".join(f"{text}|" for text in texts)


def test_a_saved_pipeline_ranks_as_before(retriever: Any, pipeline: Make) -> None:
    made = pipeline(retriever=retriever, ranker=RagRerankRanker(CONFIG, top_k=2, text=["n"]))
    loaded = Pipeline.loads(made.dumps())
    assert loaded.dumps() == made.dumps()
    best = loaded.run({"retriever": {"query": QUERY}, "ranker": {"query": QUERY}})["ranker"]["documents"]
    assert [document.content for document in best] == [TEXTS[2], TEXTS[0]]


def test_one_word_in_the_yaml_swaps_the_reranker(pipeline: Make) -> None:
    saved = pipeline(ranker=RagRerankRanker("lexical")).dumps()
    documents = [Document(content=text) for text in TEXTS]
    for name, known in {"lexical": build("lexical"), "embedded": EMBEDDED}.items():
        swapped = Pipeline.loads(saved.replace("type: lexical", f"type: {name}"))
        best = swapped.run({"ranker": {"query": QUERY, "documents": documents}})["ranker"]["documents"]
        assert [document.content for document in best] == [hit.text for hit in known.rerank(QUERY, TEXTS)]


class Down(ScriptedReranker):
    """A server that is down: it can neither load nor answer."""

    loads: ClassVar[list[str]] = []

    def warm_up(self) -> None:
        self.loads.append("load")
        raise BackendUnavailable("down", backend="scripted")


def test_a_server_that_is_down_when_a_pipeline_loads_leaves_the_answer_to_the_fallback(
    retriever: Any, pipeline: Make, caplog: pytest.LogCaptureFixture
) -> None:
    first = Down(error=BackendUnavailable("down", backend="scripted"))
    rankings: list[Ranking] = []
    ranker = RagRerankRanker(Fallback(members=[first, build("lexical")]), on_ranking=rankings.append)
    made = pipeline(retriever=retriever, ranker=ranker)
    for _ in range(2):
        best = made.run({"retriever": {"query": QUERY}, "ranker": {"query": QUERY}})["ranker"]["documents"]
        assert best[0].content == TEXTS[2]
    assert all(ranking.degraded for ranking in rankings)
    assert (caplog.text.count("not loaded ahead: "), caplog.text.count("degraded ranking")) == (1, 2)
    asyncio.run(ranker.close_async())
    asyncio.run(ranker.warm_up_async())
    assert first.loads == ["load", "load"]  # once for both runs, and once after it was closed


def test_an_error_reaches_the_caller_with_its_cause(run: Run, pipeline: Make) -> None:
    error = BackendUnavailable("down", backend="scripted")
    made = pipeline(ranker=RagRerankRanker(ScriptedReranker(error=error)))
    with pytest.raises(PipelineRuntimeError, match="down") as caught:
        made.run({"ranker": {"query": QUERY, "documents": [Document(content="a")]}})
    assert isinstance(caught.value.__cause__, BackendUnavailable)


def test_the_span_of_the_component_has_the_outcome(spans: Any, retriever: Any, pipeline: Make) -> None:
    members = [ScriptedReranker(error=BackendUnavailable("down", backend="x"), name="first"), build("lexical")]
    made = pipeline(retriever=retriever, ranker=RagRerankRanker(Fallback(members=members), context={"top_k": 1}))
    made.run({"retriever": {"query": QUERY}, "ranker": {"query": QUERY}})
    tags = spans.tags["ranker"]
    assert tags["rag_rerank.scale"] == "unbounded" and "first" in tags["rag_rerank.degraded"]
    assert (tags["rag_rerank.usage.texts"], tags["rag_rerank.context.pieces"]) == (3, 1)
    assert all(type(value) in (str, int, float) for name, value in tags.items() if name.startswith("rag_rerank."))
    assert not any(text in str(tags) for text in TEXTS)


def test_in_a_super_component_and_as_a_tool(retriever: Any, pipeline: Make) -> None:
    made = pipeline(retriever=retriever, ranker=RagRerankRanker(EMBEDDED, top_k=2))
    search = SuperComponent(
        made,
        input_mapping={"query": ["retriever.query", "ranker.query"]},
        output_mapping={"ranker.documents": "documents"},
    )
    assert search.run(query=QUERY)["documents"][0].content == TEXTS[2]
    tool = ComponentTool(RagRerankRanker("lexical"), name="rerank", description="Order documents.")
    assert "What the user wants to know" in tool.parameters["properties"]["query"]["description"]
    found = tool.invoke(query=QUERY, documents=[{"content": text} for text in TEXTS])
    assert found["documents"][0].content == TEXTS[2]


@pytest.mark.parametrize("text", [None, ["n"]])
def test_an_indexing_pipeline_encodes_what_the_ranker_reads(tmp_path: Any, pipeline: Make, text: Any) -> None:
    pytest.importorskip("lmdb", reason="needs the extra store")
    config = {"type": "late_interaction", "model": "embedded", "store": {"path": str(tmp_path)}}
    documents = [Document(id=f"d{i}", content=text, meta={"n": i}) for i, text in enumerate(TEXTS)]
    store = InMemoryDocumentStore()
    indexing = pipeline(indexer=RagRerankIndexer(config, text=text), writer=DocumentWriter(store))
    assert indexing.run({"indexer": {"documents": documents}})["writer"]["documents_written"] == 3
    rankings: list[Ranking] = []
    ranker = RagRerankRanker(config, text=text, on_ranking=rankings.append)
    asyncio.run(ranker.run_async(query=QUERY, documents=store.filter_documents()))
    (note,) = [note for step in rankings[0].trace.walk() for note in step.notes if "store" in note]
    assert "3 of 3 texts" in note
    ranker.close()
    asyncio.run(ranker.close_async())
