"""Queries, judgments, first stage and texts of a collection, put together."""

from __future__ import annotations

from collections.abc import Sequence

from rag_rerank.errors import InputError
from rag_rerank.evaluation._collections import Collection, Text
from rag_rerank.evaluation._findings import Findings
from rag_rerank.evaluation._first_stage import bm25
from rag_rerank.evaluation._rows import Judgments, Run
from rag_rerank.evaluation.judged import Judged, JudgedQuery
from rag_rerank.types import Candidate, blank

__all__ = ["NO_CANDIDATES", "finished", "joined"]

NO_CANDIDATES = "queries without candidates, which count all the same"
"""A first stage that found nothing has failed there; without these queries its mean would look better than it is."""


def joined(
    collection: Collection,
    judgments: Judgments,
    run: Run | None,
    *,
    depth: int,
    limit: int | None,
    findings: Findings,
) -> list[JudgedQuery]:
    """Return the judged queries in their order, each with its first ``depth`` candidates; without a run by BM25.

    The corpus is read once for the texts, and once before that where BM25 is made; only texts that are needed stay.
    """
    queries = _judged(collection, judgments, run, findings)
    queries = {id: queries[id] for id in list(queries)[:limit]}
    if run is None:
        corpus = ((document.id, document.text) for document in collection.documents())
        run = bm25(corpus, {id: query.text for id, query in queries.items()}, depth, findings)
    best = {id: run.best(id, depth) for id in queries}
    wanted = {document for hits in best.values() for document, _, _ in hits}
    judged = {document for id in queries for document in judgments.rows[id]}
    texts, there = _texts(collection, wanted, judged, findings)
    for id in queries:
        for document in judgments.rows[id]:
            if document not in there:
                kind = "judged documents that are not in the corpus; they count in the ideal ranking"
                findings.note(kind, judgments.place(id, document))
    found = []
    for id, query in queries.items():
        candidates = []
        for document, score, line in best[id]:
            if document in texts:
                candidates.append(Candidate(document, texts[document].text, score, texts[document].metadata))
            else:
                example = f"{run.name}:{line}: document {document!r} of query {id!r}"
                findings.note("candidates that are not in the corpus, left out", example)
        if not candidates:
            findings.note(NO_CANDIDATES, f"{query.place}: query {id!r}")
        found.append(
            JudgedQuery(
                id=id,
                text=query.text,
                candidates=tuple(candidates),
                grades=judgments.grades(id),
                metadata=query.metadata,
            )
        )
    return found


def _judged(collection: Collection, judgments: Judgments, run: Run | None, findings: Findings) -> dict[str, Text]:
    """Return the judged queries, and note those that are not, and judgments and run rows of unknown queries."""
    named = judgments.rows.keys() | (run.rows.keys() if run else set())
    known: set[str] = set()
    queries: dict[str, Text] = {}
    for query in collection.queries():
        if query.id in named:
            if query.id in known:
                example = f"{query.place}: query {query.id!r}"
                findings.note("query ids that stand twice, of which the last counts", example)
            known.add(query.id)
        if query.id not in judgments.rows:
            findings.note("queries without judgments, left out", f"{query.place}: query {query.id!r}")
        elif blank(query.text):
            findings.note("queries with a blank text, left out", f"{query.place}: query {query.id!r}")
            queries.pop(query.id, None)
        else:
            queries[query.id] = query
    for id, row in judgments.rows.items():
        if id not in known:
            line = next(iter(row.values()))[1]
            findings.note("judged queries that are unknown, left out", f"{judgments.name}:{line}: query {id!r}")
    if run is not None:
        for id, rows in run.rows.items():
            if id not in known:
                findings.note("queries of the run that are unknown, left out", f"{run.name}:{rows[0][2]}: query {id!r}")
    return queries


def _texts(
    collection: Collection, wanted: set[str], judged: set[str], findings: Findings
) -> tuple[dict[str, Text], set[str]]:
    """Return the wanted documents, and the ids of all that are there of the wanted and judged ones."""
    texts: dict[str, Text] = {}
    there: set[str] = set()
    for document in collection.documents(wanted | judged):
        example = f"{document.place}: document {document.id!r}"
        if document.id in there:
            findings.note("document ids that stand twice, of which the last counts", example)
        there.add(document.id)
        if document.id in wanted:
            texts[document.id] = document
    for document in texts.values():
        if blank(document.text):
            example = f"{document.place}: document {document.id!r}"
            findings.note("candidates with a blank text, which no reranker scores", example)
    return texts, there


def finished(
    name: str, queries: Sequence[JudgedQuery], relevant: int, sources: tuple[str, ...], findings: Findings
) -> Judged:
    """Return the judged queries with their fingerprint.

    Raises:
        InputError: No query is left, none has candidates, or nothing is relevant.
    """
    from rag_rerank.evaluation._identity import fingerprint

    if not any(query.candidates for query in queries):
        raise InputError(f"{name}: no query has judgments and candidates; {findings.told() or 'there are none'}")
    for query in queries:
        if max(query.grades.values()) < relevant:
            kind = f"queries of which no document has a grade of at least {relevant}; they count"
            findings.note(kind, f"query {query.id!r}")
    highest = max(max(query.grades.values()) for query in queries)
    if highest < relevant:
        raise InputError(
            f"{name}: no document of any query has a grade of at least {relevant}, so there is nothing to find; "
            f"the highest grade is {highest}"
        )
    return Judged(
        name=name,
        queries=tuple(queries),
        relevant=relevant,
        problems=findings.problems(),
        sources=sources,
        fingerprint=fingerprint(queries, relevant),
    )
