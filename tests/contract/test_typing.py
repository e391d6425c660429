"""What a type checker says of calls of the front door and of both adapters: it finds each wrong line and no other."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

CODE = """\
from collections.abc import Iterator
from typing import Any
from langchain_core.documents import Document
from langchain_core.runnables import RunnableLambda
from langchain_rag_rerank import RagRerank, RagRerankRetriever
from llama_index.core.schema import MetadataMode, NodeWithScore
from llama_index.postprocessor.rag_rerank import RagRerank as NodeRerank
from rag_rerank import Candidate, Cascade, Context, Ensemble, Fallback, Hedge, Packing, Ranking, Reranker, Stage, build

async def awaited(ranking: Ranking) -> None: ...
def plain(context: Context) -> None: ...
def stream() -> Iterator[str]:
    yield "a"

rankings: list[Ranking] = []
texts: list[str] = ["a"]
candidates: list[Candidate] = [Candidate("1", "a")]
rerankers: list[Reranker] = [build("lexical"), build("embedded")]
stages: list[Stage] = [Stage(reranker=build("lexical"))]
documents: list[Document] = []
nodes: list[NodeWithScore] = []
options: dict[str, Any] = {"top_k": 3}
first = RunnableLambda(lambda query: documents)

reranker: Reranker = build("lexical")
ranking: Ranking = reranker.rerank("q", texts)
ranking = reranker.rerank("q", candidates)
ranking = reranker.rerank("q", stream())
ranking = reranker.rerank("q", filter(None, texts))
reranker = Cascade(stages=stages)
reranker = Fallback(members=rerankers)
reranker = Hedge(members=rerankers, after=0.5)
reranker = Ensemble(members=rerankers, weights=[1.0, 2.0], fusion="weighted")
rerank = RagRerank("lexical", top_k=3, context=Packing(top_k=3), text=texts, on_ranking=awaited, on_context=plain)
rerank = RagRerank({"type": "lexical"}, context={"top_k": 3}, text="{a}", score_key=None, on_ranking=rankings.append)
rerank = RagRerank(reranker, **options)
rerank.compress_documents(iter(documents), "q")
retriever = RagRerankRetriever(first, rerank, top_n=3, context=Packing(), on_ranking=awaited, tags=["a"])
node_rerank = NodeRerank("lexical", k=3, metadata_mode=MetadataMode.NONE, on_ranking=awaited, context={"top_k": 3})
node_rerank = NodeRerank("lexical", metadata_mode="none", on_context=plain)
node_rerank.postprocess_nodes((node for node in nodes), "q")

Packing(max_token=3)  # wrong
Packing(order="best")  # wrong
reranker.rerank("q", texts, topk=3)  # wrong
reranker.rerank("q", [1])  # wrong
Cascade(stages=rerankers)  # wrong
Fallback(member=rerankers)  # wrong
RagRerank("lexical", max_token=3)  # wrong
RagRerank("lexical", top_k="3")  # wrong
RagRerank("lexical", text=3)  # wrong
RagRerank("lexical", on_ranking=3)  # wrong
RagRerank("lexical", on_ranking=plain)  # wrong
RagRerankRetriever(first, "lexical", max_token=3)  # wrong
RagRerankRetriever(first, "lexical", context=3)  # wrong
RagRerankRetriever("lexical")  # wrong
NodeRerank("lexical", max_token=3)  # wrong
NodeRerank("lexical", top_n="3")  # wrong
"""


def test_a_type_checker_finds_each_wrong_line_and_no_other(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    paths = [ROOT, *(ROOT / "integrations").iterdir()]
    (tmp_path / "mypy.ini").write_text(
        "[mypy]\n"
        f"mypy_path = {':'.join(str(path) for path in paths if path.is_dir())}\n"
        "namespace_packages = True\nexplicit_package_bases = True\nfollow_imports = silent\n"
        "no_site_packages = True\nignore_missing_imports = True\n"  # the hosts alone would take ten times as long
    )
    (tmp_path / "app.py").write_text(CODE)
    command = [sys.executable, "-m", "mypy", "--config-file", "mypy.ini", "--cache-dir", "cache", "app.py"]
    report = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    errors = {int(line) for line in re.findall(r"^app\.py:(\d+): error:", report.stdout, re.MULTILINE)}
    wrong = {i for i, line in enumerate(CODE.splitlines(), 1) if line.endswith("# wrong")}
    assert errors == wrong, report.stdout + report.stderr
