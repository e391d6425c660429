"""What an agent does when its reranker fails: it goes on without, and says so, or it raises."""

from __future__ import annotations

from typing import Literal, get_args

from rag_rerank._checks import one_of
from rag_rerank.base import Reranker
from rag_rerank.errors import BackendError, ConfigError, InputTooLong, RerankError

__all__ = ["OnFailure", "check_on_failure", "failure_text"]

OnFailure = Literal["keep_all", "raise"]
"""What happens when the reranker fails in a call.

- ``keep_all``: the model gets everything, as without a reranker. A warning is logged, and the report says so.
- ``raise``: the error reaches the caller of the agent.

A mistake in the set-up (`ConfigError`, a missing extra, a model that does not load) is raised in any case.
"""


def check_on_failure(value: object) -> None:
    """Raise `ConfigError` unless it is one of the words."""
    one_of(value, get_args(OnFailure), "on_failure")


def failure_text(reranker: Reranker, error: RerankError, on_failure: OnFailure) -> str:
    """Return why there is no ranking, where an agent can go on without one; raise the error where it cannot."""
    goes_on = isinstance(error, (BackendError, InputTooLong)) and not isinstance(error, ConfigError)
    if on_failure == "raise" or not goes_on:
        raise error
    return f"{reranker.label} failed ({type(error).__name__}: {error})"
