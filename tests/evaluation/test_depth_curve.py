"""The depth curve equals evaluations at smaller depths, and a depth is enough only where that is certain."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.simulated_collections import collection, first_stage, oracle

from rag_rerank import Candidate
from rag_rerank.compose.cascade import Cascade, Stage
from rag_rerank.evaluation.data.judged import Judged, JudgedQuery
from rag_rerank.evaluation.depth_curve import TOLERANCE, curve, order, smallest_top_k
from rag_rerank.evaluation.measures import per_query
from rag_rerank.testing import ScriptedReranker


def query(n: int, id: str = "q", **grades: int) -> JudgedQuery:
    candidates = tuple(Candidate(f"d{i}", f"text {i}") for i in range(n))
    return JudgedQuery(id=id, text="a query", candidates=candidates, grades=grades or {"d0": 1})


def test_what_enters_is_sorted_and_the_rest_follows_as_it_was() -> None:
    scores = {"d0": 1.0, "d1": 3.0, "d2": 3.0, "d3": 9.0, "d4": 0.0}
    assert order(query(5), scores, 3) == ["d1", "d2", "d0", "d3", "d4"]
    assert order(query(5), scores) == ["d3", "d1", "d2", "d0", "d4"]
    assert order(query(5), {"d0": None, "d1": -1.0, "d2": 4.0}, 2) == ["d1", "d0", "d2", "d3", "d4"]
    assert order(query(3), {}) == ["d0", "d1", "d2"]


@given(st.lists(st.sampled_from([-1.0, 0.0, 0.5, 2.0]), min_size=1, max_size=8), st.integers(1, 9))
def test_the_order_at_a_depth_is_that_of_a_cascade_with_that_depth(values: list[float], depth: int) -> None:
    one_query = query(len(values))
    texts = {candidate.text: value for candidate, value in zip(one_query.candidates, values, strict=True)}
    scores = {candidate.id: texts[candidate.text] for candidate in one_query.candidates}
    real = Cascade(stages=(Stage(reranker=ScriptedReranker(by_text=texts), depth=depth),))
    assert order(one_query, scores, depth) == [hit.id for hit in real.rerank(one_query.text, one_query.candidates)]


def test_the_curve_ends_at_all_candidates_and_each_point_is_measured_as_everything_else() -> None:
    judged = collection(1, queries=20, candidates=24)
    scores = {q.id: {c.id: float(q.grades.get(c.id, 0)) for c in q.candidates} for q in judged.queries}
    depth_curve = curve(judged, scores, ("nDCG@10", "R@5"), samples=200)
    assert [point.depth for point in depth_curve.depths] == [5, 10, 20, 24]
    means = [point.measures["nDCG@10"].mean for point in depth_curve.depths]
    assert means == sorted(means)
    for point in depth_curve.depths:
        orders = {q.id: order(q, scores[q.id], point.depth) for q in judged.queries}
        values = per_query(judged, orders, ["R@5"])["R@5"].values()
        assert point.measures["R@5"].mean == pytest.approx(sum(values) / 20)
    assert means[-1] == pytest.approx(sum(per_query(judged, oracle(judged), ["nDCG@10"])["nDCG@10"].values()) / 20)


def deep(places: list[int], n: int = 40) -> Judged:
    """Return queries with their only relevant document at a position of the first stage."""
    return Judged(name="deep", queries=tuple(query(n, f"q{i}", **{f"d{at}": 1}) for i, at in enumerate(places)))


def grades_as_scores(judged: Judged) -> dict[str, dict[str, float | None]]:
    return {q.id: {c.id: float(q.grades.get(c.id, 0)) for c in q.candidates} for q in judged.queries}


def test_enough_is_the_depth_at_which_nothing_is_lost() -> None:
    judged = deep([i % 18 for i in range(60)])
    assert curve(judged, grades_as_scores(judged), ("nDCG@10",)).enough == 20
    assert curve(judged, {}, ("nDCG@10",)).enough == 5


def test_a_loss_that_may_be_larger_than_the_tolerance_is_not_enough() -> None:
    judged = deep([0] * 59 + [35])  # a mean loss of 1/60 at 20 and 30; sure only with all
    assert curve(judged, grades_as_scores(judged), ("nDCG@10",)).enough == 40
    many = deep([0] * 999 + [35])  # 1/1000, and surely below 0.01
    assert curve(many, grades_as_scores(many), ("nDCG@10",), samples=1_000).enough == 5
    assert TOLERANCE == 0.01


def test_a_reranker_that_gets_worse_with_more_candidates_is_measured_against_its_best_depth() -> None:
    """The relevant document stands at rank 4; from rank 31 on, half of the queries have one that scores higher."""
    judged = deep([3] * 60)
    scores = {
        q.id: {c.id: 1.0 if i == 3 else 2.0 if i == 35 and n % 2 else 0.0 for i, c in enumerate(q.candidates)}
        for n, q in enumerate(judged.queries)
    }
    depth_curve = curve(judged, scores, ("nDCG@10",))
    assert [round(point.measures["nDCG@10"].mean, 3) for point in depth_curve.depths] == [1.0, 1.0, 1.0, 1.0, 0.815]
    assert depth_curve.enough == 5


def test_fewer_hits_are_kept_only_if_they_surely_find_as_much() -> None:
    judged = collection(1, queries=40, candidates=24)
    assert smallest_top_k(judged, first_stage(judged), oracle(judged), 10, samples=500) < 10
    assert smallest_top_k(judged, first_stage(judged), first_stage(judged), 10, samples=500) == 10
    assert smallest_top_k(judged, oracle(judged), first_stage(judged), 3, samples=500) == 3
    one = deep([4] * 30)
    best = {q.id: order(q, grades_as_scores(one)[q.id]) for q in one.queries}
    assert smallest_top_k(one, first_stage(one), best, 5, samples=500) == 1
    assert smallest_top_k(one, first_stage(one), best, 3, samples=500) == 1
