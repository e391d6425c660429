"""Queries, judgments, first stage and texts of a collection, put together."""

from __future__ import annotations

from collections.abc import Iterable

from rag_rerank.evaluation.data.collections import Collection, CollectionText
from rag_rerank.evaluation.data.first_stage import bm25
from rag_rerank.evaluation.data.judged import JudgedQuery, Problems
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
    """Return the judged queries in their order, each with its first ``depth`` candidates; without a run by BM25.

    The corpus is read once for the texts, and once before that where BM25 is made; only texts that are needed stay.
    """
    queries = judged_queries(collection, judgments, run, problems)
    queries = {id: queries[id] for id in list(queries)[:limit]}
    if run is None:
        run = bm25(collection.corpus(), {id: query.text for id, query in queries.items()}, depth, problems)
    best = {id: run.best(id, depth) for id in queries}
    wanted = {document for hits in best.values() for document, _, _ in hits}
    texts = _texts(collection, queries, wanted, judgments, problems)
    found = []
    for id, query in queries.items():
        candidates = []
        for document, score, line in best[id]:
            if document in texts:
                candidates.append(Candidate(document, texts[document].text, score, texts[document].metadata))
            else:
                kind = "candidates that are not in the corpus, left out"
                problems.note(kind, run.place(id, document, line))
        grades = judgments.grades(id)
        found.append(
            JudgedQuery(id=id, text=query.text, candidates=tuple(candidates), grades=grades, metadata=query.metadata)
        )
    return found


def note_unknown(rows: Qrels | TrecRun, known: set[str], problems: Problems) -> None:
    """Note the queries of judgments or of a run that nobody asked."""
    for query in rows.rows:
        if query not in known:
            problems.note(f"queries of {rows.name} that are unknown, left out", rows.first(query))


def judged_queries(
    collection: Collection, judgments: Qrels, run: TrecRun | None, problems: Problems
) -> dict[str, CollectionText]:
    """Return the judged queries, and note those that are not, and judgments and run rows of unknown queries."""
    named = judgments.rows.keys() | (run.rows.keys() if run else set())
    known: set[str] = set()
    queries: dict[str, CollectionText] = {}
    for query in collection.queries():
        example = f"{query.place}: query {query.id!r}"
        if query.id in known:
            problems.note("query ids that stand twice, of which the last counts", example)
        if query.id in named:
            known.add(query.id)
        if query.id not in judgments.rows:
            problems.note("queries with no judgments, left out", example)
        elif is_blank(query.text):
            problems.note("queries with a blank text, left out", example)
            queries.pop(query.id, None)
        else:
            queries[query.id] = query
    note_unknown(judgments, known, problems)
    if run is not None:
        note_unknown(run, known, problems)
    return queries


def _texts(
    collection: Collection, queries: Iterable[str], wanted: set[str], judgments: Qrels, problems: Problems
) -> dict[str, CollectionText]:
    """Return the wanted documents, and note judged ones that are nowhere."""
    judged = {document for query in queries for document in judgments.rows[query]}
    texts: dict[str, CollectionText] = {}
    there: set[str] = set()
    for document in collection.documents(wanted | judged):
        if document.id in there:
            kind = "document ids that stand twice, of which the last counts"
            problems.note(kind, f"{document.place}: document {document.id!r}")
        there.add(document.id)
        if document.id in wanted:
            texts[document.id] = document
    for query in queries:
        for id in judgments.rows[query]:
            if id not in there:
                kind = "judged documents that are not in the corpus, which count in the ideal ranking"
                problems.note(kind, judgments.place(query, id))
    return texts
