"""BM25 over the candidates: a baseline without a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from rag_rerank._checks import at_least
from rag_rerank.base import PointwiseReranker
from rag_rerank.errors import ConfigError
from rag_rerank.execution.clock import now
from rag_rerank.text.bm25 import bm25_scores
from rag_rerank.text.words import K1, VERSION, B, terms
from rag_rerank.trace import Coverage, Usage
from rag_rerank.types import Scale, Scores

__all__ = ["LexicalReranker"]

_NO_MATCH = "no text shares a word with the query, so the texts keep their order"


@dataclass(frozen=True, kw_only=True)
class LexicalReranker(PointwiseReranker):
    """A reranker by shared words, without a model: BM25, as a baseline or as a first stage.

    It is BM25 in Lucene's form (Kamphuis et al., ECIR 2020), computed by bm25s. Document frequencies are counted over
    the candidates of the request, so scores compare only within one ranking. Words are runs of letters and digits with
    their combining marks, composed (NFC) and case-folded; in scripts without spaces, and in Korean, they are single
    characters and pairs of characters. There is no stemming and no stop list, so that the baseline treats every
    language alike. Where no text shares a word with the query, the trace has a note.

    Args:
        k1: How soon further occurrences of a word stop counting: the saturation of term frequency, at least 0. The
            default, 0.9, is Anserini's.
        b: How much a long text is discounted: the length normalisation, from 0 (not at all) to 1 (fully). The default,
            0.4, is Anserini's.

    Raises:
        ConfigError: ``k1`` below 0, or ``b`` outside 0..1.
    """

    kind: ClassVar[str] = "lexical"
    enforces_deadline: ClassVar[bool] = True

    k1: float = K1
    b: float = B

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self.k1, 0, "k1")
        if not 0 <= self.b <= 1:
            raise ConfigError(f"b must be within 0..1, got {self.b}", path="b")

    @property
    def scale(self) -> Scale:
        """Unbounded: BM25 has no upper bound."""
        return "unbounded"

    @property
    def why_not_cacheable(self) -> str:
        """Why no cache may keep the scores: they depend on all candidates of the request."""
        return "BM25 counts words over the candidates of the request, so a score depends on all of them"

    def _identity_facts(self) -> Mapping[str, Any]:
        return {"terms": VERSION}

    @property
    def knows_text_limit(self) -> bool:
        """True: it reads texts of any length."""
        return True

    def score(self, query: str, texts: Sequence[str]) -> Scores:
        """Score each text by BM25; 0 for a text that shares no word with the query."""
        started = now()
        query_terms = terms(query)
        documents = [terms(text, query_terms) for text in texts]
        values = bm25_scores(query_terms, documents, k1=self.k1, b=self.b)
        seconds = now() - started
        coverage = tuple(Coverage(len(document), len(document)) for document in documents)
        usage = Usage(texts=len(texts), tokens=sum(map(len, documents)), seconds=seconds)
        return Scores(values, self.scale, usage, coverage, notes=() if any(values) else (_NO_MATCH,))
