"""Whose turn it is: the laws of the fair line, with one worker and exact numbers."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from rag_rerank.backends.local.fair_queue import FairQueue


class Story(NamedTuple):
    """A call: when it comes, the sizes of its units, and after how many of them it is cancelled."""

    comes: int
    units: list[int]
    stops: int | None = None

    @property
    def size(self) -> int:
        return sum(self.units)


class Served(NamedTuple):
    """What became of the calls: when each joined, in which order units ran, when calls were done or left."""

    joined: dict[int, Fraction]
    order: list[int]
    done: dict[int, Fraction]
    left: dict[int, tuple[Fraction, Fraction]]  # when, and what it had received
    idle: list[Fraction]  # when the line began anew


def serve(stories: list[Story]) -> Served:
    """Serve calls by a fair line on one worker, which looks up after each unit."""
    line: FairQueue[int] = FairQueue()
    now = Fraction(0)
    served = Served({}, [], {}, {}, [])
    ran = [0] * len(stories)
    arriving = deque(sorted(range(len(stories)), key=lambda i: stories[i].comes))
    while arriving or line:
        if not line:
            now = max(now, Fraction(stories[arriving[0]].comes))
            served.idle.append(now)
        while arriving and stories[arriving[0]].comes <= now:
            i = arriving.popleft()
            served.joined[i] = now
            line.join(i, [(Fraction(size), size) for size in stories[i].units])
        i, size = line.take()
        now += size
        ran[i] += 1
        served.order.append(i)
        if ran[i] == len(stories[i].units):
            served.done[i] = now
        elif ran[i] == stories[i].stops:
            line.drop(i)
            served.left[i] = now, Fraction(sum(stories[i].units[: ran[i]]))
    return served


def shared(stories: list[Story], served: Served) -> list[Fraction]:
    """When each call would be done if all shared the worker equally, found by stepping from event to event.

    A call that is cancelled shares until it has received as much as in the other world, or leaves at once.
    """
    now = Fraction(0)
    wanted = [Fraction(story.size) for story in stories]
    got = [Fraction(0)] * len(stories)
    done: dict[int, Fraction] = {}
    while len(done) < len(stories):
        for i, (when, received) in served.left.items():
            if when <= now:
                wanted[i] = max(got[i], min(wanted[i], received)) if i not in done else wanted[i]
        here = [i for i in range(len(stories)) if i not in done and served.joined[i] <= now]
        for i in [i for i in here if got[i] >= wanted[i]]:
            done[i] = now
            here.remove(i)
        events = [when for when in (*served.joined.values(), *(w for w, _ in served.left.values())) if when > now]
        if here:
            events.append(now + min(wanted[i] - got[i] for i in here) * len(here))
        if events:
            for i in here:
                got[i] += (min(events) - now) / len(here)
            now = min(events)
    return [done[i] for i in range(len(stories))]


def stories(most: int = 9) -> st.SearchStrategy[list[Story]]:
    units = st.lists(st.integers(1, 9), min_size=1, max_size=8)
    return st.lists(
        st.builds(Story, st.integers(0, 60), units, st.one_of(st.none(), st.integers(1, 5))), min_size=1, max_size=most
    )


@settings(max_examples=300)
@given(stories())
def test_no_call_is_done_later_than_if_all_shared_three_quarters_of_the_worker(calls: list[Story]) -> None:
    served = serve(calls)
    equally = shared(calls, served)
    largest = max(size for story in calls for size in story.units)
    for i, when in served.done.items():
        began = max(idle for idle in served.idle if idle <= served.joined[i])
        assert when - began <= (equally[i] - began) * Fraction(4, 3) + largest


@settings(max_examples=300)
@given(stories())
def test_every_call_is_done_by_four_times_the_work_of_itself_and_of_those_before_it(calls: list[Story]) -> None:
    served = serve(calls)
    largest = max(size for story in calls for size in story.units)
    order = list(served.joined)
    for i, when in served.done.items():
        before = sum(calls[j].size for j in order[: order.index(i) + 1])
        assert when - served.joined[i] <= 4 * (before + largest)


def test_a_large_call_is_not_starved_by_small_ones_that_come_back_at_once() -> None:
    line: FairQueue[str] = FairQueue()
    line.join("large", [(Fraction(1), None)] * 400)
    line.join("small 0", [(Fraction(1), None)] * 4)
    line.join("small 1", [(Fraction(1), None)] * 4)
    units = {"small 0": 4, "small 1": 4, "large": 400}
    for taken in range(1, 10_000):  # noqa: B007
        call, _ = line.take()
        units[call] -= 1
        if units[call] == 0 and call == "large":
            break
        if units[call] == 0:
            units[call] = 4
            line.join(call, [(Fraction(1), None)] * 4)
    assert taken <= 4 * 400


@settings(max_examples=100)
@given(st.lists(st.integers(0, 30), min_size=1, max_size=12), st.lists(st.integers(1, 9), min_size=1, max_size=5))
def test_equal_calls_are_served_one_after_the_other_as_they_came(comes: list[int], units: list[int]) -> None:
    served = serve([Story(when, units) for when in comes])
    assert served.order == [i for i in served.joined for _ in units]


def test_a_small_call_overtakes_a_large_one_that_has_begun() -> None:
    served = serve([Story(0, [1] * 50), Story(3, [1, 1])])
    assert served.order[:6] == [0, 0, 0, 1, 1, 0]


def test_a_call_that_has_waited_long_is_not_overtaken_any_more() -> None:
    calls = [Story(0, [4] * 5), *(Story(when, [4]) for when in range(0, 200, 5))]
    assert serve(calls).done[0] <= 80


def test_what_a_cancelled_call_leaves_undone_slows_nobody() -> None:
    line: FairQueue[str] = FairQueue()
    line.join("stays", [(Fraction(1), None)] * 4)
    line.join("leaves", [(Fraction(5), None)] * 2)
    line.take()
    line.drop("leaves")
    line.take()
    line.join("comes", [(Fraction(11, 4), None)])  # due after 1/2 + 1 + 11/4, the one that stays after 4
    assert [line.take()[0] for _ in range(3)] == ["stays", "stays", "comes"]


def everything(line: FairQueue[int]) -> Iterator[tuple[int, int]]:
    while line:
        yield line.take()


@given(st.lists(st.lists(st.floats(0.1, 1e9), min_size=1, max_size=9), max_size=9))
def test_every_unit_is_taken_once_and_in_its_calls_order_whatever_the_sizes(calls: list[list[float]]) -> None:
    line: FairQueue[int] = FairQueue()
    for i, sizes in enumerate(calls):
        line.join(i, [(size, unit) for unit, size in enumerate(sizes)])
    taken = list(everything(line))
    for i, sizes in enumerate(calls):
        assert [unit for call, unit in taken if call == i] == list(range(len(sizes)))
    assert len(taken) == sum(map(len, calls))


@given(
    st.lists(st.lists(st.tuples(st.integers(1, 9), st.sampled_from("abc")), min_size=1, max_size=6), max_size=6),
    st.integers(0, 20),
    st.sets(st.integers(0, 5)),
)
def test_units_of_one_kind_go_together_once_each_and_within_the_room(
    calls: list[list[tuple[int, str]]], enough: int, stops: set[int]
) -> None:
    line: FairQueue[int] = FairQueue(lambda unit: unit[1])
    for i, units in enumerate(calls):
        line.join(i, [(size, (size, kind)) for size, kind in units])
    ran: list[tuple[int, tuple[int, str]]] = []
    while line:
        call, unit = line.take()
        along = line.alike(unit, enough - unit[0])
        assert all(other[1] == unit[1] for _, other in along)
        assert not along or unit[0] + sum(other[0] for _, other in along) <= enough
        ran += [(call, unit), *along]
        if len(ran) > 3:
            for i in stops:
                line.drop(i)
    dropped = [(i, unit) for i, units in enumerate(calls) if i in stops for unit in units]
    kept = [(i, unit) for i, units in enumerate(calls) if i not in stops for unit in units]
    assert sorted(each for each in ran if each[0] not in stops) == sorted(kept)
    assert all(ran.count(each) <= dropped.count(each) for each in ran if each[0] in stops)
    assert not line._of_kind


def test_units_without_a_kind_go_alone() -> None:
    line: FairQueue[str] = FairQueue()
    line.join("a", [(1, "x")])
    line.join("b", [(1, "x")])
    _, unit = line.take()
    assert line.alike(unit, 100) == []
    assert line.take() == ("b", "x")
