"""A first stage made here, for collections that bring no run: BM25 over the corpus."""

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
"""How reports call it."""


def bm25(corpus: Iterable[tuple[str, str]], queries: Mapping[str, str], depth: int, problems: Problems) -> TrecRun:
    """Return the first ``depth`` documents of each query by BM25 in Lucene's form, computed by bm25s.

    The words of the whole corpus are held in memory, its texts are not. Documents that share no word with the query
    are not found; equal scores stand in the order of the corpus. An id that stands twice has its last text.
    """
    import bm25s
    import numpy as np

    known: dict[str, str] = {}
    words: dict[str, list[str]] = {}
    for document, text in corpus:
        words[document] = [known.setdefault(word, word) for word in terms(text)]
    run = TrecRun("BM25", problems)
    if not known:
        return run
    documents = list(words)
    index = bm25s.BM25(method="lucene", k1=K1, b=B)
    index.index(list(words.values()), show_progress=False)
    for query, text in queries.items():
        wanted = [word for word in terms(text) if word in known]
        values = index.get_scores(wanted) if wanted else np.zeros(0)
        for rank, position in enumerate(best(values, depth).tolist(), start=1):
            if values[position] > 0:
                run.add(query, documents[position], float(values[position]), rank, rank)
    return run


def best(values: np.ndarray[Any, Any], depth: int) -> np.ndarray[Any, Any]:
    """Return the positions of the ``depth`` largest values, the largest first; equal ones in their order."""
    import numpy as np

    if len(values) > depth:
        least = np.partition(values, -depth)[-depth]
        above = np.flatnonzero(values >= least)
    else:
        above = np.arange(len(values))
    return above[np.argsort(-values[above], kind="stable")][:depth]
