"""Choose the passages that a teacher scores for a query: the best by BM25, some further down, some at random."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from rag_rerank.errors import InputError
from rag_rerank.evaluation import JudgedQuery
from rag_rerank.evaluation.data.first_stage import bm25
from rag_rerank.evaluation.data.judged import Problems
from rag_rerank.records.record import digest
from rag_rerank.training.distillation.corpus import Corpus, CorpusDocument
from rag_rerank.training.distillation.pseudo_queries import Query
from rag_rerank.types import Candidate

__all__ = ["BM25_DEPTH", "propose", "spread"]

BM25_DEPTH = 100
"""Depth of the BM25 ranking: as many candidates as an evaluation ranks by default."""

_PER_RANDOM = 8
"""One passage in this many is random."""


def propose(corpus: Corpus, queries: Sequence[Query], *, depth: int, seed: int = 0) -> list[JudgedQuery]:
    """Return each query with the passages that a teacher is to score, without grades.

    A student ranks the candidates of a first stage, so most passages are candidates: dense at the top, where passages
    that all share the query's words must be ordered, and sparser further down (`spread`). One in eight is sampled from
    the whole corpus: a student that has never seen a passage about something else scores it arbitrarily. The passage of
    a pseudo-query is always included. Where BM25 finds fewer, more are sampled.

    Candidates are in the order of the first stage; those that it did not find come last. ``metadata["origin"]`` is
    ``bm25``, ``positive`` (the query's own passage) or ``random``. A query has the same candidates on every run with
    the same corpus, so that stored answers are found again.

    Args:
        corpus: The passages.
        queries: The queries.
        depth: Maximum number of candidates per query; fewer only if the corpus has fewer.
        seed: Seed of the sampling.

    Raises:
        InputError: The corpus has fewer than two passages, or ``depth`` is below 2: there is nothing to order.
    """
    if depth < 2 or len(corpus.documents) < 2:
        raise InputError(
            f"at least two passages a query are needed; depth is {depth}, {corpus.name} has {len(corpus.documents)}"
        )
    by_id = {document.id: document for document in corpus.documents}
    ids = [digest(query.text) for query in queries]
    texts = {id: query.text for id, query in zip(ids, queries, strict=True)}
    run = bm25(((document.id, document.text) for document in corpus.documents), texts, BM25_DEPTH, Problems())
    proposals = []
    for id, query in zip(ids, queries, strict=True):
        best = {document: score for document, score, _ in run.best(id, BM25_DEPTH)}
        candidates = _candidates(query, best, by_id, corpus.documents, depth, Random(f"{seed} {id}"))
        proposals.append(JudgedQuery(id=id, text=query.text, candidates=tuple(candidates), grades={}))
    return proposals


def spread(size: int, count: int) -> list[int]:
    """Return ``count`` positions from 0 to ``size - 1`` whose distances grow by a constant factor.

    For example, 14 positions of 100 are 0, 1, 2, 3, 4, 5, 7, 11, 16, 23, 34, 48, 69, 99.
    """
    if size <= count:
        return list(range(size))
    positions = [0]
    for i in range(1, count):
        position = round(size ** (i / (count - 1))) - 1
        positions.append(min(max(position, positions[-1] + 1), size - (count - i)))
    return positions


def _candidates(
    query: Query,
    best: dict[str, float],
    by_id: dict[str, CorpusDocument],
    documents: Sequence[CorpusDocument],
    depth: int,
    rng: Random,
) -> list[Candidate]:
    ranked = list(best)
    main = [ranked[position] for position in spread(len(ranked), depth - max(1, depth // _PER_RANDOM))]
    if query.document is not None and query.document not in main:
        main = [*main[: depth - 2], query.document]
    others = [document.id for document in rng.sample(documents, min(len(documents), 2 * depth))]
    random = [id for id in others if id not in main][: depth - len(main)]
    origin = {**dict.fromkeys(main, "bm25"), **dict.fromkeys(random, "random")}
    if query.document is not None:
        origin[query.document] = "positive"
    main.sort(key=lambda id: ranked.index(id) if id in best else len(ranked))
    return [Candidate(id, by_id[id].text, best.get(id), {"origin": origin[id]}) for id in (*main, *random)]
