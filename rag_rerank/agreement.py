"""How far two rerankers agree, in their rankings and in their scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rag_rerank.base import Reranker
from rag_rerank.errors import InputError
from rag_rerank.rank_correlation import kendall_tau_b, relative_difference, top_overlap

__all__ = ["Agreement", "agreement", "compare"]


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How far the raw scores of two rerankers agree, on the same texts.

    Args:
        queries: How many queries were compared.
        pairs: How many query-text pairs.
        tau: Kendall's tau-b between the two orders of a query's texts, mean over queries: 1 for the same order.
        top_10: Share of the first's ten best texts that are among the second's ten best, mean over queries.
        moved: Largest absolute difference between the two raw scores of a pair.
        relative: Largest such difference after each is divided by the size of the first's score, where that is above 1.
        spread: Largest minus smallest raw score of the first.
    """

    queries: int
    pairs: int
    tau: float
    top_10: float
    moved: float
    relative: float
    spread: float

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


def agreement(a: Reranker, b: Reranker, queries: Sequence[tuple[str, Sequence[str]]]) -> Agreement:
    """Rank the texts of each query with both rerankers and compare the raw scores.

    Args:
        a: The reference.
        b: The reranker that is compared with it.
        queries: Pairs of a query and its texts. A text without a score from either one (a blank text) is ignored.

    Raises:
        InputError: There is nothing to compare.
        RerankError: Whatever the rerankers raise.
    """
    rows_a, rows_b = [], []
    for query, texts in queries:
        first, second = _scores(a, query, texts), _scores(b, query, texts)
        both = [id for id in first if id in second]
        rows_a.append([first[id] for id in both])
        rows_b.append([second[id] for id in both])
    return compare(rows_a, rows_b)


def compare(first: Sequence[Sequence[float]], second: Sequence[Sequence[float]]) -> Agreement:
    """Compare raw scores: one row for each query, with the texts in the same order on both sides.

    Raises:
        InputError: There is no score.
    """
    rows = [(list(x), list(y)) for x, y in zip(first, second, strict=True) if x]
    if not rows:
        raise InputError("there are no scored texts to compare")
    pairs = [(a, b) for x, y in rows for a, b in zip(x, y, strict=True)]
    return Agreement(
        queries=len(rows),
        pairs=len(pairs),
        tau=sum(kendall_tau_b(x, y) for x, y in rows) / len(rows),
        top_10=sum(top_overlap(_best_first(x), _best_first(y)) for x, y in rows) / len(rows),
        moved=max(abs(a - b) for a, b in pairs),
        relative=max(relative_difference(b, a) for a, b in pairs),
        spread=max(a for a, _ in pairs) - min(a for a, _ in pairs),
    )


def _best_first(row: Sequence[float]) -> list[int]:
    return sorted(range(len(row)), key=lambda i: -row[i])


def _scores(reranker: Reranker, query: str, texts: Sequence[str]) -> dict[str, float]:
    hits = reranker.rerank(query, list(texts))
    return {hit.id: hit.raw_score for hit in hits if hit.raw_score is not None}
