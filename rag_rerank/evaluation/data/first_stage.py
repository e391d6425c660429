"""A first stage for collections without a run: BM25 over the corpus."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from rag_rerank.evaluation.data.judged import Problems
from rag_rerank.evaluation.data.trec import TrecRun
from rag_rerank.text.words import K1, B, terms

if TYPE_CHECKING:
    import numpy as np

__all__ = ["BM25", "best", "bm25"]

BM25 = "BM25 over the corpus, made here (no stemming, no stop list)"
"""Its name in reports."""


def bm25(corpus: Iterable[tuple[str, str]], queries: Mapping[str, str], depth: int, problems: Problems) -> TrecRun:
    """Return the first ``depth`` documents of each query by Lucene's variant of BM25, computed by bm25s.

    The words of the whole corpus are in memory, its texts are not. Documents without a word of the query are left out;
    equal scores keep the order of the corpus. If an id occurs twice, its last text counts.
    """
    import bm25s
    import numpy as np

    query_terms = {query: terms(text) for query, text in queries.items()}
    all_query_terms = {term for of_query in query_terms.values() for term in of_query}
    vocabulary: dict[str, str] = {}  # equal words become one object, to save memory
    words: dict[str, list[str]] = {}
    for document, text in corpus:
        words[document] = [vocabulary.setdefault(word, word) for word in terms(text, all_query_terms)]
    run = TrecRun("BM25", problems)
    if not vocabulary:
        return run
    documents = list(words)
    index = bm25s.BM25(method="lucene", k1=K1, b=B)
    index.index(list(words.values()), show_progress=False)
    for query in queries:
        query_words = [word for word in query_terms[query] if word in vocabulary]
        values = index.get_scores(query_words) if query_words else np.zeros(0)
        for rank, position in enumerate(best(values, depth).tolist(), start=1):
            if values[position] > 0:
                run.add(query, documents[position], float(values[position]), rank, rank)
    return run


def best(values: np.ndarray[Any, Any], depth: int) -> np.ndarray[Any, Any]:
    """Return the positions of the ``depth`` largest values, the largest first; equal values keep their order."""
    import numpy as np

    if len(values) > depth:
        least = np.partition(values, -depth)[-depth]
        above = np.flatnonzero(values >= least)
    else:
        above = np.arange(len(values))
    return above[np.argsort(-values[above], kind="stable")][:depth]
