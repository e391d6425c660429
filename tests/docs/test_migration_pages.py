"""What the migration pages say of other libraries: each page's "before" gives the order of its "after".

Each test needs the library that its page is about, and is skipped without it.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from textwrap import dedent

import pytest
from support.api.rerank_server import RerankServer
from support.doc_pages import DOCS
from support.doc_runner import run_page

PACKAGES = {
    "llama-index": ("sentence_transformers", "llama_index.core"),
    "langchain": ("sentence_transformers", "langchain_classic", "langchain_community"),
    "rerankers": ("rerankers", "transformers"),
    "flashrank": ("flashrank",),
}
REASON = "needs the other library"
SAME = "assert old == new, (old, new)\nassert len(new) == 5"
SETUP = """
import json
import os
import rag_rerank
from langchain_core.documents import Document
from llama_index.core.schema import NodeWithScore, TextNode

MODEL = "cross-encoder/ms-marco-MiniLM-L-6-v2"
QUERY = "how high is K2?"
TEXTS = ["K2 was first climbed in 1954.", "The library opens at 9:30.", "K2 is 8,611 m high."]
nodes = [NodeWithScore(node=TextNode(id_=str(i), text=text), score=0.5) for i, text in enumerate(TEXTS)]
documents = [Document(text, id=str(i)) for i, text in enumerate(TEXTS)]


def fails(work):
    try:
        work()
    except Exception as error:
        return type(error)
"""


def need(*packages: str) -> None:
    for package in ("torch", *packages):
        try:
            is_there = find_spec(package) is not None
        except ModuleNotFoundError:
            is_there = False
        if not is_there:
            pytest.skip(f"{package} is not installed")


@pytest.mark.parametrize("page", PACKAGES)
def test_before_and_after_give_the_same_order(
    page: str, tmp_path: Path, rerank_server: RerankServer, hub_cache: Callable[[], Path]
) -> None:
    need(*PACKAGES[page])
    if page == "flashrank":
        write_flashrank_model(tmp_path / "page" / "flashrank-models" / "ms-marco-TinyBERT-L-2-v2")
    run_page(DOCS / "migrate" / f"{page}.md", tmp_path, rerank_server, hub_cache, also=(REASON,), then=SAME)


def write_flashrank_model(folder: Path) -> None:
    """Write the model that stands in for TinyBERT in the hub's cache as FlashRank stores its own."""
    from support.tiny_checkpoints import checkpoint, onnx_export

    shutil.copytree(checkpoint("bert"), folder)
    (graph,) = onnx_export("bert").rglob("*.onnx")
    shutil.copy(graph, folder / "flashrank-TinyBERT-L-2-v2.onnx")
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    tokens = {name: token for name, token in settings.items() if name.endswith("_token")}
    (folder / "special_tokens_map.json").write_text(json.dumps(tokens))


