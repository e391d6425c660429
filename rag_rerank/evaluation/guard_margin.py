"""The margin of `rag_rerank.Guarded`, learnt from judged queries; or that the reranker should not be used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import fsum
from random import Random

from rag_rerank.base import Reranker
from rag_rerank.compose.guarded import Guarded, agreement_beyond_chance
from rag_rerank.errors import InputError
from rag_rerank.evaluation.data.judged import Judged
from rag_rerank.evaluation.measures import MEASURES, check_measures, per_query
from rag_rerank.evaluation.report import MeanEstimate
from rag_rerank.evaluation.slices import FEWEST
from rag_rerank.evaluation.statistics import SAMPLES, SEED, estimate

__all__ = ["MarginFit", "fit_margin"]

_STEPS = (2.0, 2.5, 3.0, 3.5, 4.0, 5.0, 6.0, 7.0, 8.0)
"""The margins to choose from. None is below the default, so that a reranker that breaks later is still stopped."""

_FOLDS = 5
"""Each part of the queries is measured with the margin that the other four parts give."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MarginFit:
    """What judged queries say about the margin of a reranker.

    Args:
        margin: The margin for `rag_rerank.Guarded`; ``None`` where the judged queries show no gain: keep the first
            stage's order for all queries, or judge more of them.
        measure: The measure that was maximised.
        gain: The mean gain over the first stage with 95 % interval. It is cross-validated: each query is measured with
            a margin that was chosen without it.
        unguarded: The mean gain of the reranker without a guard.
        unchanged: The share of the queries that keep the first stage's order with ``margin``; 1 where that is ``None``.
        queries: How many judged queries there are.
    """

    margin: float | None
    measure: str
    gain: MeanEstimate
    unguarded: MeanEstimate
    unchanged: float
    queries: int


def fit_margin(
    reranker: Reranker,
    judged: Judged,
    *,
    measure: str = MEASURES[0],
    depth: int = 100,
    samples: int = SAMPLES,
    seed: int = SEED,
) -> MarginFit:
    """Learn the margin of `rag_rerank.Guarded` for a reranker from judged queries.

    Of the margins from 2 to 8 it is the one with the highest mean of the measure; of several, the smallest. It is given
    only if the reranker earns it: the lower end of the 95 % interval of the cross-validated gain is above 0. A reranker
    that is no better than chance gets none in at least 97 of 100 cases. Nor does one that agrees with a strong first
    stage and is worse than it, which no margin stops.

    Args:
        reranker: The reranker, without its guard. A `Guarded` is an error.
        judged: The judged queries with their candidates in the first stage's order.
        measure: The measure to maximise, as in ir-measures.
        depth: How many candidates of each query enter; deeper ones follow in the first stage's order.
        samples: Bootstrap samples.
        seed: Seed of the samples and of the five parts.

    Raises:
        InputError: There are fewer than ten judged queries, or the reranker is guarded already.
        ConfigError: The measure is unknown.
        RerankError: The reranker failed on a query.
    """
    if isinstance(reranker, Guarded):
        raise InputError(f"{reranker.label} is guarded already; fit the margin of {reranker.reranker.label}")
    if len(judged.queries) < FEWEST:
        raise InputError(f"a margin needs at least {FEWEST} judged queries, got {len(judged.queries)}; judge more")
    (measure,) = check_measures([measure])
    before = {query.id: [candidate.id for candidate in query.candidates] for query in judged.queries}
    after: dict[str, list[str]] = {}
    agreements: dict[str, float] = {}
    for query in judged.queries:
        ranking = reranker.rerank(query.text, query.candidates[:depth])
        raw_scores = {hit.id: hit.raw_score for hit in ranking if hit.raw_score is not None}
        after[query.id] = [hit.id for hit in ranking] + before[query.id][depth:]
        agreements[query.id] = agreement_beyond_chance([raw_scores[id] for id in before[query.id] if id in raw_scores])
    base, reranked = (per_query(judged, orders, [measure])[measure] for orders in (before, after))
    gains = {query: reranked[query] - base[query] for query in base}
    ids = sorted(gains)
    Random(seed).shuffle(ids)
    held_out: list[float] = []
    for fold in range(_FOLDS):
        part = set(ids[fold::_FOLDS])
        margin = _best_margin(gains, agreements, [query for query in ids if query not in part])
        held_out += [_guarded_gain(gains, agreements, query, margin) for query in part]
    gain = estimate(held_out, samples=samples, seed=seed)
    choice = _best_margin(gains, agreements, ids) if gain.low > 0 else None
    unchanged = [choice is None or agreements[query] < choice for query in ids]
    return MarginFit(
        margin=choice,
        measure=measure,
        gain=gain,
        unguarded=estimate(gains.values(), samples=samples, seed=seed),
        unchanged=sum(unchanged) / len(unchanged),
        queries=len(ids),
    )


def _best_margin(gains: Mapping[str, float], agreements: Mapping[str, float], queries: Sequence[str]) -> float:
    return max(_STEPS, key=lambda margin: fsum(_guarded_gain(gains, agreements, query, margin) for query in queries))


def _guarded_gain(gains: Mapping[str, float], agreements: Mapping[str, float], query: str, margin: float) -> float:
    return gains[query] if agreements[query] >= margin else 0.0
