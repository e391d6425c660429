"""Rankings made by hand."""

from collections.abc import Mapping, Sequence
from typing import Any

from rag_rerank import Candidate, Hit, Ranking, Scale, Trace


def ranking_of(
    texts: Sequence[str],
    *,
    scores: Sequence[float | None] | None = None,
    metadata: Sequence[Mapping[str, Any]] | None = None,
    scale: Scale = "sigmoid",
    degraded: tuple[str, ...] = (),
) -> Ranking:
    """Return a ranking of texts in their order, with the ids d1, d2 ...; texts without a score belong at the end."""
    if scores is None:
        scores = [1 - i / (len(texts) + 1) for i in range(len(texts))]
    metadata = metadata or [{}] * len(texts)
    hits = tuple(
        Hit(
            rank,
            score,
            score,
            Candidate(f"d{rank}", text, metadata=data),
            unscored="stopped" if score is None else None,
        )
        for rank, (text, score, data) in enumerate(zip(texts, scores, metadata, strict=True), start=1)
    )
    return Ranking("a query", hits, scale, Trace(step="by hand"), degraded=degraded)
