"""For LlamaIndex' agents: a tool retriever that reranks tools, and tools whose long results are trimmed."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.base.llms.types import ContentBlock, TextBlock
from llama_index.core.objects import ObjectRetriever, SimpleToolNodeMapping
from llama_index.core.schema import BaseNode, NodeWithScore, QueryBundle, QueryType
from llama_index.core.tools import BaseTool, FunctionTool, ToolOutput, adapt_to_async_tool
from rag_rerank import ConfigError, Spec, build, tagged
from rag_rerank.hosts import (
    Choice,
    OnFailure,
    ResultTrimmer,
    Tokenizer,
    ToolChoice,
    ToolChooser,
    TrimmedResult,
    acall_hooks,
    call_hooks,
    check_sync_hooks,
    result_query,
    tool_text,
)

__all__ = ["RerankTools", "ToolChoice", "TrimToolResults", "TrimmedResult"]

logger = logging.getLogger(__name__)

_TAGS = {"rag_rerank.host": "llama_index"}
"""The tag of each call: records show where it came from."""


def describe_tool(tool: BaseTool) -> str:
    """Return what the reranker reads of a tool: name, description, names and descriptions of the arguments."""
    metadata = tool.metadata
    return tool_text(metadata.get_name(), metadata.description or "", metadata.get_parameters_dict())


class RerankTools(ObjectRetriever[BaseTool]):
    """A tool retriever that returns the tools most relevant to the user's message: ``tool_retriever`` of an agent.

    The tools keep their order. An agent looks a tool that it runs up by its name; then that tool alone is returned, so
    the agent can run every tool. With at most ``top_k`` tools beside those of ``always_include``, nothing is ranked.

    Args:
        tools: The tools to choose from; functions become ``FunctionTool``.
        reranker: A name (``"embedded"``, ``"cohere:rerank-v3.5"``), a config mapping, the path of a config file, or
            a ``rag_rerank.Reranker``.
        top_k: How many relevant tools to return.
        always_include: Names of tools to return in any case, beside these.
        text: What the reranker reads of a tool; by default its name in words, its description, and the names and
            descriptions of its arguments.
        instruction: What relevance means here, in words, for a reranker that follows instructions.
        on_failure: ``"keep_all"``: if the reranker fails, all tools are returned; a warning is logged, and
            ``ToolChoice.degraded`` says so. ``"raise"``: the error reaches the caller of the agent.
        on_choice: Called with the ``rag_rerank.hosts.ToolChoice`` of each message; a coroutine function is awaited, in
            async calls.

    Raises:
        ConfigError: ``reranker`` cannot be built, an option is wrong, two tools have one name, or ``always_include``
            names none of the tools.
    """

    def __init__(
        self,
        tools: Sequence[BaseTool | Callable[..., Any]],
        reranker: Spec,
        *,
        top_k: int = 10,
        always_include: Collection[str] = (),
        text: Callable[[BaseTool], str] | None = None,
        instruction: str | None = None,
        on_failure: OnFailure = "keep_all",
        on_choice: Callable[[ToolChoice], object] | None = None,
    ) -> None:
        self._tools = [tool if isinstance(tool, BaseTool) else FunctionTool.from_defaults(tool) for tool in tools]
        names = [tool.metadata.get_name() for tool in self._tools]
        twice = sorted(name for name, count in Counter(names).items() if count > 1)
        if twice:
            raise ConfigError(f"two tools have the name {twice[0]!r}; give each its own", path="tools")
        mapping = SimpleToolNodeMapping.from_objects(self._tools)
        super().__init__(_AllTools(mapping.to_nodes(self._tools)), mapping)
        self._chooser = ToolChooser(
            build(reranker),
            top_k=top_k,
            always_include=always_include,
            instruction=instruction,
            on_failure=on_failure,
        )
        self._texts = [(name, (text or describe_tool)(tool)) for name, tool in zip(names, self._tools, strict=True)]
        self._on_choice = on_choice
        Choice(self._chooser, "", self._texts, {})  # checks always_include

    def retrieve(self, str_or_query_bundle: QueryType) -> list[BaseTool]:
        """Return the tools for a message of the user, or the one of this name."""
        check_sync_hooks(on_choice=self._on_choice)
        query = _text_of(str_or_query_bundle)
        if tools := self._tools_by_name(query):
            return tools
        with tagged(**_TAGS, **{"rag_rerank.purpose": "tools"}):
            choice = self._chooser.choose(query, self._texts, {})
        call_hooks(("on_choice", self._on_choice, _logged(choice.report)))
        return [self._tools[i] for i in choice.positions]

    async def aretrieve(self, str_or_query_bundle: QueryType) -> list[BaseTool]:
        """Do what `retrieve` does without blocking the event loop."""
        query = _text_of(str_or_query_bundle)
        if tools := self._tools_by_name(query):
            return tools
        with tagged(**_TAGS, **{"rag_rerank.purpose": "tools"}):
            choice = await self._chooser.achoose(query, self._texts, {})
        await acall_hooks(("on_choice", self._on_choice, _logged(choice.report)))
        return [self._tools[i] for i in choice.positions]

    def _tools_by_name(self, query: str) -> list[BaseTool]:
        return [tool for tool in self._tools if tool.metadata.name == query]


class _AllTools(BaseRetriever):
    """What `RerankTools` chooses from, as the host's own kind of retriever."""

    def __init__(self, nodes: Sequence[BaseNode]) -> None:
        super().__init__()
        self._nodes = nodes

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return [NodeWithScore(node=node) for node in self._nodes]


