"""The MCP server, asked by the official client: what a model reads, what goes wrong, and who gets a place."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pytest

pytest.importorskip("mcp")

import jsonschema
import mcp_types
from mcp import Client
from mcp.shared.exceptions import MCPError
from support.served import served_app

from rag_rerank import PointwiseReranker, Scores, build
from rag_rerank.errors import BackendUnavailable, RateLimited
from rag_rerank.serving import ServerSettings, create_mcp_app, create_mcp_server
from rag_rerank.testing import ScriptedReranker

QUERY = "how tall is K2?"
LOGITS = {"Lake Garda is 346 m deep.": -2.0, "K2 is 8,611 m high.": 2.0, "K2 was climbed in 1954.": 1.0}
TEXTS = list(LOGITS)
ORDER = [1, 2, 0]
MODES = ("auto", "legacy")
"""The protocol of 2026-07-28, and the one with a handshake before it."""


@dataclass(frozen=True, kw_only=True)
class Held(ScriptedReranker):
    """Answers when it is let."""

    kind: ClassVar[str] = "held"
    let: threading.Event = field(default_factory=threading.Event, compare=False, metadata={"live": True})
    asked: threading.Event = field(default_factory=threading.Event, compare=False, metadata={"live": True})

    def score(self, query: str, texts: Any) -> Scores:
        self.asked.set()
        assert self.let.wait(30)
        return super().score(query, texts)


def connect(reranker: Any = None, mode: str = "auto", tokenizer: Any = None, **settings: Any) -> Client:
    server = create_mcp_server(
        reranker or ScriptedReranker(by_text=LOGITS, answers_on="sigmoid"),
        ServerSettings(**settings),
        tokenizer=tokenizer,
    )
    return Client(server, mode=mode)


async def failure(client: Client, tool: str = "rerank", **arguments: Any) -> str:
    answer = await client.call_tool(tool, arguments)
    assert answer.is_error and answer.structured_content is None
    return str(answer.content[0].text)


@pytest.mark.parametrize("mode", MODES)
async def test_rerank_orders_and_keeps_ids(mode: str) -> None:
    documents = [{"id": f"d{i}", "text": text, "metadata": {"n": i}} for i, text in enumerate(TEXTS)]
    before = json.dumps(documents)
    async with connect(mode=mode) as client:
        answer = await client.call_tool("rerank", {"query": QUERY, "documents": documents, "top_k": 2})
        plain = await client.call_tool("rerank", {"query": QUERY, "documents": TEXTS, "return_documents": True})
    data = answer.structured_content
    assert [(row["rank"], row["index"], row["id"]) for row in data["results"]] == [(1, 1, "d1"), (2, 2, "d2")]
    assert data["results"][0]["score"] == pytest.approx(0.8807970779778823, abs=1e-15)  # the sigmoid of 2
    assert (data["scale"], data["degraded"], data["warnings"]) == ("sigmoid", False, [])
    assert json.dumps(documents) == before
    assert (
        "1. documents[1] (d1): score 0.8808" in answer.content[0].text and "not a probability" in answer.content[0].text
    )
    assert [row["text"] for row in plain.structured_content["results"]] == [TEXTS[i] for i in ORDER]


async def test_pack_keeps_to_the_budget_and_says_what_is_left_out() -> None:
    documents = [{"text": text, "metadata": {"doc": "x"}} for text in (*TEXTS, TEXTS[1])]
    async with connect(tokenizer=lambda text: len(text.split())) as client:
        answer = await client.call_tool(
            "pack", {"query": QUERY, "documents": documents, "max_tokens": 11, "duplicates": "exact"}
        )
    data = answer.structured_content
    assert data["text"] == answer.content[0].text == f"{TEXTS[1]}\n\n{TEXTS[2]}"
    assert (data["tokens"], data["tokens_before"], data["tokens_estimated"]) == (10, 21, False)
    assert {(row["id"], row["reason"]) for row in data["dropped"]} == {("3", "duplicates"), ("0", "max_tokens")}
    assert "Left out: 1 duplicates, 1 max_tokens." in answer.content[1].text


async def test_what_a_model_sees_before_it_calls() -> None:
    async with connect(max_texts=7) as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert "rerank" in (client.instructions or "")
        answers = {
            "rerank": await client.call_tool("rerank", {"query": QUERY, "documents": [*TEXTS, " "]}),
            "pack": await client.call_tool("pack", {"query": QUERY, "documents": [*TEXTS, " "], "max_tokens": 9}),
        }
    assert set(tools) == {"rerank", "pack"}
    for name, tool in tools.items():
        jsonschema.Draft202012Validator.check_schema(tool.input_schema)
        jsonschema.validate(answers[name].structured_content, tool.output_schema)
        assert set(answers[name].structured_content) <= set(tool.output_schema["properties"])
        assert tool.input_schema["properties"]["documents"]["maxItems"] == 7
        assert all("description" in schema or "enum" in schema for schema in tool.input_schema["properties"].values())
        assert "instruction" not in tool.input_schema["properties"]  # this reranker takes none
        assert tool.annotations.read_only_hint and not tool.annotations.open_world_hint


async def test_an_instruction_is_offered_where_it_is_followed() -> None:
    reranker = build("lexical"), build("cohere:rerank-v3.5", api_key="k")
    assert not reranker[0].takes_instruction
    async with connect(reranker[0]) as client:
        assert "takes no instruction" in await failure(client, query="q", documents=["a"], instruction="short ones")
    async with connect(reranker[1]) as client:
        assert (await client.list_tools()).tools[0].annotations.open_world_hint


@pytest.mark.parametrize(
    ("tool", "arguments", "words"),
    [
        ("rerank", {}, "documents"),
        ("rerank", {"query": "q"}, "documents"),
        ("rerank", {"documents": ["a"]}, "query"),
        ("rerank", {"query": " ", "documents": ["a"]}, "blank"),
        ("rerank", {"query": "q", "documents": []}, "empty"),
        ("rerank", {"query": "q", "documents": "a"}, "a list"),
        ("rerank", {"query": "q", "documents": ["a", 3]}, "documents[1]"),
        ("rerank", {"query": "q", "documents": [{"id": "a"}]}, "documents[0]"),
        ("rerank", {"query": "q", "documents": [{"id": 3, "text": "a"}]}, "documents[0]"),
        ("rerank", {"query": "q", "documents": [{"text": "a", "metadata": 3}]}, "metadata"),
        ("rerank", {"query": "q", "documents": [{"id": "x", "text": "a"}] * 2}, "x"),
        ("rerank", {"query": "q", "documents": ["a"] * 4}, "at most 3"),
        ("rerank", {"query": "q", "documents": ["a" * 101]}, "at most 100"),
        ("rerank", {"query": "q", "documents": ["a"], "top_k": -1}, "whole number"),
        ("rerank", {"query": "q", "documents": ["a"], "topk": 1}, "did you mean 'top_k'"),
        ("rerank", {"query": "q", "documents": ["a"], "max_tokens": 5}, "no argument 'max_tokens'"),
        ("pack", {"query": "q", "documents": ["a"]}, "max_tokens"),
        ("pack", {"query": "q", "documents": ["a"], "max_tokens": 0}, "max_tokens"),
        ("pack", {"query": "q", "documents": ["a"], "max_tokens": 5, "order": "best"}, "order"),
        ("pack", {"query": "q", "documents": ["a"], "max_tokens": 5, "per_source": 1}, "source"),
    ],
)
async def test_a_wrong_call_is_refused_in_words(tool: str, arguments: dict[str, Any], words: str) -> None:
    async with connect(max_texts=3, max_body_bytes=100) as client:
        assert words in await failure(client, tool, **arguments)


async def test_a_tool_that_is_not_there_is_an_error_of_the_protocol() -> None:
    async with connect() as client:
        with pytest.raises(MCPError, match="did you mean 'rerank'") as caught:
            await client.call_tool("rerankk", {})
    assert caught.value.error.code == mcp_types.INVALID_PARAMS


async def test_errors_of_the_reranker_and_defects() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Defective(PointwiseReranker):
        kind: ClassVar[str] = "defective"
        scale = "unbounded"

        def score(self, query: str, texts: Any) -> Scores:
            raise ZeroDivisionError("a secret place")

    call = {"query": "q", "documents": ["a"]}
    async with connect(ScriptedReranker(error=RateLimited("slow down", retry_after=2.3))) as client:
        assert await failure(client, **call) == "slow down\nTry again in 3 s.\n" + RateLimited("").url
    async with connect(ScriptedReranker(error=BackendUnavailable("down"))) as client:
        assert (await failure(client, **call)).startswith("down")
    async with connect(Defective()) as client:
        words = await failure(client, **call)
        assert "server's log" in words and "secret" not in words
    async with connect(build("onnx", model="./no-such-folder")) as client:
        assert "no-such-folder" in await failure(client, **call)


async def test_a_key_is_in_no_answer() -> None:
    reranker = build("jina:m", base_url="http://127.0.0.1:9", api_key="very-secret-key", retry={"attempts": 1})
    async with connect(reranker, timeout=5) as client:
        words = await failure(client, query="q", documents=["a"])
        assert "very-secret-key" not in words + str((await client.list_tools()).model_dump())


@pytest.mark.filterwarnings("ignore::rag_rerank.TruncationWarning")
async def test_what_is_not_quite_what_was_asked_for_is_told() -> None:
    documents: list[Any] = [{"text": "K2 is 8,611 m high.", "title": "K2"}, "word " * 3000, " "]
    async with connect(build("embedded")) as client:
        answer = await client.call_tool("rerank", {"query": QUERY, "documents": documents})
    rows = {row["index"]: row for row in answer.structured_content["results"]}
    assert rows[1]["truncated"] and "truncated" not in rows[0]
    assert (rows[2]["score"], rows[2]["rank"], rows[2]["unscored"]) == (None, 3, "blank text")
    for words in ("title", "beginning of 1 of 3", "blank text"):
        assert any(words in warning for warning in answer.structured_content["warnings"])
        assert words in answer.content[0].text
    absent = {"type": "http", "dialect": "tei", "base_url": "http://127.0.0.1:9", "retry": {"attempts": 1}}
    fallback = build({"type": "fallback", "members": [absent, "lexical"]})
    async with connect(fallback) as client:
        answer = await client.call_tool("rerank", {"query": QUERY, "documents": TEXTS})
    assert answer.structured_content["degraded"] and "Warning: " in answer.content[0].text


@pytest.mark.parametrize("mode", MODES)
async def test_a_call_that_is_cancelled_frees_its_place(mode: str) -> None:
    reranker = Held()
    async with connect(reranker, mode, concurrency=1, max_queue=0) as client:
        call = asyncio.ensure_future(client.call_tool("rerank", {"query": "q", "documents": ["a"]}))
        await asyncio.to_thread(reranker.asked.wait, 30)
        assert len((await client.list_tools()).tools) == 2  # the event loop is free
        assert "ask again later" in await failure(client, query="q", documents=["a"])
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        reranker.let.set()
        for _ in range(200):
            answer = await client.call_tool("rerank", {"query": "q", "documents": ["a"]})
            if not answer.is_error:
                break
            await asyncio.sleep(0.01)
        assert not answer.is_error


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    settings = ServerSettings(api_keys=("a-key-of-mine",), max_body_bytes=2_000)
    app = create_mcp_app(ScriptedReranker(by_text=LOGITS, answers_on="sigmoid"), settings)
    with served_app(app) as address:
        yield address


@pytest.mark.parametrize("mode", MODES)
async def test_over_http(url: str, mode: str) -> None:
    import httpx2
    from mcp.client.streamable_http import streamable_http_client

    async with httpx2.AsyncClient(headers={"Authorization": "Bearer a-key-of-mine"}) as http:
        async with Client(streamable_http_client(f"{url}/mcp", http_client=http), mode=mode) as client:
            answer = await client.call_tool("rerank", {"query": QUERY, "documents": TEXTS})
            assert [row["index"] for row in answer.structured_content["results"]] == ORDER
        page = (await http.get(f"{url}/metrics")).text
    assert 'rag_rerank_requests_total{route="/mcp rerank",status="200"}' in page


def test_nobody_calls_a_tool_without_a_key_from_another_host_or_with_too_much(url: str) -> None:
    import httpx

    def status(path: str = "/mcp", content: str = "{}", key: str = "a-key-of-mine", **headers: str) -> int:
        headers = {"authorization": f"Bearer {key}", "content-type": "application/json", **headers}
        return httpx.post(url + path, content=content, headers=headers).status_code

    assert status(key="another") == status(path="/mcp/", key="x") == status(path="//mcp", key="x") == 401
    assert status(host="attacker.example") == 421
    assert status(origin="https://attacker.example") == 403
    assert status(content="x" * 2_001) == 413
    assert httpx.get(f"{url}/ready").json() == {"status": "ready"}
