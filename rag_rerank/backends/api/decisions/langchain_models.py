"""Decision models of LangChain (``langchain_core.decisions``, since langchain-core 1.8) as a way to ask."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from rag_rerank.backends.api.decisions.answers import UnusableAnswer
from rag_rerank.backends.api.decisions.questions import Question, Questionnaire
from rag_rerank.backends.api.exchange import Exchange
from rag_rerank.errors import (
    AuthenticationError,
    BackendError,
    BackendTimeout,
    BackendUnavailable,
    RateLimited,
    RequestRejected,
    RequestTooLarge,
)

__all__ = ["ModelRefusal", "is_decision_model", "make_request", "read_response", "translate_model_error"]


class ModelRefusal(BackendError):
    """A model of LangChain refused a whole request; it never leaves the backend."""


def is_decision_model(value: object) -> bool:
    """Whether an object is a ``BaseDecisionModel``. Imports nothing: the module of its class is loaded already."""
    module = sys.modules.get("langchain_core.decisions.base")
    return module is not None and isinstance(value, module.BaseDecisionModel)


def make_request(questionnaire: Questionnaire) -> dict[str, Any]:
    """Return the input of a decision model."""
    from langchain_core import decisions

    questions = {question.name: _as_langchain(decisions, question) for question in questionnaire.questions}
    return {"state": questionnaire.state, "questions": questions}


def _as_langchain(decisions: Any, question: Question) -> Any:
    if question.levels:
        return decisions.Score(instructions=question.text, criteria=list(question.levels))
    criteria = decisions.NoulCriteria(true=question.yes, false=question.no)
    return decisions.Noul(instructions=question.text, criteria=criteria)


def read_response(response: Any) -> Mapping[str, object]:
    """Return the answers of a ``ClassifierResponse`` by the name of their question, in the form of System One.

    Raises:
        UnusableAnswer: It is no such response.
    """
    answers = getattr(response, "answers", None)
    if not isinstance(answers, Mapping):
        raise UnusableAnswer("it is no ClassifierResponse with answers by name")
    return {
        name: {field: getattr(answer, field, None) for field in ("type", "noul", "score", "probabilities")}
        for name, answer in answers.items()
    }


_ERRORS: tuple[tuple[str, type[BackendError]], ...] = (
    ("ContextOverflowError", RequestTooLarge),
    ("ModelRefusalError", ModelRefusal),
    ("ModelAuthenticationError", AuthenticationError),
    ("ModelPermissionDeniedError", AuthenticationError),
    ("ModelNotFoundError", RequestRejected),
    ("ModelRateLimitError", RateLimited),
    ("ModelInvalidRequestError", RequestRejected),
    ("ModelTimeoutError", BackendTimeout),
    ("ModelConnectionError", BackendUnavailable),
    ("ModelAPIError", BackendUnavailable),
)
"""The errors of ``langchain_core.exceptions``, a narrower one before a wider one, and ours."""


def translate_model_error(exchange: Exchange, error: Exception) -> BackendError:
    """Translate an error of a decision model into one of ours."""
    exceptions = sys.modules.get("langchain_core.exceptions")
    for name, kind in _ERRORS:
        theirs = getattr(exceptions, name, None)
        if theirs is not None and isinstance(error, theirs):
            return exchange.http_error(None, {}, str(error), kind=kind)
    return exchange.sdk_error(error)
