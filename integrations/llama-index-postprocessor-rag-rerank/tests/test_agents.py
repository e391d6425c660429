"""Tool retriever and trimmed tools in agents that run."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from typing import Any

import pytest
from llama_index.core import llms
from llama_index.core.agent.workflow import AgentWorkflow, FunctionAgent
from llama_index.core.base.llms import types
from llama_index.core.base.llms.types import ImageBlock, TextBlock
from llama_index.core.llms import ChatMessage
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.core.schema import QueryBundle
from llama_index.core.tools import FunctionTool
from llama_index.core.workflow import Context
from rag_rerank import BackendUnavailable, ConfigError
from rag_rerank.testing import ScriptedReranker

from llama_index.postprocessor.rag_rerank.agents import RerankTools, ToolChoice, TrimmedResult, TrimToolResults

if not (hasattr(llms, "MockFunctionCallingLLM") and hasattr(types, "ToolCallBlock")):
    pytest.skip(
        "this llama-index-core has no mock of a model that calls tools, or no blocks of tool calls",
        allow_module_level=True,
    )

# the host inspects its own pydantic models by names that are deprecated
pytestmark = pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecationWarning")

PASSAGES = [
    {"id": n, "text": f"Passage {n} tells of the {animal}, where it lives and what it eats in winter."}
    for n, animal in enumerate(["otter", "heron", "badger", "lynx", "beaver", "marmot", "falcon", "salmon"])
]


def send_mail(to: str) -> str:
    """Send a message."""
    return f"sent to {to}"


def list_files(folder: str) -> str:
    """List files."""
    return folder


def search_animals(animal: str) -> str:
    """Search the lexicon of animals."""
    return json.dumps(PASSAGES)


def draw_chart(numbers: str) -> str:
    """Draw a chart of numbers."""
    return numbers


TOOLS = [send_mail, list_files, search_animals, draw_chart]


class Steps:
    """The answers of a model, one a call, and what it was called with."""

    def __init__(self, *answers: tuple[str, dict[str, Any]] | str) -> None:
        self._answers = list(answers)
        self.requests: list[list[ChatMessage]] = []
        self.tool_names: list[list[str]] = []
        self.llm = llms.MockFunctionCallingLLM(response_generator=self._answer)

    def _answer(self, messages: Sequence[ChatMessage], tools: Sequence[Any] = (), **options: Any) -> ChatMessage:
        self.requests.append([message.model_copy(deep=True) for message in messages])
        self.tool_names.append([tool.metadata.name for tool in tools])
        answer = self._answers.pop(0)
        if isinstance(answer, str):
            return ChatMessage(role="assistant", content=answer)
        name, arguments = answer
        block = types.ToolCallBlock(tool_call_id="1", tool_name=name, tool_kwargs=arguments)
        return ChatMessage(role="assistant", blocks=[block])

    def results(self, step: int) -> list[str | None]:
        return [message.content for message in self.requests[step] if message.role == "tool"]


@pytest.mark.parametrize("streaming", [True, False])
async def test_an_agent_sees_relevant_tools_and_can_run_any(streaming: bool) -> None:
    choices: list[ToolChoice] = []
    retriever = RerankTools(TOOLS, "lexical", top_k=1, always_include=["send_mail"], on_choice=choices.append)
    steps = Steps(("draw_chart", {"numbers": "1 2"}), "ready")
    agent = FunctionAgent(tool_retriever=retriever, llm=steps.llm, streaming=streaming)
    await agent.run("which animals are there?")
    assert steps.tool_names == [["send_mail", "search_animals"]] * 2
    assert steps.results(1) == ["1 2"]
    assert choices[0].reasons == {"send_mail": "always_include", "search_animals": "relevant"}
    assert set(choices[0].dropped) == {"list_files", "draw_chart"}


@pytest.mark.parametrize("agents", ["agent", "workflow"])
async def test_the_model_reads_the_best_parts_for_question_and_arguments(agents: str) -> None:
    reports: list[TrimmedResult] = []
    trim = TrimToolResults("lexical", max_tokens=130, on_trim=reports.append)
    steps = Steps(("search_animals", {"animal": "lynx"}), "ready")
    agent = FunctionAgent(
        name="zoo", description="Knows animals.", tools=trim.wrap([search_animals, send_mail]), llm=steps.llm
    )
    runner = AgentWorkflow([agent], root_agent="zoo") if agents == "workflow" else agent
    memory = ChatMemoryBuffer.from_defaults(token_limit=10_000)
    output = await runner.run("what about the beaver?", memory=memory)
    (text,) = steps.results(1)
    assert text is not None
    assert "lynx" in text and "beaver" in text and "heron" not in text
    assert text.startswith("[{") and text.endswith(" tokens left out] ]")
    assert [report.tokens <= 130 < report.tokens_before for report in reports] == [True]
    assert output.tool_calls[0].tool_output.raw_output == json.dumps(PASSAGES)
    assert [m.content for m in memory.get_all() if m.role == "tool"] == [text]


async def test_a_tool_that_needs_the_context_still_gets_it() -> None:
    async def count_words(ctx: Context, prefix: str) -> str:
        """Count the words of the question."""
        question = await ctx.store.get("user_msg_str")
        return f"{prefix} {len(question.split())} words. " + "Nothing is here. " * 100

    count_words.__annotations__["ctx"] = Context  # annotations are strings here, and LlamaIndex reads them as they are
    trim = TrimToolResults("lexical", max_tokens=60)
    steps = Steps(("count_words", {"prefix": "It has"}), "ready")
    await FunctionAgent(tools=trim.wrap([count_words]), llm=steps.llm).run("how many words has this?")
    (text,) = steps.results(1)
    assert text is not None
    assert "It has 5 words." in text and "tokens left out]" in text


async def test_what_is_never_trimmed() -> None:
    async def fail() -> str:
        """Fail."""
        raise ValueError("no " * 500)

    trim = TrimToolResults("lexical", max_tokens=60)
    direct = FunctionTool.from_defaults(search_animals, return_direct=True)
    assert trim.wrap([direct]) == [direct]
    steps = Steps(("fail", {}), "ready")
    await FunctionAgent(tools=trim.wrap([fail]), llm=steps.llm).run("go")
    assert steps.results(1) == ["no " * 500]
    short = trim.wrap([send_mail])[0](to="lynx")
    assert short.content == "sent to lynx"


def test_blocks_that_are_no_text_stay() -> None:
    def look(animal: str) -> list[Any]:
        """Look."""
        return [TextBlock(text=row["text"]) for row in PASSAGES] + [ImageBlock(image=b"x")]

    output = TrimToolResults("lexical", max_tokens=60).wrap([look])[0](animal="lynx")
    assert isinstance(output.blocks[-1], ImageBlock)
    assert len(output.blocks) < 9


async def test_failures_are_told_and_mistakes_are_raised(caplog: pytest.LogCaptureFixture) -> None:
    broken = ScriptedReranker(error=BackendUnavailable("no connection", backend="scripted"))
    retriever = RerankTools(TOOLS, broken, top_k=1)
    tool = TrimToolResults(broken, max_tokens=60).wrap([search_animals])[0]
    with caplog.at_level(logging.WARNING):
        assert len(await retriever.aretrieve("x")) == len(retriever.retrieve(QueryBundle("x"))) == 4
        assert tool(animal="lynx").content == json.dumps(PASSAGES)
    assert caplog.text.count("no connection") == 3
    with pytest.raises(BackendUnavailable):
        RerankTools(TOOLS, broken, top_k=1, on_failure="raise").retrieve("x")
    with pytest.raises(ConfigError, match="two tools have the name 'send_mail'"):
        RerankTools([send_mail, send_mail], "lexical")
    with pytest.raises(ConfigError, match=r"no tool 'send_mial'.*send_mail"):
        RerankTools(TOOLS, "lexical", always_include=["send_mial"])
