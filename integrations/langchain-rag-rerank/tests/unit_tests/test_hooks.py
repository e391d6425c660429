"""``on_ranking`` and ``on_context`` may be coroutine functions: awaited in async calls, refused in sync ones."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any
from unittest.mock import AsyncMock

import pytest
from langchain_core.documents import Document
from langchain_core.runnables import RunnableLambda
from rag_rerank import ConfigError
from rag_rerank.testing import ScriptedReranker

from langchain_rag_rerank import RagRerank, RagRerankRetriever

DOCUMENTS = [Document("a"), Document("b")]


class Hook:
    """Keeps what it gets, after a pause; async in each of the ways there are."""

    def __init__(self) -> None:
        self.values: list[Any] = []

    async def method(self, value: Any) -> None:
        await asyncio.sleep(0)
        self.values.append(value)

    async def __call__(self, value: Any) -> None:
        await self.method(value)

    async def named(self, name: str, value: Any) -> None:
        await self.method(value)


WAYS = {
    "method": lambda hook: hook.method,
    "object": lambda hook: hook,
    "partial": lambda hook: partial(hook.named, "a name"),
    "lambda": lambda hook: lambda value: hook.method(value),
    "task": lambda hook: lambda value: asyncio.ensure_future(hook.method(value)),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("call", ["compressor", "runnable", "retriever"])
async def test_coroutine_functions_are_awaited_before_the_call_returns(way: str, call: str) -> None:
    on_ranking, on_context = Hook(), Hook()
    rerank = RagRerank(
        "lexical", context={"top_k": 1}, on_ranking=WAYS[way](on_ranking), on_context=WAYS[way](on_context)
    )
    if call == "compressor":
        await rerank.acompress_documents(DOCUMENTS, "a")
    elif call == "runnable":
        await rerank.as_runnable().ainvoke({"documents": DOCUMENTS, "query": "a"})
    else:
        await RagRerankRetriever(RunnableLambda(lambda query: DOCUMENTS), rerank).ainvoke("a")
    assert [len(ranking) for ranking in on_ranking.values] == [2]
    assert [len(context) for context in on_context.values] == [1]


@pytest.mark.parametrize("name", ["on_ranking", "on_context"])
@pytest.mark.parametrize("way", ["method", "object", "partial"])
def test_a_sync_call_refuses_them_before_it_does_anything(name: str, way: str) -> None:
    hook, reranker = Hook(), ScriptedReranker()
    options: Any = {name: WAYS[way](hook)}
    rerank = RagRerank(reranker, context={}, **options)
    with pytest.raises(ConfigError, match=f"^{name}: it is a coroutine function.*call the async method"):
        rerank.compress_documents(DOCUMENTS, "a")
    with pytest.raises(ConfigError, match=f"^{name}: "):
        RagRerankRetriever(RunnableLambda(lambda query: DOCUMENTS), rerank).invoke("a")
    assert reranker.calls == hook.values == []


def test_a_sync_call_refuses_a_function_that_turns_out_to_return_a_coroutine() -> None:
    hook = Hook()
    with pytest.raises(ConfigError, match=r"^on_ranking: it is a coroutine function"):  # and no warning is left behind
        RagRerank("lexical", on_ranking=lambda ranking: hook.method(ranking)).compress_documents(DOCUMENTS, "a")
    with pytest.raises(ConfigError, match=r"^on_context: "):
        RagRerank("lexical", context={}, on_context=AsyncMock()).compress_documents(DOCUMENTS, "a")


async def test_what_an_async_hook_raises_reaches_the_caller() -> None:
    async def refuse(ranking: Any) -> None:
        raise RuntimeError("too few")

    with pytest.raises(RuntimeError, match="too few"):
        await RagRerank("lexical", on_ranking=refuse).acompress_documents(DOCUMENTS, "a")


async def test_an_async_mock_is_awaited() -> None:
    mock = AsyncMock()
    await RagRerank("lexical", on_ranking=mock).acompress_documents(DOCUMENTS, "a")
    mock.assert_awaited_once()
