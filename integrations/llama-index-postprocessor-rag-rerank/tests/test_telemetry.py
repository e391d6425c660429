"""One reranking is one RERANKER span, whether LlamaIndex's instrumentor makes it or telemetry does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

import pytest
from llama_index.core.llms import MockLLM
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.retrievers import BaseRetriever
from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode
from openinference.instrumentation.llama_index import LlamaIndexInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode
from rag_rerank import Cascade, RateLimited, Shadow, Stage, telemetry
from rag_rerank.testing import ScriptedReranker

from llama_index.postprocessor.rag_rerank import RagRerank

KIND = "openinference.span.kind"
HOSTS = {"sync": "RagRerank._postprocess_nodes", "async": "RagRerank._apostprocess_nodes"}


class FirstStage(BaseRetriever):
    """A first stage that always finds the same nodes."""

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return [NodeWithScore(node=TextNode(text=text, id_=f"n-{text}"), score=0.5) for text in ("a", "b", "c")]


class Traced:
    """The spans of telemetry and of the instrumentor, in one exporter as in an application."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))

    @property
    def spans(self) -> tuple[Any, ...]:
        return self.exporter.get_finished_spans()

    @property
    def rerankers(self) -> list[Any]:
        return [span for span in self.spans if span.attributes.get(KIND) == "RERANKER"]

    @property
    def parents(self) -> dict[str, str | None]:
        names = {span.context.span_id: span.name for span in self.spans}
        return {span.name: span.parent and names[span.parent.span_id] for span in self.spans}


@pytest.fixture
def traced() -> Iterator[Traced]:
    traced_spans = Traced()
    telemetry.instrument(tracer_provider=traced_spans.provider)
    yield traced_spans
    telemetry.uninstrument()


@pytest.fixture
def hosted(traced: Traced) -> Iterator[Traced]:
    instrumentor = LlamaIndexInstrumentor()
    instrumentor.instrument(tracer_provider=traced.provider)
    yield traced
    instrumentor.uninstrument()


def two_stages() -> Cascade:
    return Cascade(
        stages=(
            Stage(reranker=ScriptedReranker(name="first")),
            Stage(reranker=ScriptedReranker(name="second", by_text={"c": 2.0}), depth=3),
        )
    )


async def query(how: str, reranker: Any) -> Any:
    engine = RetrieverQueryEngine.from_args(
        FirstStage(), llm=MockLLM(), node_postprocessors=[RagRerank(reranker, top_k=2)]
    )
    return engine.query("q") if how == "sync" else await engine.aquery("q")


@pytest.mark.parametrize("how", ["sync", "async"])
async def test_the_span_of_the_instrumentor_is_the_only_reranker_and_has_our_facts(hosted: Traced, how: str) -> None:
    await query(how, two_stages())
    [span] = hosted.rerankers
    assert span.name == HOSTS[how]
    assert span.attributes["reranker.output_documents.0.document.id"] == "n-c"
    assert span.attributes["rag_rerank.kind"] == "cascade"
    assert (span.attributes["rag_rerank.scale"], span.attributes["rag_rerank.candidates"]) == ("unbounded", 3)
    assert hosted.parents["rerank first"] == hosted.parents["rerank second"] == HOSTS[how]
    assert "rerank cascade" not in hosted.parents
    assert len({span.context.trace_id for span in hosted.spans}) == 1


@pytest.mark.parametrize("how", ["sync", "async"])
async def test_without_the_instrumentor_the_span_is_ours(traced: Traced, how: str) -> None:
    await query(how, two_stages())
    [span] = traced.rerankers
    assert span.name == "rerank cascade" and span.attributes["reranker.top_k"] == 2
    assert traced.parents == {
        "rerank cascade": None,
        "rerank first": "rerank cascade",
        "rerank second": "rerank cascade",
    }


async def test_once_the_instrumentor_is_gone_the_span_is_ours_again(hosted: Traced) -> None:
    LlamaIndexInstrumentor().uninstrument()
    await query("async", ScriptedReranker(name="r"))
    assert [span.name for span in hosted.rerankers] == ["rerank r"]
    LlamaIndexInstrumentor().instrument(tracer_provider=hosted.provider)


@pytest.mark.parametrize("how", ["sync", "async"])
async def test_a_failed_call_is_reported_by_the_instrumentor_once(hosted: Traced, how: str) -> None:
    with pytest.raises(RateLimited):
        await query(how, ScriptedReranker(name="r", error=RateLimited("no")))
    [span] = hosted.rerankers
    assert span.name == HOSTS[how] and span.status.status_code is StatusCode.ERROR
    assert [event.name for event in span.events] == ["exception"]
    assert span.attributes["rag_rerank.reranker"] == "r"


async def test_a_call_beside_the_postprocessor_has_a_span_of_its_own(hosted: Traced) -> None:
    def also(ranking: Any) -> None:
        ScriptedReranker(name="other").rerank("q", ["a"])

    node = NodeWithScore(node=TextNode(text="a"), score=0.5)
    RagRerank(ScriptedReranker(name="r"), on_ranking=also).postprocess_nodes([node], query_str="q")
    assert sorted(span.name for span in hosted.rerankers) == [HOSTS["sync"], "rerank other"]


async def test_a_shadow_does_not_pass_for_the_call_of_the_host(hosted: Traced) -> None:
    with Shadow(reranker=ScriptedReranker(name="live"), other=ScriptedReranker(name="new"), share=1.0) as shadow:
        await query("sync", shadow)
    [span] = hosted.rerankers
    assert span.attributes["rag_rerank.reranker"] == "shadow(live)"
    [beside] = [span for span in hosted.spans if span.name == "rerank new"]
    assert beside.attributes[KIND] == "CHAIN" and beside.parent is not None


async def test_a_shadow_that_starts_after_the_host_has_ended_hangs_below_its_span(
    hosted: Traced, monkeypatch: pytest.MonkeyPatch
) -> None:
    delayed: list[Callable[[], object]] = []

    def start_later(work: Callable[[], object]) -> Future[object]:
        delayed.append(work)
        return Future()

    monkeypatch.setattr("rag_rerank.execution.background.start_thread", start_later)
    await query("sync", Shadow(reranker=ScriptedReranker(), other=ScriptedReranker(name="new"), share=1.0))
    [work] = delayed
    work()
    [span] = hosted.rerankers
    [beside] = [span for span in hosted.spans if span.name == "rerank new"]
    assert beside.parent.span_id == span.context.span_id
