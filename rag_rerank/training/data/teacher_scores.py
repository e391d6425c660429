"""Score the passages of examples with a teacher."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace

from rag_rerank.base import Reranker
from rag_rerank.errors import InputTooLong, TruncationWarning
from rag_rerank.evaluation.data.judged import Problems
from rag_rerank.records.record import digest
from rag_rerank.training.data.examples import Examples
from rag_rerank.types import Candidate, Ranking

__all__ = ["Progress", "rank_texts", "raw_scores", "score_examples", "uses_provider"]

Progress = Callable[[float, str], None]
"""Called with the share that is done, from 0 to 1, and a few words about the current work."""


def score_examples(examples: Examples, teacher: Reranker, *, progress: Progress | None = None) -> Examples:
    """Return the examples with a teacher's raw scores on all passages, for losses that imitate a teacher.

    Earlier scores are replaced, since the scores of two teachers have different units. A passage that the teacher does
    not score (it is too long, or another reranker answered) gets ``None``, and is counted in ``problems``.

    Args:
        examples: The examples.
        teacher: Any reranker. Behind `Cached`, a repeated call asks only for missing scores.
        progress: Called with the share that is done, and a few words.

    Raises:
        RerankError: The teacher fails.
    """
    problems = Problems()
    results = []
    for count, example in enumerate(examples.examples, start=1):
        scores = raw_scores(teacher, example.query, [passage.text for passage in example.passages], problems)
        passages = (replace(passage, teacher=raw) for passage, raw in zip(example.passages, scores, strict=True))
        results.append(replace(example, passages=tuple(passages)))
        if progress is not None:
            progress(count / len(examples.examples), f"{teacher.label}: {count} of {len(examples.examples)} queries")
    return replace(examples, examples=tuple(results), problems=(*examples.problems, *problems.as_tuple()))


def raw_scores(teacher: Reranker, query: str, texts: Sequence[str], problems: Problems) -> list[float | None]:
    """Return a reranker's raw scores of texts, in their order; a missing score is ``None`` and noted."""
    by_id: dict[str, float | None] = {}
    ranking = rank_texts(teacher, query, texts, problems)
    if ranking is not None:
        by_id = {hit.id: hit.raw_score for hit in ranking}
        unscored = len(texts) - sum(raw is not None for raw in by_id.values())
        if unscored:
            kind = f"passages without a score by {teacher.label}"
            problems.note(kind, f"query {digest(query)[:12]}", unscored)
    return [by_id.get(str(i)) for i in range(len(texts))]


def rank_texts(reranker: Reranker, query: str, texts: Sequence[str], problems: Problems) -> Ranking | None:
    """Return a reranker's ranking of texts, whose ids are their positions.

    ``None`` if the query is too long for it, or if another reranker answered, whose scores have other units; both are
    noted, and so are texts of which it read only the beginning.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TruncationWarning)  # counted below, over all queries
        try:
            ranking = reranker.rerank(query, [Candidate(str(i), text) for i, text in enumerate(texts)])
        except InputTooLong:
            problems.note(f"queries that are too long for {reranker.label}", f"query {digest(query)[:12]}")
            return None
    truncated = sum(hit.coverage is not None and hit.coverage.truncated for hit in ranking)
    if truncated:
        kind = f"passages of which {reranker.label} read only the beginning"
        problems.note(kind, f"query {digest(query)[:12]}", truncated)
    if ranking.substituted or ranking.scale != reranker.scale:
        kind = f"queries that another reranker than {reranker.label} answered"
        problems.note(kind, f"query {digest(query)[:12]}: {'; '.join(ranking.degraded) or ranking.scale}")
        return None
    return ranking


def uses_provider(reranker: Reranker) -> bool:
    """Whether a provider gives any of a reranker's scores, so that its terms may restrict their use."""
    return any(part.remote for part in reranker.walk())
