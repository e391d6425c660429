"""A reranker that follows an instruction: it counts the instruction's words in a text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from rag_rerank import PointwiseReranker, Scores, Usage
from rag_rerank.execution.instruction import instruction_or
from rag_rerank.text.tokenizers import EstimatedTokens, TextLimit
from rag_rerank.types import Scale


@dataclass(frozen=True, kw_only=True)
class InstructedReranker(PointwiseReranker):
    """Scores a text by how often the instruction stands in it; without one, by how often the query does."""

    kind: ClassVar[str] = "instructed"
    scale: ClassVar[Scale] = "unbounded"  # type: ignore[misc]

    instruction: str | None = None

    @property
    def takes_instruction(self) -> bool:
        return True

    @property
    def knows_text_limit(self) -> bool:
        return True

    def text_limits(self, query: str) -> tuple[TextLimit, ...]:
        return (TextLimit(100, EstimatedTokens()),)

    @property
    def remote(self) -> bool:
        return True

    @property
    def why_not_cacheable(self) -> None:
        """``None``: a score depends on the text, the query and the instruction."""

    def score(self, query: str, texts: Sequence[str]) -> Scores:
        words = instruction_or(self.instruction) or query
        return Scores([float(text.count(words)) for text in texts], self.scale, Usage(texts=len(texts)))
