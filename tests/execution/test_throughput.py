"""The estimate of a reranker's time: it learns from calls, forgets old ones, and gives none without data."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_rerank.execution.throughput import Throughput, estimated_tokens


def taught(*observations: tuple[float, float]) -> Throughput:
    pace = Throughput()
    for done, seconds in observations:
        pace.note(done, seconds)
    return pace


def test_nothing_is_known_before_the_first_call() -> None:
    assert Throughput().texts_within([1.0, 2.0], 10.0) is None
    assert taught((0.0, 3.0)).texts_within([1.0], 10.0) is None  # a call without work tells nothing


def test_one_call_is_taken_as_proportional() -> None:
    pace = taught((10.0, 5.0))
    assert pace.texts_within([1.0] * 20, 3.0) == 6
    assert pace.texts_within([4.0, 1.0, 1.0], 2.6) == 2
    assert pace.texts_within([100.0], 3.0) == 0
    assert pace.texts_within([], 3.0) == 0


def test_calls_of_several_sizes_tell_the_start_from_the_rest() -> None:
    pace = taught((10.0, 7.0), (20.0, 12.0))  # 2 seconds, and half a second each
    assert pace.texts_within([1.0] * 50, 7.01) == 10
    assert pace.texts_within([1.0] * 50, 1.9) == 0


def test_calls_that_take_the_same_time_whatever_their_size_have_no_price_a_text() -> None:
    pace = taught((10.0, 3.0), (20.0, 2.9), (30.0, 2.8))
    assert pace.texts_within([1.0] * 99, 3.5) == 99
    assert pace.texts_within([1.0] * 99, 1.0) == 0


def test_old_calls_are_forgotten() -> None:
    pace = taught(*[(10.0, 100.0)] * 20, *[(10.0, 1.0)] * 100)
    assert 90 <= (pace.texts_within([1.0] * 200, 10.0) or 0) <= 110


def test_work_counts_the_query_with_every_text_and_stops_at_the_window() -> None:
    assert estimated_tokens("four", ["eight by", ""]) == [3 + 4, 1 + 4]
    assert estimated_tokens("q", ["x" * 4000], window=512) == [512]
    assert estimated_tokens("q", ["é"]) > estimated_tokens("q", ["e"])
    assert estimated_tokens("q", []) == []
    assert estimated_tokens("\ud800", ["\udc00"])[0] > 0


@given(
    st.floats(0, 10),
    st.floats(1e-4, 5),
    st.lists(st.floats(1, 1000), min_size=2, max_size=30),
    st.floats(0.1, 1000),
    st.lists(st.floats(0.1, 100), max_size=30),
)
def test_a_straight_line_is_found_again(
    start: float, each: float, sizes: list[float], seconds: float, works: list[float]
) -> None:
    pace = taught(*((x, start + each * x) for x in sizes))
    fitting = pace.texts_within(works, seconds)
    assert fitting is not None and 0 <= fitting <= len(works)
    if max(sizes) > 3 * min(sizes):  # sizes that differ enough to tell the start from the rest
        takes = [start + each * sum(works[: n + 1]) for n in range(len(works))]
        if not any(math.isclose(t, seconds, rel_tol=1e-3) for t in takes):
            assert fitting == sum(t <= seconds for t in takes)


@given(
    st.lists(st.tuples(st.floats(0, 1e6), st.floats(0, 1e6)), max_size=30),
    st.lists(st.floats(0, 1e5), max_size=20),
    st.floats(-10, 1e6),
    st.floats(0, 100),
)
def test_whatever_was_seen_more_time_never_fits_less(
    calls: list[tuple[float, float]], works: list[float], seconds: float, more: float
) -> None:
    pace = taught(*calls)
    one, other = pace.texts_within(works, seconds), pace.texts_within(works, seconds + more)
    assert (one is None) == (other is None)
    if one is not None and other is not None:
        assert 0 <= one <= other <= len(works)


def test_threads_may_share_it() -> None:
    pace = Throughput()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: pace.note(10.0, 1.0), range(400)))
    assert pace.texts_within([1.0] * 30, 1.0) == pytest.approx(10, abs=1)
