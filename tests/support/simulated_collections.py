"""Simulated judged collections and rerankers, whose true quality is known."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np

from rag_rerank import Candidate
from rag_rerank.evaluation.data.judged import Judged, JudgedQuery
from rag_rerank.evaluation.measures import per_query
from rag_rerank.evaluation.recommendation import verdict
from rag_rerank.evaluation.report import FIRST_STAGE, Comparison, Data, EvaluationSettings, Outcome, System, Verdict
from rag_rerank.evaluation.statistics import adjusted_p, compare, estimate
from rag_rerank.evaluation.system_figures import failure

Orders = Mapping[str, Sequence[str]]

PRIMARY = "nDCG@10"
MEASURES = (PRIMARY, "nDCG@3")


def collection(seed: int, *, queries: int = 50, candidates: int = 30, quality: float = 1.5) -> Judged:
    """Return judged queries whose first stage ranks relevant candidates higher, the more so the higher ``quality`` is.

    Half of the candidates have a judgment, of 0 to 3; one query in ten has no relevant candidate, and some relevant
    documents are not among the candidates. With a quality of 0 the first stage is a random order.
    """
    chance = random.Random(seed)
    judged_queries = []
    for i in range(queries):
        by_rank = [chance.choices((0, 1, 2, 3), (80, 10, 6, 4))[0] for _ in range(candidates)]
        if i % 10 == 0:
            by_rank = [0] * candidates
        elif not any(by_rank):
            by_rank[chance.randrange(candidates)] = 1
        by_rank.sort(key=lambda grade: -(quality * grade + chance.gauss(0, 2)))
        ids = [f"d{rank}" for rank in range(candidates)]
        grades = {id: grade for id, grade in zip(ids, by_rank, strict=True) if grade or chance.random() < 0.4}
        elsewhere = {f"m{j}": 1 for j in range(chance.choices((0, 1, 2), (6, 2, 1))[0] or not any(by_rank))}
        texts = tuple(Candidate(id, f"text of {id}") for id in ids)
        judged_queries.append(
            JudgedQuery(id=f"q{i}", text=f"query {i}", candidates=texts, grades={**grades, **elsewhere})
        )
    return Judged(name=f"simulated {seed}", queries=tuple(judged_queries))


def first_stage(judged: Judged) -> dict[str, list[str]]:
    """Return the orders of the first stage."""
    return {query.id: [candidate.id for candidate in query.candidates] for query in judged.queries}


def shuffled(judged: Judged, seed: int) -> dict[str, list[str]]:
    """Return the orders of a reranker that scores at random."""
    return reranked(judged, seed, knows=0.0)


def oracle(judged: Judged) -> dict[str, list[str]]:
    """Return the best orders."""
    return reranked(judged, 0, knows=math.inf)


def reranked(judged: Judged, seed: int, *, knows: float) -> dict[str, list[str]]:
    """Return the orders of a reranker that scores grades times ``knows``, plus noise of deviation 1."""
    chance = random.Random(seed)

    def score(grade: int) -> float:
        return float(grade) if knows == math.inf else knows * grade + chance.gauss(0, 1)

    orders = {}
    for query in judged.queries:
        scores = {candidate.id: score(query.grades.get(candidate.id, 0)) for candidate in query.candidates}
        orders[query.id] = sorted(scores, key=lambda id: -scores[id])
    return orders


def decide(judged: Judged, rerankers: Mapping[str, Orders], *, samples: int = 2_000, **options: float) -> Verdict:
    """Return the verdict on rerankers, computed from their orders by way of measures and tests."""
    orders = {FIRST_STAGE: first_stage(judged), **rerankers}
    values = {name: per_query(judged, by_query, MEASURES) for name, by_query in orders.items()}
    return verdict(**verdict_arguments(judged, orders, values, samples=samples), **options)


def verdict_arguments(
    judged: Judged, orders: Mapping[str, Orders], values: Mapping[str, Mapping[str, Mapping[str, float]]], samples: int
) -> dict[str, object]:
    """Return the arguments of `verdict`."""
    outcomes = tuple(
        Outcome(
            id=query.id,
            text=query.text,
            candidates=len(query.candidates),
            relevant=sum(grade >= judged.relevant for grade in query.grades.values()),
            measures={name: {m: by[m][query.id] for m in by} for name, by in values.items()},
        )
        for query in judged.queries
    )
    failures = [
        failure(query, orders[FIRST_STAGE][query.id], relevant=1, top_k=5, scores={}, coverage={})
        for query in judged.queries
    ]
    systems = tuple(
        System(
            name=name,
            label=name,
            measures={m: estimate(by[m].values(), samples=samples) for m in by},
            failures={"candidates": failures.count("candidates")} if name == FIRST_STAGE else {},
        )
        for name, by in values.items()
    )
    comparisons: list[Comparison] = []
    for m in MEASURES:
        family = [
            compare(name, FIRST_STAGE, m, by[m], values[FIRST_STAGE][m], samples=samples)
            for name, by in values.items()
            if name != FIRST_STAGE
        ]
        comparisons += adjusted_p(family)
    queries, deepest = len(judged.queries), max(len(query.candidates) for query in judged.queries)
    best = per_query(judged, oracle(judged), MEASURES)
    return {
        "data": Data(
            name=judged.name,
            fingerprint="",
            queries=queries,
            candidates=float(deepest),
            judged=0.5,
            relevant=1,
            ceiling={m: sum(by.values()) / queries for m, by in best.items()},
        ),
        "settings": EvaluationSettings(measures=MEASURES, depth=deepest, top_k=5, samples=samples, seed=0),
        "systems": systems,
        "comparisons": tuple(comparisons),
        "slices": (),
        "outcomes": outcomes,
    }


def with_times(system: System, seconds: float, cost: float | None = None) -> System:
    """Return a system with this median time, twice that at the 95th percentile, and this cost."""
    return replace(system, p50=seconds, p95=2 * seconds, cost=cost)


@lru_cache
def differences(kind: str, size: int = 20_000) -> np.ndarray:
    """Return a population of differences in nDCG@10 between a reranker and its first stage.

    - ``one relevant``: each query has one relevant document, which moves from one rank to another, so that there are
      few different values and most are zero; one in eight is not among the candidates.
    - ``graded``: several relevant documents of several grades, through `per_query` on simulated collections.
    """
    rng = np.random.default_rng(7)
    if kind == "one relevant":
        before = np.ceil(np.exp(rng.normal(0.8, 1.5, size)))
        after = np.where(rng.random(size) < 0.4, before, np.ceil(before**0.6 * np.exp(rng.normal(0, 0.4, size))))
        gain = np.where(after <= 10, 1 / np.log2(after + 1), 0) - np.where(before <= 10, 1 / np.log2(before + 1), 0)
        return np.where(rng.random(size) < 0.12, 0.0, gain)
    judged = collection(1, queries=size // 10)
    a = per_query(judged, reranked(judged, 2, knows=1.0), [PRIMARY])[PRIMARY]
    b = per_query(judged, first_stage(judged), [PRIMARY])[PRIMARY]
    return np.array([a[query] - b[query] for query in a])


def interval_coverage(
    population: np.ndarray, n: int, simulations: int, *, samples: int = 1_000, seed: int = 11
) -> float:
    """Return how often the interval of ``n`` values from a population contains the population's mean."""
    rng, mean = np.random.default_rng((seed, n)), population.mean()
    estimates = (estimate(rng.choice(population, n), samples=samples) for _ in range(simulations))
    return sum(one.low <= mean <= one.high for one in estimates) / simulations
