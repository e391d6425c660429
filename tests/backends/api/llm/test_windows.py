"""The window algebra: what a perfect judge puts right, and how many windows it takes."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from rag_rerank.backends.api.llm.judgment import Listwise, Pairwise
from rag_rerank.backends.api.llm.windows import count_windows, slide


def certain_places(count: int, window: int, stride: int, passes: int) -> int:
    """Return how many places, from the first on, are right after so many passes if every window is ordered rightly.

    The first pass carries the best ``window - stride`` to the front, and each further pass as many more, but no more
    than ``stride``, because the places that are right already take part of every overlap.
    """
    if count <= window:
        return count
    carried = window - stride
    return min(count, carried + (passes - 1) * min(stride, carried))


SIZES = st.tuples(st.integers(2, 12), st.integers(1, 11)).filter(lambda pair: pair[1] < pair[0])


def test_one_pass_is_that_of_the_paper() -> None:
    assert [(w.start, w.stop) for w in slide(50, 20, 10)] == [(30, 50), (20, 40), (10, 30), (0, 20)]
    assert [(w.start, w.stop) for w in slide(25, 20, 10)] == [(5, 25), (0, 15)]  # the head is never left out
    assert list(slide(1, 20, 10)) == [] and list(slide(0, 20, 10)) == []


@given(st.integers(0, 60), SIZES)
def test_windows_reach_every_place_and_overlap_as_promised(count: int, sizes: tuple[int, int]) -> None:
    window, stride = sizes
    windows = list(slide(count, window, stride))
    assert len(windows) == count_windows(count, window, stride)
    if count > 1:
        assert (windows[0].stop, windows[-1].start) == (count, 0)
        assert set().union(*windows) == set(range(count))
    assert all(len(w) <= window for w in windows)
    for later, earlier in pairwise(windows):
        assert earlier.stop - later.start == window - stride


@given(st.data(), st.integers(2, 40), SIZES, st.integers(1, 3))
def test_a_perfect_judge_puts_the_promised_places_right(
    data: st.DataObject, count: int, sizes: tuple[int, int], passes: int
) -> None:
    window, stride = sizes
    order = data.draw(st.permutations(range(count)))
    for _ in range(passes):
        for places in slide(count, window, stride):
            order[places.start : places.stop] = sorted(order[places.start : places.stop])
    certain = certain_places(count, window, stride, passes)
    assert order[:certain] == list(range(certain))


def test_the_promise_is_not_too_modest() -> None:
    order = list(range(29, -1, -1))  # the best come last: the worst case
    for places in slide(30, 10, 5):
        order[places.start : places.stop] = sorted(order[places.start : places.stop])
    assert certain_places(30, 10, 5, 1) == 5 and order[:6] != list(range(6))


def test_the_number_of_requests_is_known_before() -> None:
    texts = ["x"] * 100
    assert Listwise("q", texts).requests() == 9
    assert Listwise("q", texts, passes=2, shuffles=3).requests() == 72
    assert Pairwise("q", texts, top=10).requests() == 2 * sum(range(90, 100))
    assert Pairwise("q", texts[:3], top=10).requests() == 2 * (2 + 1)
