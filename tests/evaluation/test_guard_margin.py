"""The margin of a guard, learnt from judged queries: given where the reranker earns it, and only there."""

from __future__ import annotations

import random

import pytest

from rag_rerank import Candidate, ConfigError, Guarded, InputError
from rag_rerank.evaluation import Judged, JudgedQuery, MarginFit, fit_margin
from rag_rerank.testing import ScriptedReranker


def fit(seed: int, *, noise: float, first_noise: float = 1.0, queries: int = 30, size: int = 30) -> MarginFit:
    """Fit on simulated queries: relevance plus noise is what the first stage, and the reranker, see of a text."""
    rng = random.Random(seed)
    by_text: dict[str, float] = {}
    judged = []
    for number in range(queries):
        relevance = [rng.gauss(0, 1) for _ in range(size)]
        order = sorted(range(size), key=lambda i: relevance[i] + rng.gauss(0, first_noise), reverse=True)
        candidates = tuple(Candidate(str(i), f"{number} {i}") for i in order)
        by_text |= {c.text: relevance[int(c.id)] + rng.gauss(0, noise) for c in candidates}
        best = max(range(size), key=lambda i: relevance[i])
        judged.append(JudgedQuery(id=str(number), text="q", candidates=candidates, grades={str(best): 1}))
    return fit_margin(ScriptedReranker(by_text=by_text), Judged(name="simulated", queries=tuple(judged)), samples=200)


def test_a_reranker_that_is_better_gets_a_margin_and_keeps_its_gain() -> None:
    good = fit(1, noise=0.3)
    assert good.margin is not None and good.margin >= 2
    assert good.gain.low > 0 and good.gain.mean > 0.7 * good.unguarded.mean
    assert (good.measure, good.queries) == ("nDCG@10", 30)


def test_a_random_reranker_gets_none_in_95_of_100_seeds() -> None:
    fits = [fit(seed, noise=1e6, queries=20) for seed in range(60)]
    assert sum(one.margin is None for one in fits) >= 57
    assert all(one.unchanged == 1 for one in fits if one.margin is None)


def test_one_that_agrees_with_a_strong_first_stage_and_is_worse_gets_none() -> None:
    weak = fit(2, noise=1.0, first_noise=0.3)
    assert weak.margin is None
    assert weak.unguarded.mean < 0


def test_what_cannot_be_fitted_is_an_error() -> None:
    with pytest.raises(InputError, match="at least 10 judged queries, got 9"):
        fit(3, noise=1.0, queries=9)
    query = JudgedQuery(id="1", text="q", candidates=(Candidate("a", "a"),), grades={"a": 1})
    judged = Judged(name="j", queries=(query,))
    with pytest.raises(InputError, match="guarded already"):
        fit_margin(Guarded(reranker=ScriptedReranker()), judged)
    with pytest.raises(ConfigError, match="unknown measure"):
        fit_margin(ScriptedReranker(), Judged(name="j", queries=(query,) * 10), measure="nDGC@10")
