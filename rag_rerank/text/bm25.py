"""BM25 over the texts of one call."""

from __future__ import annotations

from collections.abc import Sequence

from rag_rerank.text.words import K1, B

__all__ = ["bm25_scores"]


def bm25_scores(
    query_terms: Sequence[str], documents: Sequence[Sequence[str]], *, k1: float = K1, b: float = B
) -> list[float]:
    """Return the BM25 score of each document, by bm25s in Lucene's form (Kamphuis et al., ECIR 2020).

    Document frequencies are counted over these documents. A document that shares no term with the query has 0.

    Args:
        query_terms: The `terms` of the query.
        documents: The terms of each document.
        k1: Saturation of the term frequency.
        b: Normalisation by length.
    """
    import bm25s

    vocabulary = {word for document in documents for word in document}
    query_words = [word for word in query_terms if word in vocabulary]
    if not query_words:
        return [0.0] * len(documents)
    index = bm25s.BM25(method="lucene", k1=k1, b=b)
    index.index(documents, show_progress=False)
    return [float(value) for value in index.get_scores(query_words)]
