"""LangChain's instrumentor sees a chain and no reranking, so the one RERANKER span is that of telemetry."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from langchain_core.documents import Document
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from rag_rerank import Cascade, Stage, telemetry
from rag_rerank.testing import ScriptedReranker

from langchain_rag_rerank import RagRerank

DOCUMENTS = [Document(page_content=text) for text in ("a", "b", "c")]


@pytest.fixture
def exporter() -> Iterator[InMemorySpanExporter]:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    telemetry.instrument(tracer_provider=provider)
    yield exporter
    telemetry.uninstrument()


@pytest.mark.parametrize("way", ["compressor", "runnable"])
@pytest.mark.parametrize("how", ["sync", "async"])
async def test_a_call_is_one_reranker_span(exporter: InMemorySpanExporter, way: str, how: str) -> None:
    leaf = ScriptedReranker(name="leaf", by_text={"c": 2.0})
    rerank = RagRerank(Cascade(stages=(Stage(reranker=leaf),)), top_k=1)
    link: Any = rerank.as_runnable()
    if way == "compressor":
        if how == "sync":
            documents = rerank.compress_documents(DOCUMENTS, "q")
        else:
            documents = await rerank.acompress_documents(DOCUMENTS, "q")
    else:
        request = {"documents": DOCUMENTS, "query": "q"}
        documents = link.invoke(request) if how == "sync" else await link.ainvoke(request)
    assert [document.page_content for document in documents] == ["c"]
    spans = exporter.get_finished_spans()
    [span] = [span for span in spans if (span.attributes or {})["openinference.span.kind"] == "RERANKER"]
    assert span.name == "rerank cascade" and span.attributes is not None
    assert span.attributes["reranker.output_documents.0.document.id"] == "2"  # the position: documents may lack ids
    assert [(other.name, other.parent.span_id) for other in spans if other.parent] == [
        ("rerank leaf", span.context.span_id)
    ]
