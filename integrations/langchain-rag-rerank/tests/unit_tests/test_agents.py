"""The middleware in agents that run: what the model sees, and that the state keeps the originals."""

from __future__ import annotations

import copy
import logging
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any

import pytest

if sys.version_info < (3, 11):
    pytest.skip("langchain 1.5 needs Python 3.11", allow_module_level=True)
pytest.importorskip("langchain.agents.middleware", reason="needs langchain 1.5")

from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware, ModelRequest
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.tools import BaseTool, StructuredTool, tool
from langgraph.checkpoint.memory import InMemorySaver
from pydantic import Field
from rag_rerank import BackendUnavailable, ConfigError, RequestRejected, recording
from rag_rerank.testing import ScriptedReranker

from langchain_rag_rerank.agents import RerankTools, ToolChoice, TrimmedResult, TrimToolResults


class Model(BaseChatModel):
    """A chat model that gives these messages, one a call, and notes what it was called with."""

    answers: list[AIMessage]
    tool_names: list[list[str]] = Field(default_factory=list)
    requests: list[list[BaseMessage]] = Field(default_factory=list)

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Sequence[Any], **options: Any) -> Any:
        self.tool_names.append([t["type"] if isinstance(t, dict) else t.name for t in tools])
        return self

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        self.requests.append(messages)
        return ChatResult(generations=[ChatGeneration(message=self.answers.pop(0))])

    def _stream(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> Iterator[ChatGenerationChunk]:
        message = self._generate(messages).generations[0].message
        assert isinstance(message, AIMessage)
        chunk = AIMessageChunk(content=message.content, tool_calls=message.tool_calls)
        yield ChatGenerationChunk(message=chunk)

    async def _astream(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        for chunk in self._stream(messages):
            yield chunk


def call(name: str, id: str = "1", **arguments: Any) -> AIMessage:
    return AIMessage("", tool_calls=[{"name": name, "args": arguments, "id": id}])


def model(*answers: AIMessage | str) -> Model:
    return Model(answers=[AIMessage(answer) if isinstance(answer, str) else answer for answer in answers])


def make_tool(name: str, description: str, result: object = "done") -> BaseTool:
    return StructuredTool.from_function(lambda: result, name=name, description=description)


TOOLS = [
    make_tool("send_mail", "Send a message to somebody."),
    make_tool("list_files", "List the files in a folder."),
    make_tool("get_weather", "Get the weather at a place."),
    make_tool("book_flight", "Book a flight between two airports."),
    make_tool("draw_chart", "Draw a chart of numbers."),
]


async def invoke(agent: Any, content: str, config: Any = None) -> list[BaseMessage]:
    return list(agent.invoke({"messages": [HumanMessage(content)]}, config)["messages"])


async def ainvoke(agent: Any, content: str, config: Any = None) -> list[BaseMessage]:
    return list((await agent.ainvoke({"messages": [HumanMessage(content)]}, config))["messages"])


async def stream(agent: Any, content: str, config: Any = None) -> list[BaseMessage]:
    modes = ["values", "messages"]
    chunks = list(agent.stream({"messages": [HumanMessage(content)]}, config, stream_mode=modes))
    assert {type(chunk[0]) for mode, chunk in chunks if mode == "messages"} <= {AIMessageChunk, ToolMessage}
    return list([chunk for mode, chunk in chunks if mode == "values"][-1]["messages"])


async def astream(agent: Any, content: str, config: Any = None) -> list[BaseMessage]:
    chunks = [
        chunk async for chunk in agent.astream({"messages": [HumanMessage(content)]}, config, stream_mode="values")
    ]
    return list(chunks[-1]["messages"])


RUNS = pytest.mark.parametrize("run", [invoke, ainvoke, stream, astream])


@RUNS
async def test_the_model_sees_the_best_tools_in_their_order_and_those_that_it_called(run: Callable[..., Any]) -> None:
    choices: list[ToolChoice] = []
    llm = model(call("draw_chart"), call("list_files", "2"), "ready")
    middleware = RerankTools("lexical", top_k=2, always_include=["send_mail"], on_choice=choices.append)
    messages = await run(create_agent(llm, TOOLS, middleware=[middleware]), "book a flight and list the files")
    first = ["send_mail", "list_files", "book_flight"]
    assert llm.tool_names == [first, [*first, "draw_chart"], [*first, "draw_chart"]]
    assert [m.content for m in messages if isinstance(m, ToolMessage)] == ["done", "done"]
    assert choices[1].reasons == {
        "send_mail": "always_include",
        "list_files": "relevant",
        "book_flight": "relevant",
        "draw_chart": "called",
    }
    assert choices[1].dropped == ("get_weather",)
    assert choices[0].ranking is not None
    assert choices[0].ranking.degraded == ()


async def test_a_turn_is_ranked_once_and_the_next_one_anew_with_the_question_that_the_user_answers() -> None:
    reranker = ScriptedReranker()
    llm = model(call("send_mail"), "Sent. Shall I book the flight?", "booked")
    agent = create_agent(llm, TOOLS, middleware=[RerankTools(reranker, top_k=1)], checkpointer=InMemorySaver())
    config = {"configurable": {"thread_id": "1"}}
    await invoke(agent, "write to Anna", config)
    assert [query for query, _ in reranker.calls] == ["write to Anna"]
    await ainvoke(agent, "Yes, please", config)
    assert [query for query, _ in reranker.calls] == ["write to Anna", "Shall I book the flight?\nYes, please"]


async def test_what_the_reranker_reads_and_the_query_can_be_replaced() -> None:
    reranker = ScriptedReranker(by_text={"weather": 1.0})
    llm = model("hello")
    middleware = RerankTools(
        reranker, top_k=1, text=lambda tool: tool.name.split("_")[1], query=lambda messages: f"turn {len(messages)}"
    )
    await invoke(create_agent(llm, TOOLS, middleware=[middleware]), "hi")
    assert reranker.calls == [("turn 1", ("mail", "files", "weather", "flight", "chart"))]
    assert llm.tool_names == [["get_weather"]]


async def test_names_and_descriptions_of_arguments_are_read() -> None:
    @tool(parse_docstring=True)
    def find_route(start: str, end_place: str) -> str:
        """Find a way.

        Args:
            start: Where the trip begins.
            end_place: Its goal.
        """
        return start + end_place

    reranker = ScriptedReranker()
    await invoke(create_agent(model("hello"), [find_route, *TOOLS], middleware=[RerankTools(reranker, top_k=1)]), "hi")
    assert reranker.calls[0][1][0] == "find route\nFind a way.\nstart: Where the trip begins.; end place: Its goal."


@pytest.mark.parametrize(
    "choice",
    ["draw_chart", {"type": "function", "function": {"name": "draw_chart"}}, {"type": "tool", "name": "draw_chart"}],
)
def test_required_and_provider_tools_are_kept(choice: object) -> None:
    search = {"type": "web_search"}
    request: ModelRequest[Any] = ModelRequest(
        model=model(), messages=[HumanMessage("weather")], tools=[TOOLS[0], search, *TOOLS[1:]], tool_choice=choice
    )
    seen: list[Any] = []
    RerankTools("lexical", top_k=1).wrap_model_call(request, lambda changed: seen.append(changed))
    assert seen[0].tools == [search, TOOLS[2], TOOLS[4]]
    assert len(request.tools) == 6


def test_tools_of_one_name_are_told_apart() -> None:
    twin = make_tool("get_weather", "Get the weather at sea.")
    request: ModelRequest[Any] = ModelRequest(
        model=model(), messages=[HumanMessage("weather at sea")], tools=[*TOOLS, twin]
    )
    seen: list[Any] = []
    RerankTools("lexical", top_k=1).wrap_model_call(request, lambda changed: seen.append(changed))
    assert seen[0].tools == [twin]


@pytest.mark.parametrize("messages", [[], [HumanMessage(" ")], [HumanMessage([{"type": "image", "url": "x"}])]])
def test_without_a_query_all_tools_are_kept(messages: list[BaseMessage], caplog: pytest.LogCaptureFixture) -> None:
    request: ModelRequest[Any] = ModelRequest(model=model(), messages=messages, tools=list(TOOLS))
    seen: list[Any] = []
    RerankTools("lexical", top_k=1).wrap_model_call(request, lambda changed: seen.append(changed))
    assert seen[0].tools == TOOLS
    assert "all 5 tools are kept: there is no query" in caplog.text


FAILURE = BackendUnavailable("no connection", backend="scripted")


@RUNS
async def test_an_agent_goes_on_with_all_tools_and_whole_results_if_its_reranker_fails(
    run: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    reranker = ScriptedReranker(error=FAILURE)
    reports: list[Any] = []
    tools = [*TOOLS, make_tool("search", "Search.", PASSAGES)]
    llm = model(call("search"), "ready")
    middleware = [
        RerankTools(reranker, top_k=2, on_choice=reports.append),
        TrimToolResults(reranker, max_tokens=100, on_trim=reports.append),
    ]
    with caplog.at_level(logging.WARNING):
        messages = await run(create_agent(llm, tools, middleware=middleware), "hi")
    assert messages[-1].content == "ready"
    assert [len(names) for names in llm.tool_names] == [6, 6]
    assert llm.requests[1][2].content == PASSAGES
    assert [len(report.degraded) for report in reports] == [1, 1, 1]
    assert caplog.text.count("scripted failed (BackendUnavailable: no connection)") == 3


@pytest.mark.parametrize("middleware", [RerankTools, TrimToolResults])
async def test_a_failure_is_raised_on_request_and_a_mistake_always(middleware: type[AgentMiddleware[Any]]) -> None:
    tools = [*TOOLS, make_tool("search", "Search.", PASSAGES)]
    options = {"top_k": 1} if middleware is RerankTools else {"max_tokens": 100}

    async def run_with(error: Exception, **more: Any) -> None:
        part = middleware(ScriptedReranker(error=error), **options, **more)
        await ainvoke(create_agent(model(call("search"), "ready"), tools, middleware=[part]), "hi")

    with pytest.raises(BackendUnavailable):
        await run_with(FAILURE, on_failure="raise")
    with pytest.raises(ConfigError):
        await run_with(ConfigError("no such file"))
    await run_with(RequestRejected("bad", backend="scripted"))
    with pytest.raises(ConfigError, match="on_failure"):
        middleware("lexical", on_failure="keep")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"top_k": 0}, "top_k"),
        ({"always_include": "send_mail"}, "list of names"),
        ({"instruction": "x"}, "instruction"),
    ],
)
def test_wrong_options_of_a_choice(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        RerankTools("lexical", **options)


async def test_a_tool_that_is_always_included_must_exist() -> None:
    agent = create_agent(model("x"), TOOLS, middleware=[RerankTools("lexical", always_include=["send_mial"])])
    with pytest.raises(ConfigError, match=r"no tool 'send_mial'.*send_mail"):
        await invoke(agent, "hi")


PARAGRAPHS = [
    f"Paragraph {n} tells of the {animal}, where it lives and what it eats in winter. " * 3
    for n, animal in enumerate(["otter", "heron", "badger", "lynx", "beaver", "marmot", "falcon", "salmon"])
]
PASSAGES = "\n\n".join(PARAGRAPHS)


class Searcher:
    """An agent with a tool that returns a long result, and what its model read."""

    def __init__(self, result: object, *answers: AIMessage | str, artifact: object = None, **options: Any) -> None:
        self.llm = model(*(answers or (call("search", animal="lynx"), "ready")))

        def search(animal: str) -> object:
            """Search animals."""
            return (result, artifact)

        tool = StructuredTool.from_function(search, response_format="content_and_artifact")
        options = {"reranker": "lexical", "max_tokens": 130, **options}
        middleware = TrimToolResults(options.pop("reranker"), **options)
        self.agent = create_agent(self.llm, [tool], middleware=[middleware], checkpointer=InMemorySaver())

    def read(self, step: int) -> list[Any]:
        return [m.content for m in self.llm.requests[step] if isinstance(m, ToolMessage)]


CONFIG = {"configurable": {"thread_id": "1"}}


@RUNS
async def test_the_model_reads_the_best_parts_and_the_state_keeps_the_original(run: Callable[..., Any]) -> None:
    trimmed: list[TrimmedResult] = []
    searcher = Searcher(PASSAGES, artifact={"rows": 8}, on_trim=trimmed.append)
    messages = await run(searcher.agent, "who eats what?", CONFIG)
    (text,) = searcher.read(1)
    assert "lynx" in text
    assert text.endswith(" tokens left out]")
    (original,) = (m for m in messages if isinstance(m, ToolMessage))
    assert original.content == PASSAGES
    (copied,) = (m for m in searcher.llm.requests[1] if isinstance(m, ToolMessage))
    assert copied.model_copy(update={"content": PASSAGES}) == original
    assert original.artifact == copied.artifact == {"rows": 8}
    (report,) = trimmed
    assert report.texts == (text,)
    assert report.tokens <= 130 < report.tokens_before
    assert report.context is not None
    assert len(report.context) + len(report.context.dropped) >= 8


async def test_a_result_is_trimmed_once_for_its_own_turn_and_reads_the_same_later() -> None:
    reranker = ScriptedReranker()
    answers = (call("search", animal="lynx"), "ready", call("search", "2", animal="otter"), "ready", "bye")
    searcher = Searcher(PASSAGES, *answers, reranker=reranker)
    for content in ("where?", "and now?", "thanks"):
        await ainvoke(searcher.agent, content, CONFIG)
    assert [query for query, _ in reranker.calls] == ["where?\nlynx", "and now?\notter"]
    first, second = searcher.read(4)
    assert searcher.read(1) == [first] and searcher.read(3) == [first, second]


async def test_blocks_that_are_no_text_stay_and_texts_share_the_budget() -> None:
    image = {"type": "image", "base64": "AAAA", "mime_type": "image/png"}
    blocks = [*({"type": "text", "text": text, "id": str(i)} for i, text in enumerate(PARAGRAPHS)), image]
    before = copy.deepcopy(blocks)
    searcher = Searcher(blocks)
    messages = await invoke(searcher.agent, "who is it?", CONFIG)
    (content,) = searcher.read(1)
    assert image in content and blocks == before
    assert next(m for m in messages if isinstance(m, ToolMessage)).content == before
    texts = [block for block in content if block["type"] == "text"]
    assert [block["id"] for block in texts] == ["0", "1", "3", "4"]  # a mark stands for 1 and 2, and one for 4 to 7
    assert texts[2]["text"] == PARAGRAPHS[3]
    assert all(texts[i]["text"].startswith("[… ") for i in (1, 3))


@pytest.mark.parametrize("kind", ["error", "excluded", "short"])
async def test_what_is_never_trimmed(kind: str) -> None:
    searcher = Searcher(PASSAGES, exclude_tools=["search"] if kind == "excluded" else [], max_tokens=130)
    result = ToolMessage(
        "short" if kind == "short" else PASSAGES, tool_call_id="1", status="error" if kind == "error" else "success"
    )
    history = [HumanMessage("hi"), call("search", animal="x"), result, HumanMessage("lynx?")]
    searcher.llm.answers = [AIMessage("ready")]
    searcher.agent.invoke({"messages": history}, CONFIG)
    assert searcher.read(0) == [result.content]


async def test_choice_and_trimming_are_runs_and_records(runs: Any, tmp_path: Any) -> None:
    llm = model(call("search"), "ready")
    tools = [*TOOLS, make_tool("search", "Search.", PASSAGES)]
    middleware = [RerankTools("lexical", top_k=2), TrimToolResults("lexical", max_tokens=130)]
    with recording(tmp_path / "records.jsonl"):
        await ainvoke(
            create_agent(llm, tools, middleware=middleware), "search the lynx, send mail", {"callbacks": [runs]}
        )
    assert list(runs.outputs["RerankTools"]["kept"]) == ["send_mail", "search"]
    assert runs.outputs["TrimToolResults"]["tokens"] <= 130 < runs.outputs["TrimToolResults"]["tokens_before"]
    assert runs.parents["TrimToolResults"] is not None
    lines = (tmp_path / "records.jsonl").read_text(encoding="utf-8")
    assert lines.count('"rag_rerank.purpose": "tools"') == 1
    assert lines.count('"rag_rerank.purpose": "tool result"') == 1
    assert PASSAGES[:30] not in lines


async def test_coroutine_hooks_are_awaited_and_refused_in_synchronous_runs() -> None:
    seen: list[Any] = []

    async def hook(report: object) -> None:
        seen.append(report)

    searcher = Searcher(PASSAGES, on_trim=hook)
    await ainvoke(searcher.agent, "where?", CONFIG)
    assert [type(report) for report in seen] == [TrimmedResult]
    with pytest.raises(ConfigError, match="on_choice"):
        await invoke(create_agent(model("x"), TOOLS, middleware=[RerankTools("lexical", on_choice=hook)]), "hi")


def test_the_adapter_itself_does_not_import_langchain() -> None:
    import subprocess

    code = "import langchain_rag_rerank, sys; sys.exit('langchain' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