class TrimToolResults:
    """Makes tools whose long results an agent's model reads only in part: ``FunctionAgent(tools=trim.wrap(tools))``.

    A result of more than ``max_tokens`` tokens is split into parts (entries of JSON, paragraphs, runs of sentences).
    The reranker compares them with what the user asked and what the tool was called with. The best ones that fit are
    kept, in their own order, and a mark such as ``[… 1,234 tokens left out]`` stands for the rest. The trimmed text is
    the content of the ``ToolOutput``, which the model reads and the memory keeps; ``raw_output`` stays the original.
    A result is trimmed once, so it reads the same in later turns.

    Never trimmed: results that are errors, blocks that are no text, and results of tools that answer the user
    themselves (``return_direct``).

    Args:
        reranker: A name (``"embedded"``, ``"cohere:rerank-v3.5"``), a config mapping, the path of a config file, or
            a ``rag_rerank.Reranker``.
        max_tokens: How many tokens the text of one result may have, marks included; at least 50.
        tokenizer: What counts tokens, as in ``rag_rerank.Packing``; ``None`` takes an estimate that is rather too high.
        instruction: What relevance means here, in words, for a reranker that follows instructions.
        on_failure: ``"keep_all"``: if the reranker fails, the model sees the whole result; a warning is logged, and
            ``TrimmedResult.degraded`` says so. ``"raise"``: the error is the result of the tool, as all errors of tools
            are.
        on_trim: Called with the ``rag_rerank.hosts.TrimmedResult`` of each result that is trimmed; a coroutine function
            is awaited, in async calls.

    Raises:
        ConfigError: ``reranker`` cannot be built, or an option is wrong.
    """

    def __init__(
        self,
        reranker: Spec,
        *,
        max_tokens: int = 1_000,
        tokenizer: Tokenizer | None = None,
        instruction: str | None = None,
        on_failure: OnFailure = "keep_all",
        on_trim: Callable[[TrimmedResult], object] | None = None,
    ) -> None:
        self._trimmer = ResultTrimmer(
            build(reranker),
            max_tokens=max_tokens,
            tokenizer=tokenizer,
            instruction=instruction,
            on_failure=on_failure,
        )
        self._on_trim = on_trim

    def wrap(self, tools: Sequence[BaseTool | Callable[..., Any]]) -> list[BaseTool]:
        """Return tools with the same names and descriptions whose results are trimmed; functions become tools."""
        own = [tool if isinstance(tool, BaseTool) else FunctionTool.from_defaults(tool) for tool in tools]
        return [tool if tool.metadata.return_direct else TrimmedTool(tool, self) for tool in own]

    def trim(self, output: ToolOutput, query: str, arguments: Mapping[str, Any]) -> ToolOutput:
        """Return a result as the model reads it; the same object if nothing is left out."""
        check_sync_hooks(on_trim=self._on_trim)
        texts = _texts_of(output)
        if output.is_error or not self._trimmer.is_long(texts):
            return output
        with tagged(**_TAGS, **{"rag_rerank.purpose": "tool result"}):
            result = self._trimmer.trim(output.tool_name, None, result_query(query, arguments), texts)
        call_hooks(("on_trim", self._on_trim, _logged(result)))
        return _with_texts(output, result)

    async def atrim(self, output: ToolOutput, query: str, arguments: Mapping[str, Any]) -> ToolOutput:
        """Do what `trim` does without blocking the event loop."""
        texts = _texts_of(output)
        if output.is_error or not self._trimmer.is_long(texts):
            return output
        with tagged(**_TAGS, **{"rag_rerank.purpose": "tool result"}):
            result = await self._trimmer.atrim(output.tool_name, None, result_query(query, arguments), texts)
        await acall_hooks(("on_trim", self._on_trim, _logged(result)))
        return _with_texts(output, result)


