"""Join the queries, judgments, first stage and texts of a collection."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from rag_rerank.evaluation.data.collections import Collection, CollectionText
from rag_rerank.evaluation.data.first_stage import bm25
from rag_rerank.evaluation.data.judged import JudgedQuery, Problems, without_own_document
from rag_rerank.evaluation.data.trec import Qrels, TrecRun
from rag_rerank.text.unicode import is_blank
from rag_rerank.types import Candidate

__all__ = ["join", "judged_queries", "note_unknown"]


def join(
    collection: Collection,
    judgments: Qrels,
    run: TrecRun | None,
    *,
    depth: int,
    limit: int | None,
    problems: Problems,
) -> list[JudgedQuery]:
    """Return the judged queries in their order, each with its first ``depth`` candidates; without a run, by BM25.

    A query's own document is no candidate (`without_own_document`).

    The corpus is read once for the texts, and once more for BM25; only the needed texts stay in memory.
    """
    queries = judged_queries(collection, judgments, run, problems)
    queries = {id: queries[id] for id in list(queries)[:limit]}
    if run is None:
        run = bm25(collection.corpus(), {id: query.text for id, query in queries.items()}, depth, problems)
    best = {id: run.best(id, depth) for id in queries}
    candidate_ids = {document for hits in best.values() for document, _, _ in hits}
    texts = _texts(collection, queries, candidate_ids, judgments, problems)
    joined_queries = []
    for id, query in queries.items():
        candidates = []
        for document, score, line in best[id]:
            if document in texts:
                candidates.append(Candidate(document, texts[document].text, score, texts[document].metadata))
            else:
                kind = "candidates that are not in the corpus, left out"
                problems.note(kind, run.place(id, document, line))
        grades = judgments.grades(id)
        judged = JudgedQuery(
            id=id, text=query.text, candidates=tuple(candidates), grades=grades, metadata=query.metadata
        )
        judged = without_own_document(judged, run.name, problems)
        joined_queries.append(replace(judged, candidates=judged.candidates[:depth]))
    return joined_queries


def judged_queries(
    collection: Collection, judgments: Qrels, run: TrecRun | None, problems: Problems
) -> dict[str, CollectionText]:
    """Return the judged queries; note queries without judgments, and judgments and run rows of unknown queries."""
    used_ids = judgments.rows.keys() | (run.rows.keys() if run else set())
    known_ids: set[str] = set()
    queries: dict[str, CollectionText] = {}
    for query in collection.queries():
        example = f"{query.place}: query {query.id!r}"
        if query.id in known_ids:
            problems.note("query ids that occur twice (the last one counts)", example)
        if query.id in used_ids:
            known_ids.add(query.id)
        if query.id not in judgments.rows:
            problems.note("queries with no judgments, left out", example)
        elif is_blank(query.text):
            problems.note("queries with a blank text, left out", example)
            queries.pop(query.id, None)
        else:
            queries[query.id] = query
    note_unknown(judgments, known_ids, problems)
    if run is not None:
        note_unknown(run, known_ids, problems)
    return queries


def note_unknown(rows: Qrels | TrecRun, known_ids: set[str], problems: Problems) -> None:
    """Note the queries of judgments or of a run that are not among the queries."""
    for query in rows.rows:
        if query not in known_ids:
            problems.note(f"queries of {rows.name} that are unknown, left out", rows.first_place(query))


def _texts(
    collection: Collection, queries: Iterable[str], candidate_ids: set[str], judgments: Qrels, problems: Problems
) -> dict[str, CollectionText]:
    """Return the documents with these ids; note judged documents that are not in the corpus."""
    judged_ids = {document for query in queries for document in judgments.rows[query]}
    texts: dict[str, CollectionText] = {}
    corpus_ids: set[str] = set()
    for document in collection.documents(candidate_ids | judged_ids):
        if document.id in corpus_ids:
            kind = "document ids that occur twice (the last one counts)"
            problems.note(kind, f"{document.place}: document {document.id!r}")
        corpus_ids.add(document.id)
        if document.id in candidate_ids:
            texts[document.id] = document
    for query in queries:
        for id in judgments.rows[query]:
            if id not in corpus_ids:
                kind = "judged documents that are not in the corpus, which count in the ideal ranking"
                problems.note(kind, judgments.place(query, id))
    return texts
