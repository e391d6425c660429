"""Which passages of a corpus are proposed as negatives for a query, by each way of mining, the hardest first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from rag_rerank._extras import need
from rag_rerank.errors import ModelLoadError
from rag_rerank.evaluation.data._first_stage import best, bm25
from rag_rerank.evaluation.data._problems import Problems

__all__ = ["by_encoder", "by_words", "encoder_of"]

_BLOCK = 256
"""Queries whose cosines are held together: 256 MB beside 250,000 passages."""


def by_words(queries: Sequence[str], corpus: Sequence[str], depth: int) -> Iterator[list[int]]:
    """Yield for each query the positions of the best passages by BM25, of those that share a word with it."""
    asked = {str(i): query for i, query in enumerate(queries)}
    run = bm25(((str(i), text) for i, text in enumerate(corpus)), asked, depth, Problems())
    return ([int(position) for position, _, _ in run.best(query, depth)] for query in asked)


def by_encoder(encoder: Any, queries: Sequence[str], corpus: Sequence[str], depth: int) -> Iterator[list[int]]:
    """Yield for each query the positions of the best passages by the cosine, compared with all of them."""
    passages = encoder.encode_document(list(corpus), normalize_embeddings=True, show_progress_bar=False)
    for start in range(0, len(queries), _BLOCK):
        block = list(queries[start : start + _BLOCK])
        asked = encoder.encode_query(block, normalize_embeddings=True, show_progress_bar=False)
        yield from (best(row, depth).tolist() for row in asked @ passages.T)


def encoder_of(name: str) -> Any:
    """Load a bi-encoder of sentence-transformers, from a folder or by its name on the hub; no remote code runs.

    Raises:
        MissingExtraError: sentence-transformers is not installed.
        ModelLoadError: It cannot be loaded.
    """
    library = need("sentence_transformers", extra="torch")
    try:
        return library.SentenceTransformer(name, trust_remote_code=False)
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise ModelLoadError(f"cannot load the bi-encoder {name}: {error}") from error
