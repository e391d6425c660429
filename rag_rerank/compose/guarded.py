"""Guarded: keeps the first stage's order unless the reranker's order agrees with it beyond chance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from rag_rerank._checks import finite_positive
from rag_rerank.compose.wrapper import Wrapper
from rag_rerank.execution.plan import Call, Plan, PlanResult
from rag_rerank.execution.ranking import in_first_stage_order
from rag_rerank.rank_correlation import spearman_rho
from rag_rerank.types import Candidate, Ranking

__all__ = ["Guarded", "agreement_beyond_chance"]


def agreement_beyond_chance(values: Sequence[float]) -> float:
    """Return how far scores agree with the order that they are in, in standard deviations of what chance gives.

    It is ``rho * sqrt(n - 1)``, with Spearman's rho between the incoming places and the scores. Over all orders of the
    same scores, ties included, its mean is 0 and its standard deviation 1 (Kendall, Rank Correlation Methods, 1948):
    both follow from the moments of a linear permutation statistic. At most it is ``sqrt(n - 1)``. Without a difference
    between the scores it is 0.

    Args:
        values: Raw scores in the first stage's order; larger is more relevant.
    """
    return spearman_rho(range(len(values), 0, -1), values) * math.sqrt(max(0, len(values) - 1))


@dataclass(frozen=True, kw_only=True)
class Guarded(Wrapper):
    """Keeps the first stage's order of a query unless the reranker's order agrees with it beyond chance.

    A reranker and a first stage that both look for relevant texts agree to some extent. A random reranker agrees by
    chance only, and one that reverses the order disagrees. So the reranker's order counts for a query if
    `agreement_beyond_chance` between its scores and the incoming order is at least ``margin``. Otherwise the hits have
    the incoming order and no scores, with the reason in ``Hit.unscored`` and ``Ranking.degraded``, and no threshold is
    applied to them. Where the reranker's order counts, a note in the trace tells the agreement. Where both orders are
    the same, there is nothing to guard, and the hits keep their scores.

    The candidates must come in the first stage's order. Their scores are not read. With fewer than six scored
    candidates and the default margin, no change can be told from chance, and the incoming order always stays.

    The guard sees rerankers that are broken. It does not see one that agrees with the first stage and is worse than it:
    for that, judged queries are needed (`rag_rerank.evaluation.fit_margin`).

    Args:
        margin: The least agreement beyond chance, in standard deviations. A random order reaches 2 in about 2 of 100
            lists; `rag_rerank.evaluation.fit_margin` learns a margin from judged queries.

    Raises:
        ConfigError: ``margin`` is not a finite number above 0.
    """

    kind: ClassVar[str] = "guarded"

    margin: float = 2.0

    def __post_init__(self) -> None:
        super().__post_init__()
        finite_positive(self.margin, "margin")

    @property
    def takes_instruction(self) -> bool:
        """Whether the reranker inside takes one."""
        return self.reranker.takes_instruction

    def _plan(self, query: str, candidates: tuple[Candidate, ...]) -> Plan:
        ranking: Ranking = yield Call(self.reranker, query, candidates)
        raw_scores = {hit.id: hit.raw_score for hit in ranking if hit.raw_score is not None}
        incoming = in_first_stage_order(candidates, "not reranked")
        if not raw_scores or [hit.id for hit in ranking] == [hit.id for hit in incoming]:
            return PlanResult(ranking.hits, ranking.scale, substituted=ranking.substituted)
        agreement = agreement_beyond_chance([raw_scores[c.id] for c in candidates if c.id in raw_scores])
        compared = f"agreement with the first stage {agreement:.2f}, margin {self.margin:g}"
        if agreement >= self.margin:
            notes = (f"reranked: {compared}",)
            return PlanResult(ranking.hits, ranking.scale, notes=notes, substituted=ranking.substituted)
        hits = in_first_stage_order(candidates, f"not reranked: {compared}")
        reason = f"not reranked, in the order of the first stage: {compared}"
        return PlanResult(hits, ranking.scale, degraded=(reason,), substituted=True)
