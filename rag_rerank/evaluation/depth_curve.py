"""How many candidates should enter a reranker, and how many hits should be kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rag_rerank.evaluation.data.judged import Judged, JudgedQuery
from rag_rerank.evaluation.measures import per_query
from rag_rerank.evaluation.report import Depth
from rag_rerank.evaluation.statistics import SAMPLES, SEED, estimate

__all__ = ["TOLERANCE", "Curve", "curve", "order", "smallest_top_k"]

TOLERANCE = 0.01
"""A loss that is small enough not to matter: one point of a hundred."""

_STEPS = (5, 10, 20, 30, 50, 75, 100, 150, 200, 300, 500, 1000)

Scores = Mapping[str, float | None]
"""Raw scores of a query's candidates by id; ``None``, or no entry, for a candidate that has none."""

Orders = Mapping[str, Sequence[str]]
"""Document ids, best first, by query id."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Curve:
    """What a system gives by how many candidates enter it.

    Args:
        depths: The points by rising depth; at the last one all candidates enter.
        enough: The smallest of these depths that loses, against all candidates, surely less than `TOLERANCE` in the
            first measure: the upper end of the interval of the paired loss is below it.
    """

    depths: tuple[Depth, ...]
    enough: int


def order(query: JudgedQuery, scores: Scores, depth: int | None = None) -> list[str]:
    """Return document ids as they stand when the first ``depth`` candidates are scored and the rest follows as it was.

    Equal scores keep the first stage's order; what entered and has no score stands behind what has one.
    """
    entered = [candidate.id for candidate in query.candidates[:depth]]
    found = {document: score for document in entered if (score := scores.get(document)) is not None}
    rest = [candidate.id for candidate in query.candidates if candidate.id not in found]
    return sorted(found, key=lambda document: -found[document]) + rest


def curve(
    judged: Judged,
    scores: Mapping[str, Scores],
    measures: Sequence[str],
    *,
    depth: int | None = None,
    samples: int = SAMPLES,
    seed: int = SEED,
) -> Curve:
    """Work out from one scoring of all candidates what fewer of them would have given.

    That is allowed only where the score of a text does not depend on the other candidates.

    Args:
        judged: The judged queries.
        scores: Query id -> raw scores of its candidates. A query without any keeps the first stage's order.
        measures: What is measured; the first one decides `Curve.enough`.
        depth: How many candidates entered; ``None`` for all.
        samples: Bootstrap samples.
        seed: Their seed.
    """
    most = max((len(query.candidates[:depth]) for query in judged.queries), default=1)
    values = {}
    for entering in (*(step for step in _STEPS if step < most), most):
        orders = {query.id: order(query, scores.get(query.id, {}), entering) for query in judged.queries}
        values[entering] = per_query(judged, orders, measures)
    whole = values[most][measures[0]]
    losses = {depth: [whole[query] - at[measures[0]][query] for query in whole] for depth, at in values.items()}
    return Curve(
        depths=tuple(
            Depth(
                depth=depth,
                measures={name: estimate(at[name].values(), samples=samples, seed=seed) for name in measures},
            )
            for depth, at in values.items()
        ),
        enough=next(depth for depth, loss in losses.items() if _small(loss, samples, seed)),
    )


def smallest_top_k(
    judged: Judged, before: Orders, after: Orders, top_k: int, *, samples: int = SAMPLES, seed: int = SEED
) -> int:
    """Return how few hits of ``after`` find as much as the first ``top_k`` of ``before``.

    It is the smallest number whose recall is surely less than `TOLERANCE` below; ``top_k`` where none is.

    Args:
        judged: The judged queries.
        before: The first stage's order.
        after: The reranked order.
        top_k: How many hits are kept now.
        samples: Bootstrap samples.
        seed: Their seed.
    """
    goal = per_query(judged, before, [f"R@{top_k}"])[f"R@{top_k}"]
    found = per_query(judged, after, [f"R@{k}" for k in range(1, top_k + 1)])
    for k in range(1, top_k):
        if _small([goal[query] - found[f"R@{k}"][query] for query in goal], samples, seed):
            return k
    return top_k


def _small(losses: Sequence[float], samples: int, seed: int) -> bool:
    return estimate(losses, samples=samples, seed=seed).high < TOLERANCE
