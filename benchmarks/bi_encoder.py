"""Two rerankers to compare with: the cosine of a bi-encoder's vectors, and the first stage's own order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from rag_rerank import PointwiseReranker, Scores, Usage
from rag_rerank._lazy import load_once
from rag_rerank.types import Scale


@dataclass(frozen=True, kw_only=True)
class BiEncoder(PointwiseReranker):
    """Cosine of a sentence-transformers model's vectors; vectors are stored, so that a text is encoded once.

    Args:
        model: Folder of the model.
        tokens: How many tokens of a text it reads.
    """

    kind: ClassVar[str] = "bi-encoder"

    model: str
    tokens: int = 128
    vectors: dict[str, Any] = field(default_factory=dict, repr=False, compare=False, metadata={"live": True})

    @property
    def label(self) -> str:
        return Path(self.model).name

    @property
    def scale(self) -> Scale:
        return "similarity"

    @property
    def why_not_cacheable(self) -> None:
        return None

    def _identity_facts(self) -> Mapping[str, Any]:
        return {"model": self.label}  # its folder does not matter

    @load_once
    def _encoder(self) -> Any:
        from sentence_transformers import SentenceTransformer

        encoder = SentenceTransformer(self.model, device="cpu")
        encoder.max_seq_length = self.tokens
        return encoder

    def score(self, query: str, texts: Sequence[str]) -> Scores:
        missing = [text for text in dict.fromkeys([query, *texts]) if text not in self.vectors]
        if missing:
            new = self._encoder.encode(missing, normalize_embeddings=True, show_progress_bar=False)
            self.vectors.update(zip(missing, new, strict=True))
        values = [float(self.vectors[query] @ self.vectors[text]) for text in texts]
        return Scores(values, self.scale, Usage(texts=len(texts)))


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
