"""The adapter for LangChain."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langchain_core.documents import BaseDocumentCompressor, BaseDocumentTransformer, Document
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import Runnable, RunnableLambda
from langchain_rag_rerank import RagRerank, RagRerankIndexer, RagRerankRetriever
from typing_extensions import assert_type

from rag_rerank import Context, Packing, Ranking, Reranker, build

documents: list[Document] = []
rankings: list[Ranking] = []
options: dict[str, Any] = {"top_k": 3}
first = RunnableLambda[str, list[Document]](lambda query: documents)


async def awaited(ranking: Ranking) -> None: ...
def plain(context: Context) -> None: ...


rerank = RagRerank("lexical", top_k=3, context=Packing(top_k=3), text=["a"], on_ranking=awaited, on_context=plain)
RagRerank({"type": "lexical"}, context={"top_k": 3}, text="{a}", score_key=None, on_ranking=rankings.append)
RagRerank(build("lexical"), **options)
RagRerank("lexical", top_n=3, instruction="Prefer recent ones.", vector_key="embedding")
compressor: BaseDocumentCompressor = rerank
assert_type(rerank.reranker, Reranker)
assert_type(rerank.top_k, int | None)
assert_type(rerank.compress_documents(documents, "q"), list[Document])
rerank.compress_documents(iter(documents), "q", callbacks=[])
transformer: BaseDocumentTransformer = RagRerankIndexer("lexical", text=["a"])
assert_type(rerank.indexer(), RagRerankIndexer)

step: Runnable[Any, list[Document]] = rerank.as_runnable()
assert_type(rerank.as_runnable().invoke({"documents": documents, "query": "q"}), list[Document])
rerank.as_runnable().invoke({"documents": documents, "query": "q", "instruction": "Prefer recent ones."})

retriever: BaseRetriever = RagRerankRetriever(first, rerank, top_n=3, on_ranking=awaited, tags=["a"])
RagRerankRetriever(base_retriever=retriever, reranker="lexical", context=Packing(), metadata={"a": 1})
assert_type(RagRerankRetriever(first, "lexical").invoke("q", top_k=3), list[Document])


async def call() -> None:
    found: Sequence[Document] = await rerank.acompress_documents(documents, "q")
    assert_type(await RagRerankRetriever(first, "lexical").ainvoke("q"), list[Document])
    print(found)


RagRerank()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
RagRerank("lexical", max_token=3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
RagRerank("lexical", top_k="3")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
RagRerank("lexical", text=3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
RagRerank("lexical", on_ranking=3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
RagRerank("lexical", on_ranking=plain)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
rerank.compress_documents(["a"], "q")  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
rerank.compress_documents(documents)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
rerank.as_runnable().invoke({"documents": documents})  # type: ignore[typeddict-item]  # pyright: ignore[reportArgumentType]
RagRerankRetriever(first, "lexical", max_token=3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
RagRerankRetriever(first, "lexical", context=3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
RagRerankRetriever("lexical")  # type: ignore[arg-type, call-arg]  # pyright: ignore[reportCallIssue]
RagRerankIndexer("lexical", texts=["a"])  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
