"""One file, one word: the same chain on every provider, directly and in each host."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from langchain_core.documents import Document
from langchain_core.runnables import RunnableLambda
from langchain_rag_rerank import RagRerankRetriever
from llama_index.core import MockEmbedding, VectorStoreIndex
from llama_index.core.llms import MockLLM
from llama_index.core.schema import TextNode
from llama_index.postprocessor.rag_rerank import RagRerank
from support import tiny_checkpoints
from support.api.rerank_server import Answer, Received, RerankServer

import rag_rerank

QUERY = "How warm should a bearded dragon be kept?"
TEXTS = (
    "Cranes migrate along the warm coast in autumn.",
    "A bearded dragon should be kept warm: about forty degrees at the basking spot.",
    "The library should be open, and has a book on the bearded dragon.",
)
CONFIG = """\
type: fallback
members:
  - type: {provider}   # the word to change
    {where}
  - type: lexical
"""


PROVIDERS = ("deepinfra", "google", "jina", "openrouter", "pinecone", "tei", "vllm", "zeroentropy")
"""Names that are dialects of ``http``: one of each shape of request and answer."""


@pytest.fixture(params=["embedded", "onnx", "torch", "cohere", "voyage", "decisions", "http", "lexical", *PROVIDERS])
def config(
    request: pytest.FixtureRequest, tmp_path: Path, rerank_server: RerankServer, monkeypatch: pytest.MonkeyPatch
) -> Path:
    for name in ("CO_API_KEY", "VOYAGE_API_KEY", "GOOGLE_CLOUD_PROJECT"):
        monkeypatch.setenv(name, "k")
    where = {
        "onnx": "model: embedded",
        "torch": f"model: {tiny_checkpoints.checkpoint('bert')}",
        "http": f"dialect: tei\n    base_url: {rerank_server.base('tei')}",
        "cohere": f"base_url: {rerank_server.url}",
        "voyage": f"base_url: {rerank_server.voyage_url}",
        "decisions": f"model: nimble\n    base_url: {rerank_server.base('systemone')}",
        **{name: f"model: m\n    base_url: {rerank_server.base(name)}" for name in PROVIDERS},
    }
    file = tmp_path / "rerank.yaml"
    file.write_text(CONFIG.format(provider=request.param, where=where.get(request.param, "name: first")))
    return file


@pytest.fixture
def expected(config: Path) -> list[str]:
    """The order of the direct call, which must have been answered by the named provider."""
    ranking = rag_rerank.load(config).rerank(QUERY, TEXTS)
    assert not ranking.degraded
    return [hit.text for hit in ranking]


def test_directly_and_async(config: Path, expected: list[str]) -> None:
    ranking = asyncio.run(rag_rerank.load(config).arerank(QUERY, TEXTS))
    assert [hit.text for hit in ranking] == expected
    if "torch" not in config.read_text():  # its checkpoint is random
        assert expected[0] == TEXTS[1]


def test_in_a_query_engine(config: Path, expected: list[str]) -> None:
    index = VectorStoreIndex([TextNode(text=text) for text in TEXTS], embed_model=MockEmbedding(embed_dim=4))
    rerank: Any = RagRerank(str(config), top_k=2)
    engine = index.as_query_engine(llm=MockLLM(), similarity_top_k=3, node_postprocessors=[rerank])
    responses = [engine.query(QUERY), asyncio.run(engine.aquery(QUERY))]
    for response in responses:
        assert [node.text for node in response.source_nodes] == expected[:2]


def test_in_a_chain(config: Path, expected: list[str]) -> None:
    first_stage = RunnableLambda(lambda query: [Document(text) for text in TEXTS])
    retriever = RagRerankRetriever(first_stage, str(config), top_k=2)
    for documents in (retriever.invoke(QUERY), asyncio.run(retriever.ainvoke(QUERY))):
        assert [document.page_content for document in documents] == expected[:2]


def test_in_a_pipeline(config: Path, expected: list[str]) -> None:
    haystack = pytest.importorskip("haystack", reason="needs haystack-ai")
    from haystack_integrations.components.rankers.rag_rerank import RagRerankRanker

    pipeline = haystack.Pipeline()
    pipeline.add_component("ranker", RagRerankRanker(str(config), top_k=2))
    data = {"query": QUERY, "documents": [haystack.Document(content=text) for text in TEXTS]}
    ranker = haystack.Pipeline.loads(pipeline.dumps()).get_component("ranker")
    answers = [pipeline.run({"ranker": data})["ranker"], asyncio.run(ranker.run_async(**data))]
    for answer in answers:
        assert [document.content for document in answer["documents"]] == expected[:2]


@pytest.mark.parametrize("world", ["sync", "async"])
def test_a_model_moves_from_this_machine_to_a_server_by_config_alone(
    world: str, tmp_path: Path, rerank_server: RerankServer
) -> None:
    texts = [f"{text} {i}" for i in range(15) for text in TEXTS]  # more than TEI takes at once
    model = rag_rerank.build("onnx:embedded")

    def served(request: Received) -> Answer:
        scores = {hit.text: hit.raw_score for hit in model.rerank(request.body["query"], request.texts)}
        return Answer(
            rows=lambda rows: [{**row, "relevance_score": scores[request.texts[row["index"]]]} for row in rows]
        )

    rerank_server.rule = served
    nodes = {
        "here": "type: onnx\nmodel: embedded\n",
        "there": f"type: http\ndialect: tei\nbase_url: {rerank_server.base('tei')}\n",
    }
    rankings = {}
    for name, node in nodes.items():
        file = tmp_path / f"{name}.yaml"
        file.write_text(node)
        with rag_rerank.load(file) as reranker:
            rankings[name] = (
                reranker.rerank(QUERY, texts) if world == "sync" else asyncio.run(reranker.arerank(QUERY, texts))
            )
    here, there = rankings["here"], rankings["there"]
    assert [len(request.texts) for request in rerank_server.received] == [32, 13]
    assert here.scale == there.scale == "sigmoid"
    assert [(hit.id, hit.score, hit.raw_score) for hit in there] == [(hit.id, hit.score, hit.raw_score) for hit in here]
