"""Guarded: a reranker without sense leaves the first stage's order, by simulation; one with sense does not."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from rag_rerank import Candidate, ConfigError, Guarded, InputError, Ranking, build, to_config
from rag_rerank.compose.guarded import agreement_beyond_chance
from rag_rerank.testing import ScriptedReranker

LISTS = 1000
"""Simulated lists of each kind."""

SIZE = 40


def rerank(scores: Sequence[float], texts: Sequence[str] | None = None, margin: float = 2.0) -> Ranking:
    """Rank a list whose n-th text has the n-th score."""
    texts = texts or [f"text {i}" for i in range(len(scores))]
    scripted = ScriptedReranker(by_text=dict(zip(texts, scores, strict=True)))
    return Guarded(reranker=scripted, margin=margin).rerank("q", list(texts))


def is_first_stage(ranking: Ranking) -> bool:
    return [hit.id for hit in ranking] == [str(i) for i in range(len(ranking))]


def of_length(rng: random.Random) -> list[float]:
    return [float(rng.randint(20, 400)) for _ in range(SIZE)]


def of_noise(rng: random.Random) -> list[float]:
    return [rng.gauss(0, 1) for _ in range(SIZE)]


def of_coins(rng: random.Random) -> list[float]:
    return [float(rng.random() < 0.3) for _ in range(SIZE)]


def of_outliers(rng: random.Random) -> list[float]:
    return [rng.choice((-1, 1)) * 10 ** rng.uniform(-300, 300) for _ in range(SIZE)]


def of_few(rng: random.Random) -> list[float]:
    return [rng.random() for _ in range(rng.randint(1, 8))]


@pytest.mark.parametrize("broken", [of_length, of_noise, of_coins, of_outliers, of_few])
def test_scores_by_chance_leave_the_first_stage_in_95_of_100_lists(
    broken: Callable[[random.Random], list[float]],
) -> None:
    rng = random.Random(20)
    kept = sum(is_first_stage(rerank(broken(rng))) for _ in range(LISTS))
    assert kept >= 0.95 * LISTS


@pytest.mark.parametrize("count", [1, 2, 5, 40])
def test_reversed_and_constant_scores_always_leave_it(count: int) -> None:
    assert is_first_stage(rerank([float(i) for i in range(count)]))
    assert is_first_stage(rerank([0.5] * count))


def test_a_reranker_that_sees_the_same_relevance_as_the_first_stage_mostly_counts() -> None:
    rng = random.Random(21)
    taken = 0
    for _ in range(LISTS):
        relevance = [rng.gauss(0, 1) for _ in range(SIZE)]
        first_stage = sorted(relevance, key=lambda value: value + rng.gauss(0, 1), reverse=True)
        ranking = rerank([value + rng.gauss(0, 0.5) for value in first_stage])
        taken += ranking[0].raw_score is not None
    assert taken >= 0.9 * LISTS


def test_where_it_counts_the_ranking_is_the_rerankers() -> None:
    scores = [float(-(i ^ 1)) for i in range(SIZE)]  # neighbours change places
    ranking = rerank(scores)
    assert [hit.id for hit in ranking][:4] == ["1", "0", "3", "2"]
    assert (ranking.degraded, ranking.substituted) == ((), False)
    assert ranking.trace.notes[0].startswith("reranked: agreement with the first stage 6.2")


def test_where_it_does_not_count_the_ranking_says_why() -> None:
    ranking = rerank([1.0, 2.0, 3.0, 4.0])
    why = "agreement with the first stage -1.73, margin 2"
    assert ranking.degraded == (f"not reranked, in the order of the first stage: {why}",)
    assert ranking.substituted and {hit.unscored for hit in ranking} == {f"not reranked: {why}"}
    assert [step.step for step in ranking.trace.children] == ["scripted"]
    assert is_first_stage(ranking)


def test_blank_texts_come_last_and_do_not_count_as_agreement() -> None:
    ranking = rerank([0.0, 1.0, 2.0, 3.0], ["", "a", "b", "c"])
    assert [hit.text for hit in ranking] == ["a", "b", "c", ""]
    assert ranking[-1].unscored == "blank text"


def test_a_list_that_the_reranker_did_not_score_is_passed_on() -> None:
    ranking = rerank([0.0], ["  "])
    assert ranking.degraded == () and len(ranking) == 1


@given(st.lists(st.integers(-3, 3).map(float) | st.floats(-1e300, 1e300), min_size=1, max_size=30))
def test_no_candidate_is_lost_and_a_cutoff_is_a_prefix(scores: list[float]) -> None:
    texts = [f"text {i}" for i in range(len(scores))]
    guarded = Guarded(reranker=ScriptedReranker(by_text=dict(zip(texts, scores, strict=True))))
    candidates = [Candidate(f"c{i}", text, metadata={"i": i}) for i, text in enumerate(texts)]
    whole = guarded.rerank("q", candidates)
    assert sorted(hit.id for hit in whole) == sorted(candidate.id for candidate in candidates)
    assert [hit.candidate for hit in guarded.rerank("q", candidates, top_k=3)] == [hit.candidate for hit in whole][:3]


@given(st.lists(st.integers(-3, 3).map(float) | st.floats(-1e9, 1e9), min_size=2, max_size=30))
def test_the_agreement_is_scipys_rho_over_its_spread(scores: list[float]) -> None:
    rho = 0.0 if len(set(scores)) == 1 else float(spearmanr(range(len(scores), 0, -1), scores).statistic)
    assert agreement_beyond_chance(scores) == pytest.approx(rho * math.sqrt(len(scores) - 1), abs=1e-9)


def test_a_larger_margin_keeps_more() -> None:
    scores = [-1.0, 0.0, *(float(-i) for i in range(2, 10))]  # rho is 1 - 6 * 2 / (10 * 99), and its spread 1 / 3
    agreement = 3 * (1 - 12 / 990)
    assert rerank(scores, margin=agreement - 0.001)[0].id == "1"
    assert is_first_stage(rerank(scores, margin=agreement + 0.001))


def test_where_both_orders_are_the_same_the_hits_have_scores() -> None:
    ranking = rerank([2.0, 1.0])
    assert [hit.raw_score for hit in ranking] == [2.0, 1.0]
    assert ranking.degraded == ()


@pytest.mark.parametrize("margin", [0, -1, math.inf, math.nan, "2"])
def test_a_margin_is_a_finite_number_above_0(margin: float) -> None:
    with pytest.raises(ConfigError, match="margin"):
        build({"type": "guarded", "reranker": "lexical", "margin": margin})


def test_a_config_is_read_and_written() -> None:
    config = {"type": "guarded", "reranker": {"type": "lexical"}, "margin": 3.5}
    assert to_config(build(config)) == config
    assert build("guarded(lexical)").label == "guarded(lexical)"


def test_errors_of_the_reranker_are_raised() -> None:
    with pytest.raises(InputError):
        Guarded(reranker=build("lexical")).rerank("q", ["a"], top_k=0)
