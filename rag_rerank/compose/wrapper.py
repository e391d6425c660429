"""Parts that composites share: the base of those around one reranker, and the check of their fields."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from rag_rerank.base import Composite, Reranker
from rag_rerank.errors import ConfigError
from rag_rerank.text.tokenizers import TextLimit
from rag_rerank.types import Scale

__all__ = ["Wrapper", "WrapsReranker", "check_reranker"]


def check_reranker(value: object, path: str) -> None:
    """Raise `ConfigError` unless a field of a composite holds a reranker."""
    if not isinstance(value, Reranker):
        raise ConfigError(
            f"expected a Reranker, got {type(value).__name__}; rag_rerank.build makes one from a name or a config",
            path=path,
        )


class WrapsReranker:
    """Members of a reranker around another one: scale, label and text limits of the reranker inside."""

    kind: ClassVar[str]
    name: str | None
    reranker: Reranker

    @property
    def scale(self) -> Scale:
        """The scale of the reranker inside."""
        return self.reranker.scale

    @property
    def label(self) -> str:
        """The name of this reranker in traces."""
        return self.name or f"{self.kind}({self.reranker.label})"

    @property
    def knows_text_limit(self) -> bool:
        """Whether the reranker inside knows its text limits."""
        return self.reranker.knows_text_limit

    def text_limits(self, query: str) -> tuple[TextLimit, ...]:
        """Return the text limits of the reranker inside."""
        return self.reranker.text_limits(query)


@dataclass(frozen=True, kw_only=True)
class Wrapper(WrapsReranker, Composite):
    """A composite around one reranker. Members that a subclass does not override are those of the reranker inside.

    Args:
        reranker: The reranker inside.

    Raises:
        ConfigError: ``reranker`` is no reranker.
    """

    reranker: Reranker

    def __post_init__(self) -> None:
        super().__post_init__()
        check_reranker(self.reranker, "reranker")

    def texts_within(self, query: str, texts: Sequence[str], seconds: float) -> int | None:
        """Return the estimate of the reranker inside."""
        return self.reranker.texts_within(query, texts, seconds)
