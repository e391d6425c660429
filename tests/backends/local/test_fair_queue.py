"""The laws of the fair queue, with one worker and exact numbers."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from rag_rerank.backends.local.fair_queue import FairQueue


class Arrival(NamedTuple):
    """A call: when it comes, the sizes of its batches, and after how many of them it is cancelled."""

    at: int
    batches: list[int]
    cancel_after: int | None = None

    @property
    def size(self) -> int:
        return sum(self.batches)


class Service(NamedTuple):
    """How the calls were served: when each joined, in which order batches ran, when calls were done or cancelled."""

    join_times: dict[int, Fraction]
    order: list[int]
    done: dict[int, Fraction]
    cancelled: dict[int, tuple[Fraction, Fraction]]  # when, and how much it had received
    idle: list[Fraction]  # when the queue was empty before


def serve(calls: list[Arrival]) -> Service:
    """Serve calls from a fair queue with one worker, which accepts new calls after each batch."""
    queue: FairQueue[int] = FairQueue()
    now = Fraction(0)
    service = Service({}, [], {}, {}, [])
    ran = [0] * len(calls)
    arriving = deque(sorted(range(len(calls)), key=lambda i: calls[i].at))
    while arriving or queue:
        if not queue:
            now = max(now, Fraction(calls[arriving[0]].at))
            service.idle.append(now)
        while arriving and calls[arriving[0]].at <= now:
            i = arriving.popleft()
            service.join_times[i] = now
            queue.join(i, [(Fraction(size), size) for size in calls[i].batches])
        i, size = queue.take()
        now += size
        ran[i] += 1
        service.order.append(i)
        if ran[i] == len(calls[i].batches):
            service.done[i] = now
        elif ran[i] == calls[i].cancel_after:
            queue.drop(i)
            service.cancelled[i] = now, Fraction(sum(calls[i].batches[: ran[i]]))
    return service


def shared(calls: list[Arrival], service: Service) -> list[Fraction]:
    """Return when each call would be done if all shared the worker equally, by stepping from event to event.

    A call that is cancelled shares until it has received as much as the fair queue gave it, or leaves at once.
    """
    now = Fraction(0)
    due = [Fraction(call.size) for call in calls]
    got = [Fraction(0)] * len(calls)
    done: dict[int, Fraction] = {}
    while len(done) < len(calls):
        for i, (when, received) in service.cancelled.items():
            if when <= now:
                due[i] = max(got[i], min(due[i], received)) if i not in done else due[i]
        here = [i for i in range(len(calls)) if i not in done and service.join_times[i] <= now]
        for i in [i for i in here if got[i] >= due[i]]:
            done[i] = now
            here.remove(i)
        events = [
            when for when in (*service.join_times.values(), *(w for w, _ in service.cancelled.values())) if when > now
        ]
        if here:
            events.append(now + min(due[i] - got[i] for i in here) * len(here))
        if events:
            for i in here:
                got[i] += (min(events) - now) / len(here)
            now = min(events)
    return [done[i] for i in range(len(calls))]


def arrivals(most: int = 9) -> st.SearchStrategy[list[Arrival]]:
    batches = st.lists(st.integers(1, 9), min_size=1, max_size=8)
    return st.lists(
        st.builds(Arrival, st.integers(0, 60), batches, st.one_of(st.none(), st.integers(1, 5))),
        min_size=1,
        max_size=most,
    )


@settings(max_examples=300)
@given(arrivals())
def test_no_call_is_done_later_than_if_all_shared_three_quarters_of_the_worker(calls: list[Arrival]) -> None:
    service = serve(calls)
    equally = shared(calls, service)
    largest = max(size for call in calls for size in call.batches)
    for i, when in service.done.items():
        began = max(idle for idle in service.idle if idle <= service.join_times[i])
        assert when - began <= (equally[i] - began) * Fraction(4, 3) + largest


@settings(max_examples=300)
@given(arrivals())
def test_every_call_is_done_by_four_times_the_work_of_itself_and_of_those_before_it(calls: list[Arrival]) -> None:
    service = serve(calls)
    largest = max(size for call in calls for size in call.batches)
    order = list(service.join_times)
    for i, when in service.done.items():
        before = sum(calls[j].size for j in order[: order.index(i) + 1])
        assert when - service.join_times[i] <= 4 * (before + largest)


def test_a_large_call_is_not_starved_by_small_ones_that_come_back_at_once() -> None:
    queue: FairQueue[str] = FairQueue()
    queue.join("large", [(Fraction(1), None)] * 400)
    queue.join("small 0", [(Fraction(1), None)] * 4)
    queue.join("small 1", [(Fraction(1), None)] * 4)
    batches = {"small 0": 4, "small 1": 4, "large": 400}
    for count in range(1, 10_000):  # noqa: B007
        call, _ = queue.take()
        batches[call] -= 1
        if batches[call] == 0 and call == "large":
            break
        if batches[call] == 0:
            batches[call] = 4
            queue.join(call, [(Fraction(1), None)] * 4)
    assert count <= 4 * 400


@settings(max_examples=100)
@given(st.lists(st.integers(0, 30), min_size=1, max_size=12), st.lists(st.integers(1, 9), min_size=1, max_size=5))
def test_equal_calls_are_served_one_after_the_other_as_they_came(comes: list[int], batches: list[int]) -> None:
    service = serve([Arrival(when, batches) for when in comes])
    assert service.order == [i for i in service.join_times for _ in batches]


def test_a_small_call_overtakes_a_large_one_that_has_begun() -> None:
    service = serve([Arrival(0, [1] * 50), Arrival(3, [1, 1])])
    assert service.order[:6] == [0, 0, 0, 1, 1, 0]


def test_a_call_that_has_waited_long_is_not_overtaken_any_more() -> None:
    calls = [Arrival(0, [4] * 5), *(Arrival(when, [4]) for when in range(0, 200, 5))]
    assert serve(calls).done[0] <= 80


def test_what_a_cancelled_call_leaves_undone_slows_nobody() -> None:
    queue: FairQueue[str] = FairQueue()
    queue.join("stays", [(Fraction(1), None)] * 4)
    queue.join("leaves", [(Fraction(5), None)] * 2)
    queue.take()
    queue.drop("leaves")
    queue.take()
    queue.join("comes", [(Fraction(11, 4), None)])  # due after 1/2 + 1 + 11/4, the one that stays after 4
    assert [queue.take()[0] for _ in range(3)] == ["stays", "stays", "comes"]


def everything(queue: FairQueue[int]) -> Iterator[tuple[int, int]]:
    while queue:
        yield queue.take()


@given(st.lists(st.lists(st.floats(0.1, 1e9), min_size=1, max_size=9), max_size=9))
def test_every_unit_is_taken_once_and_in_its_calls_order_whatever_the_sizes(calls: list[list[float]]) -> None:
    queue: FairQueue[int] = FairQueue()
    for i, sizes in enumerate(calls):
        queue.join(i, [(size, batch) for batch, size in enumerate(sizes)])
    pairs = list(everything(queue))
    for i, sizes in enumerate(calls):
        assert [batch for call, batch in pairs if call == i] == list(range(len(sizes)))
    assert len(pairs) == sum(map(len, calls))


@given(
    st.lists(st.lists(st.tuples(st.integers(1, 9), st.sampled_from("abc")), min_size=1, max_size=6), max_size=6),
    st.integers(0, 20),
    st.sets(st.integers(0, 5)),
)
def test_units_of_one_kind_go_together_once_each_and_within_the_room(
    calls: list[list[tuple[int, str]]], target: int, stops: set[int]
) -> None:
    queue: FairQueue[int] = FairQueue(lambda batch: batch[1])
    for i, batches in enumerate(calls):
        queue.join(i, [(size, (size, kind)) for size, kind in batches])
    ran: list[tuple[int, tuple[int, str]]] = []
    while queue:
        call, batch = queue.take()
        along = queue.take_compatible(batch, target - batch[0])
        assert all(other[1] == batch[1] for _, other in along)
        assert not along or batch[0] + sum(other[0] for _, other in along) <= target
        ran += [(call, batch), *along]
        if len(ran) > 3:
            for i in stops:
                queue.drop(i)
    dropped = [(i, batch) for i, batches in enumerate(calls) if i in stops for batch in batches]
    remaining = [(i, batch) for i, batches in enumerate(calls) if i not in stops for batch in batches]
    assert sorted(each for each in ran if each[0] not in stops) == sorted(remaining)
    assert all(ran.count(each) <= dropped.count(each) for each in ran if each[0] in stops)
    assert not any(queue.take_compatible((0, group), 1_000) for group in "abc")


def test_units_without_a_kind_go_alone() -> None:
    queue: FairQueue[str] = FairQueue()
    queue.join("a", [(1, "x")])
    queue.join("b", [(1, "x")])
    _, batch = queue.take()
    assert queue.take_compatible(batch, 100) == []
    assert queue.take() == ("b", "x")
