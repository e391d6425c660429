"""How many candidates should enter a reranker, and how many hits should be kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import fsum

from rag_rerank.evaluation.data.judged import Judged, JudgedQuery
from rag_rerank.evaluation.measures import per_query
from rag_rerank.evaluation.report import Depth
from rag_rerank.evaluation.statistics import SAMPLES, SEED, estimate

__all__ = ["MEAN_LOSS", "TOLERANCE", "Curve", "curve", "order", "smallest_top_k"]

MEAN_LOSS = 0.005
"""What fewer candidates may lose on average, in a measure that goes from 0 to 1."""

TOLERANCE = 0.01
"""A loss that is too small to matter: 0.01 of a measure that goes from 0 to 1."""

_STEPS = (5, 10, 20, 30, 50, 75, 100, 150, 200, 300, 500, 1000)

RawScores = Mapping[str, float | None]
"""Raw scores of a query's candidates by id; ``None``, or no entry, for a candidate that has none."""

Orders = Mapping[str, Sequence[str]]
"""Document ids, best first, by query id."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Curve:
    """The quality of a system by the number of candidates that enter it.

    Args:
        depths: The points by rising depth; at the last one all candidates enter.
        enough: The smallest of these depths that loses little in the first measure against the best of them: at most
            `MEAN_LOSS` on average, and surely less than `TOLERANCE` (the upper end of the interval of the paired loss).
    """

    depths: tuple[Depth, ...]
    enough: int


def curve(
    judged: Judged,
    scores: Mapping[str, RawScores],
    measures: Sequence[str],
    *,
    depth: int | None = None,
    samples: int = SAMPLES,
    seed: int = SEED,
) -> Curve:
    """Compute, from one scoring of all candidates, the quality that fewer of them would have given.

    Valid only where the score of a text does not depend on the other candidates.

    Args:
        judged: The judged queries.
        scores: Query id -> raw scores of its candidates. A query without any keeps the first stage's order.
        measures: The measures; the first one decides `Curve.enough`.
        depth: How many candidates entered; ``None`` for all.
        samples: Bootstrap samples.
        seed: Their seed.
    """
    most = max((len(query.candidates[:depth]) for query in judged.queries), default=1)
    values = {}
    for step in (*(step for step in _STEPS if step < most), most):
        orders = {query.id: order(query, scores.get(query.id, {}), step) for query in judged.queries}
        values[step] = per_query(judged, orders, measures)
    first = {step: by_measure[measures[0]] for step, by_measure in values.items()}
    best = max(first.values(), key=lambda by_query: fsum(by_query.values()))
    losses = {step: [best[query] - by_query[query] for query in best] for step, by_query in first.items()}
    return Curve(
        depths=tuple(
            Depth(
                depth=step,
                measures={name: estimate(by_measure[name].values(), samples=samples, seed=seed) for name in measures},
            )
            for step, by_measure in values.items()
        ),
        enough=next(
            step
            for step, loss in losses.items()
            if fsum(loss) <= MEAN_LOSS * len(loss) and _is_small(loss, samples, seed)
        ),
    )


def order(query: JudgedQuery, scores: RawScores, depth: int | None = None) -> list[str]:
    """Return document ids in their order if only the first ``depth`` candidates are scored.

    Equal scores keep the first stage's order. Candidates without a score, and those that did not enter, follow in the
    first stage's order.
    """
    entering = [candidate.id for candidate in query.candidates[:depth]]
    scored = {document: score for document in entering if (score := scores.get(document)) is not None}
    rest = [candidate.id for candidate in query.candidates if candidate.id not in scored]
    return sorted(scored, key=lambda document: -scored[document]) + rest


def smallest_top_k(
    judged: Judged, before: Orders, after: Orders, top_k: int, *, samples: int = SAMPLES, seed: int = SEED
) -> int:
    """Return how many hits of ``after`` are enough for the recall of the first ``top_k`` of ``before``.

    It is the smallest number whose recall is surely less than `TOLERANCE` lower; ``top_k`` if there is none.

    Args:
        judged: The judged queries.
        before: The first stage's order.
        after: The reranked order.
        top_k: How many hits are kept now.
        samples: Bootstrap samples.
        seed: Their seed.
    """
    goal = per_query(judged, before, [f"R@{top_k}"])[f"R@{top_k}"]
    recalls = per_query(judged, after, [f"R@{k}" for k in range(1, top_k + 1)])
    for k in range(1, top_k):
        if _is_small([goal[query] - recalls[f"R@{k}"][query] for query in goal], samples, seed):
            return k
    return top_k


def _is_small(losses: Sequence[float], samples: int, seed: int) -> bool:
    return estimate(losses, samples=samples, seed=seed).high < TOLERANCE
