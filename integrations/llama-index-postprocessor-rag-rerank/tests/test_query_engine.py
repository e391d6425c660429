from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from llama_index.core.base.response.schema import Response
from llama_index.core.callbacks import CallbackManager, CBEventType, LlamaDebugHandler
from llama_index.core.llms import MockLLM
from llama_index.core.postprocessor import SimilarityPostprocessor
from llama_index.core.query_engine import CitationQueryEngine, RetrieverQueryEngine
from llama_index.core.retrievers import BaseRetriever, RecursiveRetriever
from llama_index.core.schema import ImageNode, IndexNode, NodeWithScore, QueryBundle, TextNode
from rag_rerank.testing import ScriptedReranker

from llama_index.postprocessor.rag_rerank import RagRerank

QUERY = "how warm must a bearded dragon be kept?"
TEXTS = (
    "Cranes migrate along the coast in autumn.",
    "A dragon wants shade at noon.",
    "A bearded dragon must be kept warm.",
    "The museum opens at nine.",
)
BEST_FIRST = [TEXTS[2], TEXTS[1], TEXTS[0], TEXTS[3]]


class FirstStage(BaseRetriever):
    """A first stage that always finds the same nodes."""

    def __init__(self, nodes: list[NodeWithScore]) -> None:
        super().__init__()
        self.nodes = nodes

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return self.nodes


@pytest.fixture
def retriever() -> FirstStage:
    return FirstStage([NodeWithScore(node=TextNode(text=text, id_=text[:5]), score=0.5) for text in TEXTS])


def engine(retriever: BaseRetriever, *postprocessors: Any) -> RetrieverQueryEngine:
    return RetrieverQueryEngine.from_args(retriever, llm=MockLLM(), node_postprocessors=list(postprocessors))


def sources(response: Any) -> list[str]:
    assert isinstance(response, Response)
    return [node.get_content() for node in response.source_nodes]


async def test_a_query_engine_answers_from_the_reranked_nodes_sync_and_async(retriever: FirstStage) -> None:
    for top_k in (None, 2):
        query_engine = engine(retriever, RagRerank("lexical", top_k=top_k))
        answers = [query_engine.query(QUERY), await query_engine.aquery(QUERY)]
        for answer in answers:
            assert sources(answer) == BEST_FIRST[:top_k]
            assert [type(node.score) for node in answer.source_nodes] == [float] * len(answer.source_nodes)
            assert str(answer).index(TEXTS[2]) < str(answer).index(TEXTS[1])  # the mock model repeats its prompt
    assert [node.score for node in retriever.nodes] == [0.5] * 4


async def test_a_citation_engine_cites_the_reranked_nodes(retriever: FirstStage) -> None:
    query_engine = CitationQueryEngine.from_args(
        index=None,  # type: ignore[arg-type]
        retriever=retriever,
        llm=MockLLM(),
        node_postprocessors=[RagRerank("lexical", top_k=2)],
    )
    for answer in (query_engine.query(QUERY), await query_engine.aquery(QUERY)):
        assert [source.split("\n", 1)[1].strip() for source in sources(answer)] == BEST_FIRST[:2]


def test_the_engine_hands_its_callback_manager_over(retriever: FirstStage) -> None:
    debug = LlamaDebugHandler(print_trace_on_end=False)
    query_engine = RetrieverQueryEngine.from_args(
        retriever,
        llm=MockLLM(),
        node_postprocessors=[RagRerank("lexical")],
        callback_manager=CallbackManager([debug]),
    )
    query_engine.query(QUERY)
    assert len(debug.get_event_pairs(CBEventType.RERANKING)) == 1


async def test_the_rerank_event_of_an_async_query_belongs_to_the_rerankers_span(
    retriever: FirstStage, events: list[Any]
) -> None:
    await engine(retriever, RagRerank("lexical")).aquery(QUERY)
    spans = [event.span_id for event in events if event.class_name().startswith("ReRank")]
    assert len(spans) == 2
    assert all(span.startswith("RagRerank._apostprocess_nodes-") for span in spans)


def test_a_similarity_cutoff_behind_it_compares_the_new_scores_and_drops_what_has_none(retriever: FirstStage) -> None:
    retriever.nodes.insert(0, NodeWithScore(node=ImageNode(image_url="http://127.0.0.1/x.png"), score=0.99))
    reranker = ScriptedReranker(
        by_text={TEXTS[2]: 4.0, TEXTS[1]: 0.5, TEXTS[0]: -0.5}, default=-9, answers_on="sigmoid"
    )
    query_engine = engine(retriever, RagRerank(reranker), SimilarityPostprocessor(similarity_cutoff=0.5))
    assert sources(query_engine.query(QUERY)) == [TEXTS[2], TEXTS[1]]


def test_an_index_node_keeps_what_recursive_retrieval_needs() -> None:
    table = TextNode(text="the table itself")
    link = IndexNode(text=TEXTS[2], index_id="table", obj=table)
    nodes = [NodeWithScore(node=TextNode(text=TEXTS[0])), NodeWithScore(node=link)]
    ranked = RagRerank("lexical").postprocess_nodes(nodes, query_str=QUERY)
    assert ranked[0].node is link
    assert link.obj is table


def test_a_recursive_retriever_behind_a_reranked_engine_still_resolves_its_links(retriever: FirstStage) -> None:
    link = FirstStage([NodeWithScore(node=IndexNode(text="see the dragons", index_id="dragons"))])
    recursive = RecursiveRetriever("root", retriever_dict={"root": link, "dragons": retriever})
    assert sources(engine(recursive, RagRerank("lexical")).query(QUERY)) == BEST_FIRST


def test_one_word_in_the_config_changes_the_reranker(retriever: FirstStage, tmp_path: Path) -> None:
    config = tmp_path / "rerank.yaml"
    orders = {}
    for type in ("lexical", "embedded"):
        config.write_text(f"type: {type}\n")
        orders[type] = sources(engine(retriever, RagRerank(config, top_k=1)).query(QUERY))
    assert orders == {"lexical": [TEXTS[2]], "embedded": [TEXTS[2]]}


def test_the_example_of_the_readme_runs_and_puts_the_height_first(capsys: pytest.CaptureFixture[str]) -> None:
    readme = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"^```python\n(.*?)^```", readme, re.DOTALL | re.MULTILINE)
    exec(example, {})
    assert "8,611" in capsys.readouterr().out.splitlines()[0]
