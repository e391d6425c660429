"""The targets that a student learns from a teacher's scores, and how closely it follows them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import fmean, pstdev
from typing import Any

from rag_rerank.agreement import Agreement, compare
from rag_rerank.base import Reranker
from rag_rerank.evaluation import Judged, JudgedQuery
from rag_rerank.evaluation.measures import per_query
from rag_rerank.training.data.examples import Example, Examples, Passage
from rag_rerank.training.settings import Loss
from rag_rerank.training.validation import MEASURE
from rag_rerank.types import Candidate, Scale

__all__ = ["BY_TEACHER", "Fidelity", "as_logits", "default_loss", "judged_by_teacher", "mean_ndcg", "measure_fidelity"]

BY_TEACHER = "held-out queries, against the teacher's order"
"""Name of the validation whose grades are a teacher's order."""

_EDGE = 1e-4
"""A relevance nearer to 0 or 1 is moved to this distance from it; the logit is then 9.2 in size, about the largest that
cross-encoders give."""

_SPREAD = 3.0
"""Standard deviation of scores without a unit when they are used as logits; about that of cross-encoders' logits."""


def default_loss(scale: Scale) -> Loss:
    """Return the loss that fits a teacher's scale.

    If differences between scores mean something, margin-MSE (Hofstätter et al. 2020, arXiv 2010.02666) imitates them.
    In unbounded scores (fused ranks, BM25) and in places only the order means something, and the differences are
    arbitrary; from them the student learns the teacher's distribution over a query's passages (listwise: its
    cross-entropy differs from the Kullback-Leibler divergence by a constant).
    """
    return "listwise" if scale in ("unbounded", "rank") else "margin-mse"


def as_logits(examples: Examples, scale: Scale) -> Examples:
    """Return the examples with teacher scores that a logit can imitate; the order of no query changes.

    - ``sigmoid``: the raw score is a logit already.
    - ``relevance``, ``calibrated``: numbers in 0..1 become their logits, so that 0.90 and 0.99 differ as much as 0.01
      and 0.10; a number nearer than 0.0001 to either end is moved to that distance.
    - ``similarity``, ``unbounded``, ``rank``, and numbers beyond 0..1: mean 0 and standard deviation 3 over all pairs.
    """
    scores = [score for example in examples.examples for score in _scores(example)]
    if scale == "sigmoid":
        return examples
    if scale in ("relevance", "calibrated") and all(0 <= score <= 1 for score in scores):
        return _map_scores(examples, _logit)
    mean, spread = fmean(scores), pstdev(scores) or 1.0
    return _map_scores(examples, lambda score: (score - mean) / spread * _SPREAD)


def judged_by_teacher(examples: Examples) -> Judged:
    """Return the examples as queries judged by the teacher's order, for nDCG@10 against it.

    Each of the ten best has a grade that is 1 less than that of the one before, equal scores have equal grades, and the
    worst has 0. So all ten places count, the first ones most. Ids are positions in the example.
    """
    return Judged(name=BY_TEACHER, queries=tuple(_judge(i, example) for i, example in enumerate(examples.examples)))


@dataclass(frozen=True, kw_only=True)
class Fidelity:
    """How closely a student follows its teacher, on queries outside its training.

    Args:
        ndcg: nDCG@10 of its order, where the grades are the teacher's order (`judged_by_teacher`); mean over queries.
        first_stage: nDCG@10 of the order in which the candidates came.
        agreement: Kendall's tau and more, of raw scores.
    """

    ndcg: float
    first_stage: float
    agreement: Agreement

    @property
    def follows(self) -> bool:
        """Whether the student is at least as near to its teacher as the first stage, BM25, which costs nothing."""
        return self.ndcg >= self.first_stage

    @property
    def verdict(self) -> str | None:
        """Why the student should not be used; ``None`` if it follows its teacher."""
        if self.follows:
            return None
        return (
            f"on {self.agreement.queries:,} held-out queries this student follows its teacher worse than BM25 does: do "
            "not use it, unless judged queries prove it better; distil with more queries, or more passages a query, "
            "train longer, or take a larger student"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {**asdict(self), "follows": self.follows}

    def __str__(self) -> str:
        """Return one line."""
        return (
            f"on {self.agreement.queries:,} held-out queries, nDCG@10 against the teacher's order is {self.ndcg:.3f} "
            f"({self.first_stage:.3f} in the order of the first stage), Kendall's tau {self.agreement.tau:.3f}, and "
            f"{self.agreement.top_10:.0%} of the teacher's ten best are among the student's"
        )


def measure_fidelity(student: Reranker, examples: Examples) -> Fidelity:
    """Let a student rank held-out passages, and compare it with the teacher.

    Raises:
        InputError: There is nothing to compare.
        MissingExtraError: ir-measures is not installed.
        RerankError: The student fails.
    """
    judged = judged_by_teacher(examples)
    teacher_scores: list[list[float]] = []
    student_scores: list[list[float]] = []
    orders = {}
    for query, example in zip(judged.queries, examples.examples, strict=True):
        hits = student.rerank(query.text, query.candidates)
        orders[query.id] = [hit.id for hit in hits]
        scored = {hit.id: hit.raw_score for hit in hits if hit.raw_score is not None}
        teacher_scores.append([score for i, score in enumerate(_scores(example)) if str(i) in scored])
        student_scores.append([scored[candidate.id] for candidate in query.candidates if candidate.id in scored])
    first = {query.id: [candidate.id for candidate in query.candidates] for query in judged.queries}
    return Fidelity(
        ndcg=mean_ndcg(judged, orders),
        first_stage=mean_ndcg(judged, first),
        agreement=compare(teacher_scores, student_scores),
    )


def mean_ndcg(judged: Judged, orders: Mapping[str, Sequence[str]]) -> float:
    """Return nDCG@10 of orders of document ids by query, mean over the queries."""
    return fmean(per_query(judged, orders, (MEASURE,))[MEASURE].values())


def _judge(number: int, example: Example) -> JudgedQuery:
    scores = _scores(example)
    heights = [max(0, 10 - sum(other > score for other in scores)) for score in scores]
    return JudgedQuery(
        id=str(number),
        text=example.query,
        candidates=tuple(Candidate(str(i), passage.text) for i, passage in enumerate(example.passages)),
        grades={str(i): height - min(heights) for i, height in enumerate(heights)},
    )


def _scores(example: Example) -> list[float]:
    return [passage.teacher for passage in example.passages if passage.teacher is not None]


def _map_scores(examples: Examples, function: Callable[[float], float]) -> Examples:
    def convert(passage: Passage) -> Passage:
        return passage if passage.teacher is None else replace(passage, teacher=function(passage.teacher))

    return replace(
        examples,
        examples=tuple(
            replace(example, passages=tuple(map(convert, example.passages))) for example in examples.examples
        ),
    )


def _logit(score: float) -> float:
    inside = min(max(score, _EDGE), 1 - _EDGE)
    return math.log(inside / (1 - inside))
