"""What a teacher says of the passages of examples."""

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

__all__ = ["Progress", "provided_scores", "raw_scores", "score", "teacher_scores"]

Progress = Callable[[float, str], None]
"""Is told the share that is done, from 0 to 1, and a few words about what is going on."""


def score(examples: Examples, teacher: Reranker, *, progress: Progress | None = None) -> Examples:
    """Return the examples with a teacher's raw scores on all passages, for losses that imitate it.

    Scores that were there go, since two teachers' scores have different units. Where the teacher has no score for a
    passage (it is too long, or another reranker answered), it stays ``None``, and is counted in ``problems``.

    Args:
        examples: What to score.
        teacher: Any reranker. Behind `Cached`, what was scored before an interruption is not asked again.
        progress: Is told how far it is.

    Raises:
        RerankError: The teacher fails.
    """
    problems = Problems()
    found = []
    for done, example in enumerate(examples.examples, start=1):
        scores = raw_scores(teacher, example.query, [passage.text for passage in example.passages], problems)
        passages = (replace(passage, teacher=raw) for passage, raw in zip(example.passages, scores, strict=True))
        found.append(replace(example, passages=tuple(passages)))
        if progress is not None:
            progress(done / len(examples.examples), f"{teacher.label}: {done} of {len(examples.examples)} queries")
    return replace(examples, examples=tuple(found), problems=(*examples.problems, *problems.as_tuple()))


def raw_scores(teacher: Reranker, query: str, texts: Sequence[str], problems: Problems) -> list[float | None]:
    """Return a reranker's raw scores of texts, in their order; ``None`` where it has none, which is noted."""
    found: dict[str, float | None] = {}
    ranking = teacher_scores(teacher, query, texts, problems)
    if ranking is not None:
        found = {hit.id: hit.raw_score for hit in ranking}
        unscored = len(texts) - sum(raw is not None for raw in found.values())
        if unscored:
            kind = f"passages without a score by {teacher.label}"
            problems.note(kind, f"query {digest(query)[:12]}", unscored)
    return [found.get(str(i)) for i in range(len(texts))]


def provided_scores(reranker: Reranker) -> bool:
    """Whether a provider gives any of a reranker's scores, and its terms may have something to say."""
    return reranker.remote or any(map(provided_scores, reranker.children))


def teacher_scores(reranker: Reranker, query: str, texts: Sequence[str], problems: Problems) -> Ranking | None:
    """Return how a reranker orders texts, whose positions are their ids.

    ``None`` where the query is too long for it, or another reranker answered, whose scores have other units; that is
    noted, and so are texts that were not read to their end.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TruncationWarning)  # counted below, over all queries
        try:
            ranking = reranker.rerank(query, [Candidate(str(i), text) for i, text in enumerate(texts)])
        except InputTooLong:
            problems.note(f"queries that are too long for {reranker.label}", f"query {digest(query)[:12]}")
            return None
    cut = sum(hit.coverage is not None and hit.coverage.truncated for hit in ranking)
    if cut:
        kind = f"passages of which {reranker.label} read only the beginning"
        problems.note(kind, f"query {digest(query)[:12]}", cut)
    if ranking.substituted or ranking.scale != reranker.scale:
        kind = f"queries that another reranker than {reranker.label} answered"
        problems.note(kind, f"query {digest(query)[:12]}: {'; '.join(ranking.degraded) or ranking.scale}")
        return None
    return ranking
