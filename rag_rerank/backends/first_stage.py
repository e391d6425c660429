"""The order in which the candidates arrive, as a reranker: a member for ensembles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from rag_rerank.base import PointwiseReranker
from rag_rerank.trace import Usage
from rag_rerank.types import Scale, Scores

__all__ = ["FirstStageReranker"]


@dataclass(frozen=True, kw_only=True)
class FirstStageReranker(PointwiseReranker):
    """The order in which the candidates arrive, so that an ensemble can fuse it with the order of a model.

    The first stage has searched the whole collection, and often knows what a reranker cannot see: how rare a word is
    there, or a vector of the whole text. Use it only where the candidates arrive best first. It reads no text and
    takes no time. The score of the text at place ``i`` of ``n``, counted from 0, is ``1 - i / n``, on the scale
    ``rank``.
    """

    kind: ClassVar[str] = "first_stage"
    enforces_deadline: ClassVar[bool] = True

    @property
    def scale(self) -> Scale:
        """Places, because there are no scores."""
        return "rank"

    @property
    def why_not_cacheable(self) -> str:
        """Why no cache may keep the scores: they are places."""
        return "a score is the place of a text among the candidates of one call"

    @property
    def knows_text_limit(self) -> bool:
        """True: it takes texts of any length, and reads none."""
        return True

    def score(self, query: str, texts: Sequence[str]) -> Scores:
        """Score each text by its place."""
        values = [1 - place / len(texts) for place in range(len(texts))]
        return Scores(values, self.scale, Usage(texts=len(texts)))