class TrimmedTool(FunctionTool):
    """A tool whose results are trimmed. It is a ``FunctionTool`` because agents give their context to these alone."""

    def __init__(self, tool: BaseTool, trim: TrimToolResults) -> None:
        function = tool.real_fn if isinstance(tool, FunctionTool) else tool.__call__
        super().__init__(fn=function, metadata=tool.metadata)
        self._tool = tool
        self._trim = trim
        self._inner_context = tool.ctx_param_name if isinstance(tool, FunctionTool) else None
        self.requires_context = True
        self.ctx_param_name = self._inner_context or "rag_rerank_context"

    def call(self, *args: Any, **kwargs: Any) -> ToolOutput:
        """Call the tool, and trim its result for the arguments alone: nobody says what the user asked."""
        arguments, _ = self._split(kwargs)
        return self._trim.trim(self._tool(*args, **kwargs), "", arguments)

    async def acall(self, *args: Any, **kwargs: Any) -> ToolOutput:
        """Call the tool, and trim its result for what the user asked, which is in the context of the agent."""
        arguments, context = self._split(kwargs)
        own = kwargs if self._inner_context else arguments
        output = await adapt_to_async_tool(self._tool).acall(*args, **own)
        query = "" if context is None else await context.store.get("user_msg_str", default="")
        return await self._trim.atrim(output, query, arguments)

    def _split(self, kwargs: Mapping[str, Any]) -> tuple[dict[str, Any], Any]:
        """Return the arguments of the model, and the context of the agent if there is one."""
        arguments = {name: value for name, value in kwargs.items() if name != self.ctx_param_name}
        return arguments, kwargs.get(str(self.ctx_param_name))


def _text_of(query: QueryType) -> str:
    return query if isinstance(query, str) else query.query_str


def _logged(report: Any) -> Any:
    """Return a report, after logging why it is degraded."""
    for reason in report.degraded:
        logger.warning("%s: %s", type(report).__name__, reason)
    return report


def _texts_of(output: ToolOutput) -> list[str]:
    return [block.text for block in output.blocks if isinstance(block, TextBlock)]


def _with_texts(output: ToolOutput, result: TrimmedResult) -> ToolOutput:
    """Return a copy of a result with these texts in place of its own."""
    if result.context is None:
        return output
    rest = iter(result.texts)
    blocks: list[ContentBlock] = []
    for block in output.blocks:
        if not isinstance(block, TextBlock):
            blocks.append(block)
        elif (text := next(rest)) is not None:
            blocks.append(block.model_copy(update={"text": text}))
    return output.model_copy(update={"blocks": blocks})
