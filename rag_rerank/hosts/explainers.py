"""The rerankers that explain their scores token by token, found in any reranker."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol, runtime_checkable

from rag_rerank.base import Reranker
from rag_rerank.errors import ConfigError
from rag_rerank.types import Candidate

__all__ = ["Explainer", "find_explainers"]


@runtime_checkable
class Explainer(Protocol):
    """A reranker that explains its scores (type ``late_interaction``)."""

    @property
    def label(self) -> str:
        """Its name."""

    def explain(self, query: str, text: str | Candidate) -> Any:
        """Return which token of the text answers which token of the query."""

    def close(self) -> None:
        """Release what it holds."""


def find_explainers(reranker: Reranker) -> list[Explainer]:
    """Return the rerankers in the tree of a reranker that explain their scores.

    Raises:
        ConfigError: There is none.
    """
    explainers = list(dict.fromkeys(_walk(reranker)))
    if not explainers:
        raise ConfigError(
            f"{reranker.label} cannot say which words matched; use late_interaction:embedded, or the type "
            "late_interaction with a ColBERT model"
        )
    return explainers


def _walk(reranker: Reranker) -> Iterator[Explainer]:
    if isinstance(reranker, Explainer):
        yield reranker
    for child in reranker.children:
        yield from _walk(child)
