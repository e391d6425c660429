"""Language models that the user passes in: chat models of LangChain, and LLMs of LlamaIndex."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal, TypeVar

from rag_rerank._lazy import need
from rag_rerank.backends.api.exchange import Exchange, as_name, as_number
from rag_rerank.backends.api.llm.clients import TOP_LOGPROBS, field_of, status_error, token_logprobs, token_usage_of
from rag_rerank.backends.api.llm.completion import Completion
from rag_rerank.backends.api.llm.prompts import Prompt
from rag_rerank.errors import BackendError
from rag_rerank.execution.clock import wait_for_any
from rag_rerank.execution.deadline import run_in_thread

__all__ = ["Framework", "aask_object", "ask_object", "framework_of", "model_name_of"]

T = TypeVar("T")

Framework = Literal["langchain", "llama_index"]
"""Whose language model an object is."""


def framework_of(llm: object) -> Framework | None:
    """Return whose language model an object is; ``None`` where it has the methods of neither."""
    if callable(getattr(llm, "invoke", None)) and callable(getattr(llm, "ainvoke", None)):
        return "langchain"
    if callable(getattr(llm, "chat", None)) and callable(getattr(llm, "achat", None)):
        return "llama_index"
    return None


def model_name_of(llm: object) -> str:
    """Return the name of an object's model, or that of its class."""
    metadata = getattr(llm, "metadata", None)
    for value in (getattr(llm, "model_name", None), getattr(llm, "model", None), getattr(metadata, "model_name", None)):
        if isinstance(value, str) and value.strip() and value != "unknown":
            return value
    return type(llm).__name__


def ask_object(exchange: Exchange, llm: Any, prompt: Prompt, timeout: float) -> Completion:
    """Ask a model object, on a thread of its own, because it knows no time limit.

    Raises:
        BackendError: It raised an error, has not answered in time, or answered something without a text.
    """
    call, read = _functions_of(llm)
    work = partial(_call_in_time, exchange, timeout, partial(call, llm, prompt, asynchronous=False))
    return read(exchange, exchange.call_sdk(work, _object_error))


async def aask_object(exchange: Exchange, llm: Any, prompt: Prompt, timeout: float) -> Completion:
    """Do what `ask_object` does on the event loop."""
    call, read = _functions_of(llm)
    work = partial(_acall_in_time, exchange, timeout, partial(call, llm, prompt, asynchronous=True))
    return read(exchange, await exchange.acall_sdk(work, _object_error))


def _functions_of(llm: Any) -> tuple[Callable[..., Any], Callable[[Exchange, Any], Completion]]:
    """Return the function that calls an object, and the one that reads what it returns."""
    if framework_of(llm) == "langchain":
        return _call_langchain, _read_langchain
    return _call_llama_index, _read_llama_index


def _call_langchain(llm: Any, prompt: Prompt, *, asynchronous: bool) -> Any:
    """Call a LangChain chat model, or another runnable that takes messages; return its answer, or an awaitable."""
    model = llm.bind(logprobs=True, top_logprobs=TOP_LOGPROBS) if prompt.ask == "yes_no" else llm
    messages = [("system", prompt.system), ("human", prompt.user)]
    return (model.ainvoke if asynchronous else model.invoke)(messages)


def _read_langchain(exchange: Exchange, answer: Any) -> Completion:
    """Read what a LangChain model returned: a message, or a text."""
    if isinstance(answer, str):
        return Completion(answer)
    facts = getattr(answer, "response_metadata", None)
    facts = facts if isinstance(facts, Mapping) else {}
    more = getattr(answer, "additional_kwargs", None)
    logprobs = facts.get("logprobs")
    reason = facts.get("finish_reason") or facts.get("stop_reason")
    return Completion(
        _text_of(exchange, getattr(answer, "content", None)),
        logprobs=token_logprobs(logprobs.get("content") if isinstance(logprobs, Mapping) else None),
        refusal=bool(isinstance(more, Mapping) and more.get("refusal")) or reason in ("content_filter", "refusal"),
        cut_off=reason in ("length", "max_tokens"),
        model=as_name(facts.get("model_name") or facts.get("model")),
        usage=token_usage_of(getattr(answer, "usage_metadata", None), "input_tokens", "output_tokens"),
    )


def _call_llama_index(llm: Any, prompt: Prompt, *, asynchronous: bool) -> Any:
    """Call a LlamaIndex LLM; return its answer, or an awaitable."""
    message = need("llama_index.core.llms", extra="llm").ChatMessage
    messages = [message(role="system", content=prompt.system), message(role="user", content=prompt.user)]
    return (llm.achat if asynchronous else llm.chat)(messages)


def _read_llama_index(exchange: Exchange, answer: Any) -> Completion:
    """Read what a LlamaIndex LLM returned: a chat response."""
    raw = getattr(answer, "raw", None)
    logprobs = getattr(answer, "logprobs", None)
    return Completion(
        _text_of(exchange, getattr(getattr(answer, "message", None), "content", None)),
        logprobs=tuple(
            {str(one.token): value for one in place if (value := as_number(getattr(one, "logprob", None))) is not None}
            for place in logprobs or ()
            if isinstance(place, Sequence)
        ),
        model=as_name(field_of(raw, "model")),
        usage=token_usage_of(field_of(raw, "usage"), "prompt_tokens", "completion_tokens"),
    )


def _object_error(exchange: Exchange, error: Exception) -> BackendError:
    """Translate an error that an object of the user raised, by the status that most SDKs put on it."""
    response = getattr(error, "response", None)
    status = getattr(error, "status_code", None) or getattr(response, "status_code", None)
    if isinstance(status, int) and not isinstance(status, bool) and 300 <= status < 600:
        headers = getattr(response, "headers", None)
        body = getattr(error, "body", None) or str(error)
        return status_error(exchange, status, headers if isinstance(headers, Mapping) else {}, body)
    name = type(error).__name__.lower()
    if "timeout" in name:
        return exchange.timeout_error()
    if "connect" in name:
        return exchange.connection_error(error)
    return exchange.sdk_error(error)


def _call_in_time(exchange: Exchange, timeout: float, work: Callable[[], T]) -> T:
    """Call an object that knows no time limit, on a thread of its own; a late call is left running.

    Raises:
        BackendTimeout: It has not answered in time.
    """
    future = run_in_thread(work)
    wait_for_any([future], timeout)
    if not future.done():
        raise exchange.timeout_error()
    return future.result()


async def _acall_in_time(exchange: Exchange, timeout: float, work: Callable[[], Awaitable[T]]) -> T:
    """Do what `_call_in_time` does on the event loop; a late call is cancelled."""
    import asyncio

    task = asyncio.ensure_future(work())
    try:
        await asyncio.wait({task}, timeout=timeout)
        if not task.done():
            raise exchange.timeout_error()
        return task.result()
    finally:
        task.cancel()


def _text_of(exchange: Exchange, content: object) -> str:
    """Return the text of a message, whose content may be a list of blocks.

    Raises:
        BadResponse: It has neither.
    """
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if not isinstance(content, (list, tuple)):
        raise exchange.bad_response("it is no message with a text")
    texts = (block if isinstance(block, str) else field_of(block, "text") for block in content)
    return "".join(text for text in texts if isinstance(text, str))
