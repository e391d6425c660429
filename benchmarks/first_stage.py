"""The order of the first stage as a reranker, so that it can be fused with others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from rag_rerank import PointwiseReranker, Scores, Usage
from rag_rerank.types import Scale


@dataclass(frozen=True, kw_only=True)
class FirstStage(PointwiseReranker):
    """The order of arrival as scores, so that it can be fused with others."""

    kind: ClassVar[str] = "first-stage"

    @property
    def label(self) -> str:
        return self.kind

    @property
    def scale(self) -> Scale:
        return "unbounded"

    @property
    def why_not_cacheable(self) -> str:
        return "a score is a place among the candidates of one call"

    def score(self, query: str, texts: Sequence[str]) -> Scores:
        return Scores([-float(place) for place in range(len(texts))], self.scale, Usage(texts=len(texts)))
