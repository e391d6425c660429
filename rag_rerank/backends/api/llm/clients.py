"""Requests and answers of OpenAI's SDK, and its errors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from rag_rerank._lazy import need
from rag_rerank.backends.api.exchange import Exchange, as_count, as_name, as_number
from rag_rerank.backends.api.llm.completion import Completion
from rag_rerank.backends.api.llm.prompts import Prompt
from rag_rerank.errors import BackendError, RateLimited, RequestTooLarge
from rag_rerank.execution.http_clients import is_loopback
from rag_rerank.trace import Usage

__all__ = [
    "TOP_LOGPROBS",
    "field_of",
    "new_client",
    "openai_arguments",
    "openai_error",
    "openai_sdk",
    "read_chat_completion",
    "status_error",
    "token_logprobs",
    "token_usage_of",
    "without_retries",
]

_TOO_LONG = re.compile(
    r"context_length_exceeded|context (?:length|window|size)|maximum context|too many tokens|prompt is too long|"
    r"reduce the length|longer than the model",
    re.IGNORECASE,
)
"""How servers say that a prompt is longer than the model reads."""

TOP_LOGPROBS = 5
"""Likeliest tokens to ask for; every endpoint that gives any gives that many."""

_WORD_TOKENS = 5
"""Tokens of an answer of one word, with the white space and quotes that some models put before it."""


def openai_sdk() -> Any:
    """Return OpenAI's SDK."""
    return need("openai", extra="llm")


def new_client(kind: str, server: str | None, timeout: float) -> Any:
    """Make a client of the SDK, without retries and redirects; each request brings the key, which is read at each call.

    Args:
        kind: ``"OpenAI"`` or ``"AsyncOpenAI"``.
        server: Where the endpoint is; ``None`` for OpenAI's own. One on this machine is reached without a proxy.
        timeout: Seconds to wait for each connection, write and read.
    """
    sdk = openai_sdk()
    http_client = sdk.DefaultAsyncHttpxClient if kind.startswith("Async") else sdk.DefaultHttpxClient
    # as for our own client: without TLS no certificate is ever read, and loading them takes longer than a request
    direct = {"trust_env": False, "verify": server.startswith("https:")} if server and is_loopback(server) else {}
    return getattr(sdk, kind)(
        api_key="-",
        base_url=server,
        timeout=timeout,
        max_retries=0,
        http_client=http_client(follow_redirects=False, **direct),
    )


def without_retries(client: Any) -> Any:
    """Return an injected client without retries of its own; one that is no client of the SDK as it is."""
    with_options = getattr(client, "with_options", None)
    return client if with_options is None else with_options(max_retries=0)


def openai_arguments(
    prompt: Prompt,
    *,
    model: str,
    temperature: float | None,
    seed: int | None,
    response_format: str | None,
    extra_body: Mapping[str, Any],
    timeout: float,
) -> dict[str, Any]:
    """Return the arguments of ``chat.completions.create``; what is ``None`` is left out."""
    arguments: dict[str, Any] = {
        "model": model,
        "messages": [{"role": "system", "content": prompt.system}, {"role": "user", "content": prompt.user}],
        "timeout": timeout,
    }
    if temperature is not None:
        arguments["temperature"] = temperature
    if seed is not None:
        arguments["seed"] = seed
    if prompt.ask == "yes_no":
        arguments |= {"logprobs": True, "top_logprobs": TOP_LOGPROBS, "max_tokens": _WORD_TOKENS}
    elif response_format == "json_object":
        arguments["response_format"] = {"type": "json_object"}
    elif response_format == "json_schema":
        schema = {"name": prompt.ask, "strict": True, "schema": prompt.schema}
        arguments["response_format"] = {"type": "json_schema", "json_schema": schema}
    if extra_body:
        arguments["extra_body"] = dict(extra_body)
    return arguments


def read_chat_completion(exchange: Exchange, answer: Any) -> Completion:
    """Read what ``chat.completions.create`` returned.

    Raises:
        BadResponse: It is no chat completion.
    """
    choices = getattr(answer, "choices", None)
    choice = choices[0] if isinstance(choices, (list, tuple)) and choices else None
    message = getattr(choice, "message", None)
    if message is None:
        raise exchange.bad_response("it has no choice with a message")
    content, reason = getattr(message, "content", None), getattr(choice, "finish_reason", None)
    tokens = getattr(getattr(choice, "logprobs", None), "content", None)
    return Completion(
        content if isinstance(content, str) else "",
        logprobs=token_logprobs(tokens),
        refusal=bool(getattr(message, "refusal", None)) or reason == "content_filter",
        cut_off=reason == "length",
        model=as_name(getattr(answer, "model", None)),
        usage=token_usage_of(getattr(answer, "usage", None), "prompt_tokens", "completion_tokens"),
    )


def openai_error(exchange: Exchange, error: Exception) -> BackendError:
    """Translate an error of OpenAI's SDK into one of ours."""
    sdk = openai_sdk()
    if isinstance(error, sdk.APITimeoutError):
        return exchange.timeout_error()
    if isinstance(error, sdk.APIStatusError):
        return status_error(exchange, error.status_code, error.response.headers, error.body)
    if isinstance(error, sdk.APIConnectionError):
        cause = error.__cause__
        return exchange.connection_error(cause if isinstance(cause, Exception) else error)
    if isinstance(error, sdk.APIError):  # an answer that is no JSON, or not that of a completion
        return exchange.bad_response(type(error).__name__)
    return exchange.sdk_error(error)


def status_error(exchange: Exchange, status: int, headers: Mapping[str, str], body: object) -> BackendError:
    """Return the error for an HTTP status; a prompt that is too long is `RequestTooLarge`."""
    if status in (400, 422) and _TOO_LONG.search(str(body)):
        advice = "the prompt is longer than the model reads; give context, max_text_tokens or a smaller window"
        return exchange.http_error(status, headers, body, kind=RequestTooLarge, advice=advice)
    if status == 529:  # overloaded, by some providers
        return exchange.http_error(status, headers, body, kind=RateLimited)
    return exchange.http_error(status, headers, body)


def token_logprobs(tokens: object) -> tuple[Mapping[str, float], ...]:
    """Return the likeliest tokens at each place, in the shape of OpenAI's ``logprobs.content``."""
    if not isinstance(tokens, (list, tuple)):
        return ()
    places = []
    for token in tokens:
        likeliest = field_of(token, "top_logprobs")
        candidates = [*(likeliest if isinstance(likeliest, (list, tuple)) else ()), token]
        pairs = ((field_of(one, "token"), as_number(field_of(one, "logprob"))) for one in candidates)
        places.append({name: value for name, value in pairs if isinstance(name, str) and value is not None})
    return tuple(place for place in places if place)


def token_usage_of(usage: object, input_field: str, output_field: str) -> Usage:
    """Return the tokens that an answer names, and the US dollars, which OpenRouter names."""
    tokens, output = as_count(field_of(usage, input_field)), as_count(field_of(usage, output_field))
    return Usage(
        tokens=None if tokens is None else int(tokens),
        output_tokens=None if output is None else int(output),
        cost=as_count(field_of(usage, "cost")),
    )


def field_of(item: object, name: str) -> object:
    """Return a field of a JSON object or an attribute of another one; ``None`` without it."""
    return item.get(name) if isinstance(item, Mapping) else getattr(item, name, None)
