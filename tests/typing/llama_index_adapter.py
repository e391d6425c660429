"""The adapter for LlamaIndex."""

from __future__ import annotations

from typing import Any

from llama_index.core.ingestion import IngestionPipeline
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import MetadataMode, NodeWithScore, QueryBundle, TransformComponent
from llama_index.postprocessor.rag_rerank import RagRerank
from llama_index.postprocessor.rag_rerank.indexer import RagRerankIndexer
from typing_extensions import assert_type

from rag_rerank import Context, Packing, Ranking, Reranker, build

nodes: list[NodeWithScore] = []
options: dict[str, Any] = {"top_k": 3}


async def awaited(ranking: Ranking) -> None: ...
def plain(context: Context) -> None: ...


rerank = RagRerank("lexical", k=3, metadata_mode=MetadataMode.NONE, on_ranking=awaited, context={"top_k": 3})
RagRerank({"type": "lexical"}, metadata_mode="none", on_context=plain, context=Packing(top_k=3))
RagRerank(build("lexical"), **options)
RagRerank("lexical", top_n=3, instruction="Prefer recent ones.")
postprocessors: list[BaseNodePostprocessor] = [rerank]
assert_type(rerank.reranker, Reranker)
assert_type(rerank.top_k, int | None)
assert_type(rerank.to_dict(), dict[str, Any])
assert_type(rerank.postprocess_nodes(nodes, query_str="q"), list[NodeWithScore])
rerank.postprocess_nodes((node for node in nodes), "q")
rerank.postprocess_nodes(nodes, QueryBundle("q"))
step: TransformComponent = rerank.indexer()
IngestionPipeline(transformations=[RagRerankIndexer("lexical", MetadataMode.EMBED)])


async def call() -> None:
    assert_type(await rerank.apostprocess_nodes(nodes, query_str="q"), list[NodeWithScore])


RagRerank()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
RagRerank("lexical", max_token=3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
RagRerank("lexical", top_n="3")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
RagRerank("lexical", context=3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
RagRerank("lexical", on_context=awaited)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
RagRerank("lexical", metadata_mode=3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
rerank.postprocess_nodes(["a"], query_str="q")  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
rerank.postprocess_nodes(nodes, query="q")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
