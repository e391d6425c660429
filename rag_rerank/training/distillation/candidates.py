"""Which passages a teacher scores for a query: some of the best by BM25, some further down, some at random."""

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

__all__ = ["POOL", "propose", "spread"]

POOL = 100
"""How deep BM25 is read: as many candidates as an evaluation ranks by default."""

_EASY = 8
"""One passage in so many is drawn at random."""


def propose(corpus: Corpus, queries: Sequence[Query], *, depth: int, seed: int = 0) -> list[JudgedQuery]:
    """Return each query with the passages that a teacher is to score, without grades.

    A student is used on the candidates of a first stage, so most are candidates: close to each other at the top, where
    an order must be learnt among passages that all share the query's words, and thinner further down (`spread`). One
    in eight is drawn from the whole corpus: a student that has never seen a passage about something else gives it any
    score. The passage that a pseudo-query was made from is always there. Where BM25 finds fewer, more are drawn.

    Candidates stand as the first stage found them, those it did not find last; ``metadata["origin"]`` says which way
    each came: ``bm25``, ``positive`` (the query's own passage) or ``random``. A query has the same candidates on every
    run with the same corpus, so that what was answered is found again.

    Args:
        corpus: The passages.
        queries: The queries.
        depth: Candidates of a query at most; fewer only where the corpus has fewer.
        seed: Decides what is drawn.

    Raises:
        InputError: The corpus has fewer than two passages, or ``depth`` is below 2: there is nothing to order.
    """
    if depth < 2 or len(corpus.documents) < 2:
        raise InputError(
            f"at least two passages a query are needed; depth is {depth}, {corpus.name} has {len(corpus.documents)}"
        )
    known = {document.id: document for document in corpus.documents}
    ids = [digest(query.text) for query in queries]
    texts = {id: query.text for id, query in zip(ids, queries, strict=True)}
    run = bm25(((document.id, document.text) for document in corpus.documents), texts, POOL, Problems())
    found = []
    for id, query in zip(ids, queries, strict=True):
        best = {document: score for document, score, _ in run.best(id, POOL)}
        candidates = _candidates(query, best, known, corpus.documents, depth, Random(f"{seed} {id}"))
        found.append(JudgedQuery(id=id, text=query.text, candidates=tuple(candidates), grades={}))
    return found


def spread(found: int, wanted: int) -> list[int]:
    """Return positions from 0 to ``found - 1``, the steps between them growing by the same factor.

    Of 100, 14 are 0, 1, 2, 3, 4, 5, 7, 11, 16, 23, 34, 48, 69, 99.
    """
    if found <= wanted:
        return list(range(found))
    positions = [0]
    for i in range(1, wanted):
        at = round(found ** (i / (wanted - 1))) - 1
        positions.append(min(max(at, positions[-1] + 1), found - (wanted - i)))
    return positions


def _candidates(
    query: Query,
    best: dict[str, float],
    known: dict[str, CorpusDocument],
    documents: Sequence[CorpusDocument],
    depth: int,
    chance: Random,
) -> list[Candidate]:
    ranked = list(best)
    chosen = [ranked[at] for at in spread(len(ranked), depth - max(1, depth // _EASY))]
    if query.document is not None and query.document not in chosen:
        chosen = [*chosen[: depth - 2], query.document]
    others = [document.id for document in chance.sample(documents, min(len(documents), 2 * depth))]
    drawn = [id for id in others if id not in chosen][: depth - len(chosen)]
    origin = {**dict.fromkeys(chosen, "bm25"), **dict.fromkeys(drawn, "random")}
    if query.document is not None:
        origin[query.document] = "positive"
    stands = sorted(chosen, key=lambda id: ranked.index(id) if id in best else len(ranked))
    return [Candidate(id, known[id].text, best.get(id), {"origin": origin[id]}) for id in (*stands, *drawn)]
