"""``on_ranking`` and ``on_context`` may be coroutine functions: awaited in async calls, refused in sync ones."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import pytest
from llama_index.core.llms import MockLLM
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.retrievers import BaseRetriever
from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode
from rag_rerank import ConfigError
from rag_rerank.testing import ScriptedReranker

from llama_index.postprocessor.rag_rerank import RagRerank

NODES = [NodeWithScore(node=TextNode(text=text)) for text in ("a", "b")]


class FirstStage(BaseRetriever):
    """A first stage that always finds the same nodes."""

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return NODES


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
@pytest.mark.parametrize("call", ["postprocessor", "engine"])
async def test_coroutine_functions_are_awaited_before_the_call_returns(way: str, call: str) -> None:
    on_ranking, on_context = Hook(), Hook()
    rerank = RagRerank(
        "lexical", context={"top_k": 1}, on_ranking=WAYS[way](on_ranking), on_context=WAYS[way](on_context)
    )
    if call == "engine":
        await RetrieverQueryEngine.from_args(FirstStage(), llm=MockLLM(), node_postprocessors=[rerank]).aquery("a")
    else:
        await rerank.apostprocess_nodes(NODES, query_str="a")
    assert [len(ranking) for ranking in on_ranking.values] == [2]
    assert [len(context) for context in on_context.values] == [1]


@pytest.mark.parametrize("name", ["on_ranking", "on_context"])
@pytest.mark.parametrize("way", ["method", "object", "partial"])
def test_a_sync_call_refuses_them_before_it_does_anything(name: str, way: str, events: list[Any]) -> None:
    hook, reranker = Hook(), ScriptedReranker()
    options: Any = {name: WAYS[way](hook)}
    rerank = RagRerank(reranker, context={}, **options)
    with pytest.raises(ConfigError, match=f"^{name}: it is a coroutine function.*call the async method"):
        rerank.postprocess_nodes(NODES, query_str="a")
    assert reranker.calls == hook.values == []
    assert not [event for event in events if event.class_name().startswith("ReRank")]


def test_a_sync_call_refuses_a_function_that_turns_out_to_return_a_coroutine() -> None:
    hook = Hook()
    with pytest.raises(ConfigError, match=r"^on_ranking: it is a coroutine function"):  # and no warning is left behind
        RagRerank("lexical", on_ranking=lambda ranking: hook.method(ranking)).postprocess_nodes(NODES, query_str="a")


async def test_what_an_async_hook_raises_reaches_the_caller() -> None:
    async def refuse(ranking: Any) -> None:
        raise RuntimeError("too few")

    with pytest.raises(RuntimeError, match="too few"):
        await RagRerank("lexical", on_ranking=refuse).apostprocess_nodes(NODES, query_str="a")