@pytest.mark.parametrize("page", PACKAGES)
def test_every_new_line_of_the_tables_builds(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import langchain_rag_rerank
    from langchain_core.embeddings import DeterministicFakeEmbedding
    from langchain_core.runnables import RunnableLambda
    from llama_index.postprocessor import rag_rerank as llama_index_rag_rerank

    import rag_rerank

    adapter = langchain_rag_rerank.RagRerank if page == "langchain" else llama_index_rag_rerank.RagRerank
    names = {
        "build": rag_rerank.build,
        "RagRerank": adapter,
        "RagRerankRetriever": langchain_rag_rerank.RagRerankRetriever,
        "e": DeterministicFakeEmbedding(size=4),
        "r": RunnableLambda(lambda query: []),
        "c": langchain_rag_rerank.RagRerank("lexical"),
        "url": "http://127.0.0.1:8080",
        "name": "org/model",
    }
    text = (DOCS / "migrate" / f"{page}.md").read_text(encoding="utf-8")
    table = text.partition("## Old line, new line")[2].partition("\n## ")[0]
    cells = [line.split(" | ", maxsplit=1)[1] for line in table.splitlines() if line.startswith("| ")]
    lines = [line for cell in cells for line in re.findall(r"`((?:RagRerank(?:Retriever)?|build)\(.*?)`", cell)]
    lines += [f"RagRerank('lexical', {line})" for cell in cells for line in re.findall(r"`(context=\{.*?)`", cell)]
    assert len(lines) >= 5
    for folder in ("folder", "models/tinybert"):
        (tmp_path / folder).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    for line in lines:
        eval(line, names)


@pytest.fixture
def run_code(tmp_path: Path, rerank_server: RerankServer, hub_cache: Callable[[], Path]) -> Callable[[str], None]:
    """Run code with the stand-ins of the pages."""

    def run(code: str) -> None:
        page = tmp_path / "page.md"
        page.write_text(f"```python\n{SETUP}{dedent(code)}\n```\n", encoding="utf-8")
        run_page(page, tmp_path, rerank_server, hub_cache)

    return run


Run = Callable[[str], None]


def test_sentence_transformer_rerank_writes_numpy_scores_into_all_nodes(run_code: Run) -> None:
    need("sentence_transformers", "llama_index.core")
    run_code("""
        from llama_index.core.postprocessor import SentenceTransformerRerank
        from llama_index.postprocessor.rag_rerank import RagRerank
        ours = RagRerank(MODEL, top_k=1).postprocess_nodes(nodes, query_str=QUERY)
        assert [node.score for node in nodes] == [0.5, 0.5, 0.5]
        assert type(ours[0].score) is float
        theirs = SentenceTransformerRerank(model=MODEL, top_n=1).postprocess_nodes(nodes, query_str=QUERY)
        assert 0.5 not in [node.score for node in nodes]
        assert fails(lambda: json.dumps(theirs[0].score)) is TypeError
        assert theirs[0].node_id == ours[0].node_id
    """)


def test_an_unknown_option_is_ignored_there_and_refused_here(run_code: Run) -> None:
    need("llama_index.core")
    run_code("""
        from llama_index.core.postprocessor import LongContextReorder, SimilarityPostprocessor
        from llama_index.postprocessor.rag_rerank import RagRerank
        SimilarityPostprocessor(similarity_cutof=0.5)
        assert fails(lambda: RagRerank("lexical", topk=3)).__name__ == "ConfigError"
        nodes[1].score = None
        kept = SimilarityPostprocessor(similarity_cutoff=0.4).postprocess_nodes(nodes)
        assert [node.node_id for node in kept] == ["0", "2"]
        assert LongContextReorder
    """)


@pytest.mark.parametrize("count", [4, 5])
def test_long_context_reorder_has_the_best_first_or_last(count: int, run_code: Run) -> None:
    need("llama_index.core")
    run_code(f"""
        from llama_index.core.postprocessor import LongContextReorder
        from llama_index.postprocessor.rag_rerank import RagRerank
        words = "alpha beta gamma delta epsilon".split()[:{count}]
        texts = {{i: " ".join(words[:i]) for i in range(1, {count} + 1)}}
        nodes = [NodeWithScore(node=TextNode(id_=str(i), text=text), score=i) for i, text in texts.items()]
        theirs = [node.node_id for node in LongContextReorder().postprocess_nodes(nodes)]
        best, second = str({count}), str({count} - 1)
        assert (theirs[0], theirs[-1]) == ((best, second) if {count} % 2 else (second, best))
        rerank = RagRerank("lexical", context={{"order": "edges"}})
        ours = rerank.postprocess_nodes(nodes, query_str=" ".join(words))
        by_score = sorted(ours, key=lambda node: -node.score)
        assert [by_score[0], by_score[1]] == [ours[0], ours[-1]]
    """)


def test_cross_encoder_reranker_returns_the_same_documents_without_a_score(run_code: Run) -> None:
    need("sentence_transformers", "langchain_classic")
    run_code("""
        from langchain_classic.retrievers.document_compressors import CrossEncoderReranker
        from langchain_classic.retrievers.document_compressors.cross_encoder import BaseCrossEncoder
        from langchain_rag_rerank import RagRerank
        from sentence_transformers import CrossEncoder
        class Model(BaseCrossEncoder):
            def score(self, text_pairs):
                return CrossEncoder(MODEL).predict(text_pairs)
        theirs = CrossEncoderReranker(model=Model(), top_n=3).compress_documents(documents, QUERY)
        ours = RagRerank(MODEL, top_k=3).compress_documents(documents, QUERY)
        assert [document.page_content for document in theirs] == [document.page_content for document in ours]
        assert all(any(document is own for own in documents) for document in theirs)
        assert all(document.metadata == {} for document in theirs)
        assert [document.id for document in ours] == [document.id for document in theirs]
        assert {"relevance_score", "relevance_score_scale"} == set(ours[0].metadata)
    """)


@pytest.mark.parametrize("package", ["langchain_cohere", "langchain_voyageai"])
def test_partner_compressors_lose_ids(package: str, run_code: Run) -> None:
    need(package)
    run_code(f"""
        import {package}
        from langchain_rag_rerank import RagRerank
        if "{package}" == "langchain_cohere":
            theirs = {package}.CohereRerank(model="rerank-v3.5", top_n=3, base_url=os.environ["DOC_SERVER"])
        else:
            theirs = {package}.VoyageAIRerank(model="rerank-2.5", top_k=3)
        ours = RagRerank("cohere:rerank-v3.5" if "{package}" == "langchain_cohere" else "voyage:rerank-2.5", top_k=3)
        theirs, ours = theirs.compress_documents(documents, QUERY), ours.compress_documents(documents, QUERY)
        theirs.sort(key=lambda document: -document.metadata["relevance_score"])  # the server shuffles its answer
        assert [document.page_content for document in theirs] == [document.page_content for document in ours]
        assert [document.id for document in theirs] == [None] * 3
        assert {{document.id for document in ours}} == {{"0", "1", "2"}}
    """)


@pytest.mark.parametrize("package", ["cohere_rerank", "voyageai_rerank"])
def test_partner_postprocessors_give_the_same_order(package: str, run_code: Run) -> None:
    need(f"llama_index.postprocessor.{package}")
    run_code(f"""
        from llama_index.postprocessor import {package}
        from llama_index.postprocessor.rag_rerank import RagRerank
        if "{package}" == "cohere_rerank":
            theirs = {package}.CohereRerank(model="rerank-v3.5", top_n=3, base_url=os.environ["DOC_SERVER"])
        else:
            theirs = {package}.VoyageAIRerank(model="rerank-2.5", top_n=3)
        ours = RagRerank("cohere:rerank-v3.5" if "{package}" == "cohere_rerank" else "voyage:rerank-2.5", top_k=3)
        theirs, ours = (rerank.postprocess_nodes(nodes, query_str=QUERY) for rerank in (theirs, ours))
        theirs.sort(key=lambda node: -node.score)  # the server shuffles its answer
        assert [(node.node_id, node.score) for node in theirs] == [(node.node_id, node.score) for node in ours]
    """)


def test_flashrank_sorts_the_callers_list_in_place(run_code: Run, tmp_path: Path) -> None:
    need("flashrank")
    write_flashrank_model(tmp_path / "page" / "models" / "ms-marco-TinyBERT-L-2-v2")
    run_code("""
        from flashrank import Ranker, RerankRequest
        ranker = Ranker(model_name="ms-marco-TinyBERT-L-2-v2", cache_dir="models")
        passages = [{"id": i, "text": text} for i, text in enumerate(TEXTS)]
        results = ranker.rerank(RerankRequest(query=QUERY, passages=passages))
        assert results is passages
        assert fails(lambda: json.dumps(results[0]["score"])) is TypeError
        assert fails(lambda: ranker.rerank(RerankRequest(query=QUERY, passages=[]))) is not None
        assert len(rag_rerank.build("embedded").rerank(QUERY, [])) == 0
        scores = {str(result["id"]): float(result["score"]) for result in results}
        for hit in rag_rerank.build("tinybert").rerank(QUERY, TEXTS):
            assert abs(hit.score - scores[hit.id]) < 1e-4
    """)


def test_rerankers_gives_logits_and_one_document_no_rank(run_code: Run) -> None:
    need("rerankers", "transformers")
    run_code("""
        import asyncio
        from rerankers import Reranker
        ranker = Reranker(MODEL, model_type="cross-encoder", verbose=0)
        logits = {result.doc_id: result.score for result in ranker.rank(QUERY, TEXTS, doc_ids=["0", "1", "2"])}
        ranking = rag_rerank.build(MODEL).rerank(QUERY, TEXTS)
        for hit in ranking:
            assert abs(hit.raw_score - logits[hit.id]) < 1e-3
        assert ranker.rank(QUERY, TEXTS[:1])[0].rank is None
        assert asyncio.run(rag_rerank.build(MODEL).arerank(QUERY, TEXTS))[0].id == ranking[0].id
        api = Reranker("cohere", api_key="x", verbose=0)
        assert fails(lambda: Reranker("jinaai/jina-reranker-v2-base-multilingual", verbose=0)) is TypeError
        assert api.url.startswith("https://api.cohere.ai/v1")
    """)
