"""The rerankers in any reranker that keep vectors: to fill their stores ahead, and to explain their scores."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol, cast

from rag_rerank.base import Reranker
from rag_rerank.errors import ConfigError
from rag_rerank.types import Candidate

__all__ = ["Explainer", "TextIndex", "find_explainers", "find_indexes", "index_texts"]


class TextIndex(Protocol):
    """A reranker that encodes texts ahead (types ``late_interaction`` and ``sparse``)."""

    @property
    def label(self) -> str:
        """Its name."""

    def index(self, texts: Iterable[str | Candidate], progress: Any = None) -> Any:
        """Encode texts and keep their vectors; return a report."""

    def delete(self, ids: Iterable[str]) -> int:
        """Delete the vectors of candidates by id; return how many ids were there."""

    @property
    def store_stats(self) -> Any:
        """What the store holds."""

    def close(self) -> None:
        """Release the store."""

    @property
    def store_folder(self) -> Path | None:
        """The folder of the store; ``None`` for memory."""


class Explainer(Protocol):
    """A reranker that explains its scores (types ``late_interaction`` and ``sparse``)."""

    @property
    def label(self) -> str:
        """Its name."""

    def explain(self, query: str, text: str | Candidate) -> Any:
        """Return what in the text makes its score."""

    def close(self) -> None:
        """Release what it holds."""


def find_indexes(reranker: Reranker) -> list[TextIndex]:
    """Return the rerankers that keep vectors, in the tree of a reranker.

    Raises:
        ConfigError: There is none, or it reads windows of the texts, or texts with metadata, which are made in
            each call.
    """
    _refuse_other_texts(reranker)
    indexes = [cast(TextIndex, part) for part in _with_method(reranker, "index")]
    if not indexes:
        raise ConfigError(
            f"{reranker.label} keeps no vectors, so there is nothing to index; use the type late_interaction or sparse"
        )
    return indexes


def index_texts(reranker: Reranker, own_ids: Sequence[str | None], texts: Sequence[str]) -> None:
    """Encode texts ahead, for each reranker in the tree that keeps vectors.

    Args:
        reranker: Any reranker.
        own_ids: The id of each item. A text goes without one where it is ``None``, ``""`` or that of two items: its
            position would be another item's in the next call.
        texts: The texts.

    Raises:
        ConfigError: See `find_indexes`.
    """
    counts = Counter(own_ids)
    items = [
        Candidate(own_id, text) if own_id and counts[own_id] == 1 else text
        for own_id, text in zip(own_ids, texts, strict=True)
    ]
    for index in find_indexes(reranker):
        index.index(items)


def find_explainers(reranker: Reranker) -> list[Explainer]:
    """Return the rerankers in the tree of a reranker that explain their scores.

    Raises:
        ConfigError: There is none.
    """
    explainers = [cast(Explainer, part) for part in _with_method(reranker, "explain")]
    if not explainers:
        raise ConfigError(
            f"{reranker.label} cannot say which words matched; use late_interaction:embedded, or the type "
            "late_interaction with a ColBERT model, or the type sparse"
        )
    return explainers


def _with_method(reranker: Reranker, name: str) -> list[Reranker]:
    """Return the rerankers in a tree whose class has a method, each once; asking the object could open its store."""
    return list(dict.fromkeys(part for part in reranker.walk() if hasattr(type(part), name)))


def _refuse_other_texts(reranker: Reranker) -> None:
    """Raise if other texts are made of the texts before a reranker that keeps vectors reads them."""
    for child in reranker.children:
        _refuse_other_texts(child)
        inside = _with_method(child, "index")
        if inside and reranker.kind == "template":
            raise ConfigError(
                f"{reranker.label} reads metadata with each text, so {inside[0].label} inside it cannot be filled "
                "ahead; it keeps the vectors of its first calls"
            )
        if inside and reranker.kind == "windows":
            raise ConfigError(
                f"{reranker.label} cuts texts into windows at each call, so {inside[0].label} inside it cannot be "
                "filled ahead; split the texts before you index them"
            )
