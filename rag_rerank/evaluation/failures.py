"""Why a query has no relevant document at the top."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rag_rerank.evaluation.data.judged import JudgedQuery
from rag_rerank.evaluation.report import Failure
from rag_rerank.trace import Coverage

__all__ = ["failure"]


def failure(
    query: JudgedQuery,
    order: Sequence[str],
    *,
    relevant: int,
    top_k: int,
    scores: Mapping[str, float | None],
    coverage: Mapping[str, Coverage | None],
) -> Failure | None:
    """Say why none of the first ``top_k`` is relevant; ``None`` where one is, or where nothing relevant is known.

    Looked at is the relevant candidate that stands highest, since it was the nearest to the top. A cause is named only
    where it is certain: what is not known to be cut, and has no score that others have too, was scored too low.

    Args:
        query: The judged query.
        order: Ids of all its candidates as the system orders them, best first.
        relevant: Grade from which on a document is relevant.
        top_k: How many hits are returned.
        scores: Raw scores by id, as far as there are any; for the first stage, its own.
        coverage: How much of a text was read, by id, as far as that is known.
    """
    wanted = {document for document, grade in query.grades.items() if grade >= relevant}
    if not wanted or not wanted.isdisjoint(order[:top_k]):
        return None
    best = next((document for document in order if document in wanted), None)
    if best is None:
        return "candidates"
    read = coverage.get(best)
    if read is not None and read.truncated:
        return "truncation"
    score = scores.get(best)
    if score is not None and any(scores.get(document) == score for document in order[:top_k]):
        return "tie"
    return "scoring"
