"""Middleware for LangChain's agents: the model sees the tools and the parts of tool results that matter to the turn."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, ToolMessage
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import BaseTool
from rag_rerank import ConfigError, MissingExtraError, Spec, build, tagged
from rag_rerank.hosts import (
    Choice,
    KeptBecause,
    OnFailure,
    RecentValues,
    ResultTrimmer,
    Tokenizer,
    ToolChoice,
    ToolChooser,
    TrimmedResult,
    acall_hooks,
    call_hooks,
    check_sync_hooks,
    find_scalars,
    result_query,
    tool_text,
    turn_query,
)

try:
    from langchain.agents.middleware import AgentMiddleware, AgentState, ModelRequest, ModelResponse
except ImportError as error:
    raise MissingExtraError(
        "the middleware needs langchain 1.5 or newer, and Python 3.11: pip install 'langchain-rag-rerank[agents]'"
    ) from error

__all__ = ["RerankTools", "ToolChoice", "TrimToolResults", "TrimmedResult"]

logger = logging.getLogger(__name__)

_TAGS = {"rag_rerank.host": "langchain"}
"""The tag of each call: records show where it came from."""

QueryOf = Callable[[Sequence[AnyMessage]], str]
"""What a turn is about, from the messages up to it."""


def last_user_text(messages: Sequence[AnyMessage]) -> str:
    """Return the last message of the user; if the assistant asked something just before it, after that question."""
    for index in reversed(range(len(messages))):
        if isinstance(messages[index], HumanMessage):
            before = messages[index - 1] if index else None
            return turn_query(messages[index].text, before.text if isinstance(before, AIMessage) else "")
    return ""


def describe_tool(tool: BaseTool) -> str:
    """Return what the reranker reads of a tool: name, description, names and descriptions of the arguments."""
    return tool_text(tool.name, tool.description or "", {"properties": tool.args})


class RerankTools(AgentMiddleware[AgentState[Any], Any, Any]):
    """Middleware that lets the model see only the tools most relevant to the turn.

    The choice is made anew for each message of the user and stays the same for all steps of the turn, and the tools
    keep their order, so that the prompt's beginning is the same and providers can cache it. These are kept in any case:
    the tools of ``always_include``, those that the model called since the user's message, one that ``tool_choice``
    names, and tools that are mappings, which providers run themselves. With at most ``top_k`` other tools nothing is
    ranked. The agent can still run every tool that it has.

    Each choice is a run called ``RerankTools`` in traces, with the names that were kept and dropped.

    Args:
        reranker: A name (``"embedded"``, ``"cohere:rerank-v3.5"``), a config mapping, the path of a config file, or
            a ``rag_rerank.Reranker``.
        top_k: How many relevant tools the model sees.
        always_include: Names of tools that it sees in any case, beside these.
        text: What the reranker reads of a tool; by default its name in words, its description, and the names and
            descriptions of its arguments.
        query: What the turn is about, from the messages so far; by default the last message of the user, after the
            question of the assistant that it answers, if there is one.
        instruction: What relevance means here, in words, for a reranker that follows instructions.
        on_failure: ``"keep_all"``: if the reranker fails, the model sees all tools; a warning is logged, and
            ``ToolChoice.degraded`` says so. ``"raise"``: the error reaches the caller of the agent.
        on_choice: Called with the `ToolChoice` of each call of the model; a coroutine function is awaited, in async
            calls.

    Raises:
        ConfigError: ``reranker`` cannot be built, or an option is wrong; in a call, ``always_include`` names a tool
            that the agent does not have.
    """

    def __init__(
        self,
        reranker: Spec,
        *,
        top_k: int = 10,
        always_include: Collection[str] = (),
        text: Callable[[BaseTool], str] | None = None,
        query: QueryOf | None = None,
        instruction: str | None = None,
        on_failure: OnFailure = "keep_all",
        on_choice: Callable[[ToolChoice], object] | None = None,
    ) -> None:
        super().__init__()
        self._chooser = ToolChooser(
            build(reranker),
            top_k=top_k,
            always_include=always_include,
            instruction=instruction,
            on_failure=on_failure,
        )
        self._text = text or describe_tool
        self._query = query or last_user_text
        self._on_choice = on_choice

    def wrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], ModelResponse[Any]]
    ) -> ModelResponse[Any]:
        """Call the model with the chosen tools."""
        check_sync_hooks(on_choice=self._on_choice)
        step = _ChoiceStep(self._chooser, self._text, self._query, request)
        if step.tools:
            step.runnable.invoke(step.summary)
            call_hooks(("on_choice", self._on_choice, step.report()))
        return handler(step.request())

    async def awrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]]
    ) -> ModelResponse[Any]:
        """Do what `wrap_model_call` does without blocking the event loop."""
        step = _ChoiceStep(self._chooser, self._text, self._query, request)
        if step.tools:
            await step.runnable.ainvoke(step.summary)
            await acall_hooks(("on_choice", self._on_choice, step.report()))
        return await handler(step.request())


class _ChoiceStep:
    """The choice for one call of the model, as a step that shows in traces."""

    def __init__(
        self,
        chooser: ToolChooser,
        text: Callable[[BaseTool], str],
        query: QueryOf,
        request: ModelRequest[Any],
    ) -> None:
        self._chooser = chooser
        self._request = request
        self.tools = [tool for tool in request.tools if isinstance(tool, BaseTool)]
        self._texts = [(tool.name, text(tool)) for tool in self.tools]
        self._query = query(request.messages)
        self._choice: Choice | None = None
        self.runnable = RunnableLambda(self._choose, afunc=self._achoose, name="RerankTools")
        self.summary = {"query": self._query, "tools": [tool.name for tool in self.tools]}

    def _choose(self, _: object) -> dict[str, Any]:
        with tagged(**_TAGS, **{"rag_rerank.purpose": "tools"}):
            self._choice = self._chooser.choose(self._query, self._texts, self._needed())
        return self._choice.report.to_dict()

    async def _achoose(self, _: object) -> dict[str, Any]:
        with tagged(**_TAGS, **{"rag_rerank.purpose": "tools"}):
            self._choice = await self._chooser.achoose(self._query, self._texts, self._needed())
        return self._choice.report.to_dict()

    def _needed(self) -> dict[str, KeptBecause]:
        """Return the tools that the model called in this turn, and those that it must call."""
        scalars = find_scalars(self._request.tool_choice)  # in a dozen forms, all of which name the tool
        required = (text for text in scalars if isinstance(text, str))
        return {**dict.fromkeys(_names_called(self._request.messages), "called"), **dict.fromkeys(required, "required")}

    def report(self) -> ToolChoice | None:
        """Return the report, after logging why it is degraded."""
        report = None if self._choice is None else self._choice.report
        for reason in () if report is None else report.degraded:
            logger.warning("RerankTools: %s", reason)
        return report

    def request(self) -> ModelRequest[Any]:
        """Return the request with the chosen tools, and those that providers run, in their order."""
        if self._choice is None or not self._choice.report.dropped:
            return self._request
        chosen_ids = {id(self.tools[i]) for i in self._choice.positions}
        tools = [tool for tool in self._request.tools if not isinstance(tool, BaseTool) or id(tool) in chosen_ids]
        return self._request.override(tools=tools)


def _names_called(messages: Sequence[AnyMessage]) -> Iterator[str]:
    """Yield the names of the tools that the model called since the last message of the user."""
    for message in reversed(messages):
        if isinstance(message, HumanMessage):
            return
        if isinstance(message, AIMessage):
            calls = (*message.tool_calls, *message.invalid_tool_calls)
            yield from (call["name"] for call in calls if call["name"])


class TrimToolResults(AgentMiddleware[AgentState[Any], Any, Any]):
    """Middleware that lets the model see only the parts of long tool results that matter to the turn.

    A result of more than ``max_tokens`` tokens is split into parts (entries of JSON, paragraphs, runs of sentences).
    The reranker compares them with what the user asked and what the tool was called with. The best ones that fit are
    kept, in their own order, and a mark such as ``[… 1,234 tokens left out]`` stands for the rest. The messages in the
    state of the agent are not changed: only the model's request has the shorter text, in copies with the same ids,
    status, name and artifact.

    Each result is trimmed for the turn in which the tool was called, new and old ones alike, by the same budget. So a
    result reads the same in all later calls of the model, and providers can cache the conversation. For a limit of all
    results together, put LangChain's ``ContextEditingMiddleware`` behind this one.

    Never trimmed: results with the status ``"error"``, results of ``exclude_tools``, and blocks that are no text. Text
    that is left out of JSON leaves text that is no JSON any more; brackets and keys around what is kept stay.

    Each trimming is a run called ``TrimToolResults`` in traces, with the number of tokens before and after.

    Args:
        reranker: A name (``"embedded"``, ``"cohere:rerank-v3.5"``), a config mapping, the path of a config file, or
            a ``rag_rerank.Reranker``.
        max_tokens: How many tokens the text of one result may have, marks included; at least 50.
        tokenizer: What counts tokens, as in ``rag_rerank.Packing``; ``None`` takes an estimate that is rather too high.
        exclude_tools: Names of tools whose results are never trimmed.
        query: What the turn is about, from the messages up to the result; by default the last message of the user,
            after the question of the assistant that it answers, if there is one. Strings and numbers among the
            arguments of the tool call are added, up to 200 characters each.
        instruction: What relevance means here, in words, for a reranker that follows instructions.
        on_failure: ``"keep_all"``: if the reranker fails, the model sees the whole result; a warning is logged, and
            ``TrimmedResult.degraded`` says so. ``"raise"``: the error reaches the caller of the agent.
        on_trim: Called with the `TrimmedResult` of each result that is trimmed, once; a coroutine function is awaited,
            in async calls.

    Raises:
        ConfigError: ``reranker`` cannot be built, or an option is wrong.
    """

    def __init__(
        self,
        reranker: Spec,
        *,
        max_tokens: int = 1_000,
        tokenizer: Tokenizer | None = None,
        exclude_tools: Collection[str] = (),
        query: QueryOf | None = None,
        instruction: str | None = None,
        on_failure: OnFailure = "keep_all",
        on_trim: Callable[[TrimmedResult], object] | None = None,
    ) -> None:
        super().__init__()
        if isinstance(exclude_tools, str):
            raise ConfigError("expected a list of names of tools", path="exclude_tools")
        self._trimmer = ResultTrimmer(
            build(reranker),
            max_tokens=max_tokens,
            tokenizer=tokenizer,
            instruction=instruction,
            on_failure=on_failure,
        )
        self._exclude_tools = frozenset(exclude_tools)
        self._query = query or last_user_text
        self._on_trim = on_trim
        self._results = RecentValues[TrimmedResult](1_000)

    def wrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], ModelResponse[Any]]
    ) -> ModelResponse[Any]:
        """Call the model with trimmed results."""
        check_sync_hooks(on_trim=self._on_trim)
        steps = self._find_long(request.messages)
        for step in steps:
            if step.result is None:
                step.runnable.invoke(step.summary)
                call_hooks(("on_trim", self._on_trim, self._report(step)))
        return handler(_with_trimmed(request, steps))

    async def awrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]]
    ) -> ModelResponse[Any]:
        """Do what `wrap_model_call` does without blocking the event loop; the results are trimmed side by side."""
        steps = await asyncio.to_thread(self._find_long, request.messages)
        new = [step for step in steps if step.result is None]
        await asyncio.gather(*(step.runnable.ainvoke(step.summary) for step in new))
        for step in new:
            await acall_hooks(("on_trim", self._on_trim, self._report(step)))
        return await handler(_with_trimmed(request, steps))

    def _find_long(self, messages: Sequence[AnyMessage]) -> list[_TrimStep]:
        """Return the results over the budget; those that were trimmed before have what they were trimmed to."""
        steps = []
        for index, message in enumerate(messages):
            if not isinstance(message, ToolMessage) or message.status == "error":
                continue
            name, arguments = _find_call(messages[:index], message)
            texts = _texts_of(message)
            if name not in self._exclude_tools and self._trimmer.is_long(texts):
                query = result_query(self._query(messages[:index]), arguments)
                step = _TrimStep(self._trimmer, index, name, message.tool_call_id, query, texts)
                step.result = self._results.get(step.key)
                steps.append(step)
        return steps

    def _report(self, step: _TrimStep) -> TrimmedResult | None:
        """Return the report, after logging why it is degraded, and keep what was trimmed for later calls."""
        if step.result is not None:
            for reason in step.result.degraded:
                logger.warning("TrimToolResults: %s", reason)
            if step.result.context is not None:
                self._results.put(step.key, step.result)
        return step.result


class _TrimStep:
    """The trimming of one result, as a step that shows in traces."""

    def __init__(
        self, trimmer: ResultTrimmer, index: int, tool: str, call_id: str, query: str, texts: Sequence[str]
    ) -> None:
        self._trimmer = trimmer
        self.index = index
        self._arguments = (tool, call_id, query, texts)
        self.result: TrimmedResult | None = None
        self.key = RecentValues.key([tool, call_id, query, *texts])
        self.runnable = RunnableLambda(self._trim, afunc=self._atrim, name="TrimToolResults")
        self.summary = {"tool": tool, "call_id": call_id, "query": query}

    def _trim(self, _: object) -> dict[str, Any]:
        with tagged(**_TAGS, **{"rag_rerank.purpose": "tool result"}):
            self.result = self._trimmer.trim(*self._arguments)
        return self.result.to_dict()

    async def _atrim(self, _: object) -> dict[str, Any]:
        with tagged(**_TAGS, **{"rag_rerank.purpose": "tool result"}):
            self.result = await self._trimmer.atrim(*self._arguments)
        return self.result.to_dict()


def _find_call(messages: Sequence[AnyMessage], result: ToolMessage) -> tuple[str, Mapping[str, Any]]:
    """Return the name of the tool that gave a result, and what it was called with."""
    for message in reversed(messages):
        for call in message.tool_calls if isinstance(message, AIMessage) else ():
            if call["id"] == result.tool_call_id:
                return result.name or call["name"], call["args"]
    return result.name or "", {}


def _texts_of(message: ToolMessage) -> list[str]:
    """Return the texts of a result: its content, or its blocks of text."""
    blocks = [message.content] if isinstance(message.content, str) else message.content
    return [text for block in blocks if (text := _text_of_block(block)) is not None]


def _text_of_block(block: str | dict[Any, Any]) -> str | None:
    if isinstance(block, str):
        return block
    text = block.get("text")
    return text if block.get("type") == "text" and isinstance(text, str) else None


def _with_trimmed(request: ModelRequest[Any], steps: Sequence[_TrimStep]) -> ModelRequest[Any]:
    messages = list(request.messages)
    for step in steps:
        message = messages[step.index]
        if step.result is not None and step.result.context is not None:
            messages[step.index] = message.model_copy(update={"content": _content(message, step.result.texts)})
    return request.override(messages=messages) if steps else request


def _content(message: AnyMessage, texts: Sequence[str | None]) -> str | list[str | dict[Any, Any]]:
    """Return the content of a message with these texts in place of its own."""
    if isinstance(message.content, str):
        return texts[0] or ""
    content: list[str | dict[Any, Any]] = []
    rest = iter(texts)
    for block in message.content:
        if _text_of_block(block) is None:
            content.append(block)
        elif (text := next(rest)) is not None:
            content.append(text if isinstance(block, str) else {**block, "text": text})
    return content
