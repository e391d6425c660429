"""One answer of a decision model as a reply: over HTTP in either wire format, or from a model of LangChain."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from rag_rerank.backends.api.decisions.answers import REFUSAL, UnusableAnswer, read_answers
from rag_rerank.backends.api.decisions.langchain_models import read_response
from rag_rerank.backends.api.decisions.providers import DecisionProvider
from rag_rerank.backends.api.decisions.questions import Questionnaire
from rag_rerank.backends.api.decisions.wires import WIRES
from rag_rerank.backends.api.exchange import Exchange, Reply, as_count, as_name, get_field
from rag_rerank.backends.api.http_transport import HttpResponse
from rag_rerank.errors import BackendError, RequestRejected, RequestTooLarge
from rag_rerank.trace import Usage

__all__ = ["DecisionExchange", "read_http_reply", "read_model_reply", "refused_reply"]

_TOO_LONG = ("max_tokens_exceeded", "context_length_exceeded")
"""The words of TypeSafe and of OpenAI for a request with too many tokens, which have the status of other mistakes."""


@dataclass(frozen=True, slots=True)
class DecisionExchange(Exchange):
    """One request to a decision model.

    Args:
        instruction: What relevance means in this call.
    """

    instruction: str | None = field(default=None, repr=False)


def read_http_reply(
    exchange: Exchange, provider: DecisionProvider, questionnaire: Questionnaire, response: HttpResponse
) -> Reply:
    """Return the reply of a server.

    Raises:
        BackendError: It answered with an error, or with something else than one number for each question.
    """
    body, envelope = response.parsed, provider.envelope
    if response.status != 200 or (envelope is not None and get_field(body, "success", None) is False):
        raise _http_error(exchange, provider, response, body)
    if envelope is not None and isinstance(get_field(body, envelope, None), Mapping):
        body = body[envelope]
    if isinstance(body, str):
        raise exchange.bad_response("it is not JSON of the expected shape")
    usage = get_field(body, "usage", None)
    return _reply(
        exchange,
        questionnaire,
        lambda: WIRES[provider.wire].answers(questionnaire, body),
        Usage(tokens=_whole(get_field(usage, "input_tokens", None)), cost=as_count(get_field(usage, "cost", None))),
        get_field(body, "model", None),
    )


def read_model_reply(exchange: Exchange, questionnaire: Questionnaire, response: Any) -> Reply:
    """Return the reply of a decision model of LangChain.

    Raises:
        BadResponse: It is something else than one number for each question.
    """
    tokens = _whole(get_field(getattr(response, "usage", None), "input_tokens", None))
    model = getattr(response, "model", None)
    return _reply(exchange, questionnaire, lambda: read_response(response), Usage(tokens=tokens), model)


def refused_reply(exchange: Exchange) -> Reply:
    """Return the reply of a model that refused the whole request: no text has a score."""
    positions = range(len(exchange.texts))
    return Reply([(i, 0.0) for i in positions], unscored=dict.fromkeys(positions, REFUSAL))


def _reply(
    exchange: Exchange,
    questionnaire: Questionnaire,
    find_answers: Callable[[], Mapping[str, object]],
    usage: Usage,
    model: object,
) -> Reply:
    try:
        values = read_answers(questionnaire.questions, find_answers(), exchange.first)
    except UnusableAnswer as error:
        problem = exchange.redact(str(error))
    else:
        return Reply(
            [(i, 0.0 if value is None else value) for i, value in enumerate(values)],
            usage,
            model=as_name(model),
            unscored={i: REFUSAL for i, value in enumerate(values) if value is None},
        )
    raise exchange.bad_response(problem)


def _http_error(exchange: Exchange, provider: DecisionProvider, response: HttpResponse, body: object) -> BackendError:
    """Return the error for an answer without scores."""
    status: int | None = response.status
    kind: type[BackendError] | None = None
    if response.status in (400, 422) and any(word in str(body) for word in _TOO_LONG):
        kind = RequestTooLarge
    if response.status == 200:  # Cloudflare can say in the body that it failed
        status, kind = None, RequestRejected
    return exchange.http_error(
        status,
        response.headers,
        (provider.envelope and get_field(body, "errors", None)) or body,
        kind=kind,
        request_id=response.headers.get(provider.request_id, ""),
    )


def _whole(value: object) -> int | None:
    count = as_count(value)
    return None if count is None else int(count)
