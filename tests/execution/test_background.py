"""The background queue: bounded, in order, on one thread, and nothing that was accepted is lost by accident."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

import pytest
from support.virtual_clock import VirtualClock

from rag_rerank.execution import background, clock
from rag_rerank.execution.background import BackgroundQueue, QueueCounts


class Work:
    """Processes numbers: logs them, and waits at a gate."""

    def __init__(self, *, open: bool = True) -> None:
        self.batches: list[list[int]] = []
        self.threads: set[int] = set()
        self.started = threading.Semaphore(0)
        self.gate = threading.Semaphore(1000 if open else 0)

    def __call__(self, items: list[int]) -> None:
        self.started.release()
        assert self.gate.acquire(timeout=30)
        self.batches.append(items)
        self.threads.add(threading.get_ident())

    @property
    def items(self) -> list[int]:
        return [item for batch in self.batches for item in batch]


@pytest.fixture
def blocked() -> Iterator[Work]:
    work = Work(open=False)
    yield work
    work.gate.release(1000)


def no_thread(work: Callable[[], Any]) -> Any:
    raise RuntimeError("can't start new thread")


def never_run(work: Callable[[], Any]) -> Future[Any]:
    return Future()


def test_items_are_processed_in_order_on_another_thread() -> None:
    work = Work()
    queue = BackgroundQueue(work, max_waiting=100)
    assert all(queue.offer(item) for item in range(50))
    queue.drop()
    queue.flush()
    assert work.items == list(range(len(work.items)))
    assert len(work.items) + queue.counts.drops == 50
    assert work.items and threading.get_ident() not in work.threads


@pytest.mark.parametrize("max_waiting", [0, 3])
def test_items_beyond_the_bound_are_refused_and_counted(blocked: Work, max_waiting: int) -> None:
    queue = BackgroundQueue(blocked, max_waiting=max_waiting)
    answers = [queue.offer(item) for item in range(max_waiting + 3)]
    assert answers == [True] * (max_waiting + 1) + [False] * 2
    assert queue.counts == QueueCounts(refusals=2)
    blocked.gate.release(1000)
    queue.flush()
    assert blocked.items == list(range(max_waiting + 1))


def test_several_items_go_in_one_batch(blocked: Work) -> None:
    queue = BackgroundQueue(blocked, max_waiting=100, batch=4)
    queue.offer(0)
    assert blocked.started.acquire(timeout=30)
    for item in range(1, 10):
        queue.offer(item)
    blocked.gate.release(1000)
    queue.flush()
    assert blocked.batches == [[0], [1, 2, 3, 4], [5, 6, 7, 8], [9]]


def test_drop_waits_for_what_runs_and_drops_the_rest(blocked: Work) -> None:
    queue = BackgroundQueue(blocked, max_waiting=100)
    for item in range(4):
        queue.offer(item)
    assert blocked.started.acquire(timeout=30)
    blocked.gate.release()
    queue.drop()
    assert blocked.items == [0] and queue.counts == QueueCounts(drops=3)
    blocked.gate.release()
    assert queue.offer(9)
    queue.flush()
    assert blocked.items == [0, 9]


def test_the_first_item_counts_as_running_before_its_thread_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    work = Work()
    with monkeypatch.context() as patched:
        patched.setattr(background, "start_thread", never_run)
        patched.setattr(background, "wait_for_any", lambda futures: None)
        queue = BackgroundQueue(work, max_waiting=100)
        for item in range(3):
            queue.offer(item)
        queue.drop()
    queue.flush()
    assert work.items == [0] and queue.counts == QueueCounts(drops=2)


def test_the_work_itself_may_drop_what_waits() -> None:
    done = threading.Event()
    queue: BackgroundQueue[int]

    def work(items: list[int]) -> None:
        queue.drop()  # does not wait for itself
        done.set()

    queue = BackgroundQueue(work, max_waiting=1)
    queue.offer(1)
    assert done.wait(30)


def test_without_a_thread_an_item_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    work = Work()
    queue = BackgroundQueue(work, max_waiting=5)
    with monkeypatch.context() as patched:
        patched.setattr(background, "start_thread", no_thread)
        assert not queue.offer(1)
        assert queue.counts == QueueCounts(refusals=1)
    assert queue.offer(2)
    queue.flush()
    assert work.items == [2]


def test_without_a_thread_a_durable_queue_accepts_an_item_and_processes_it_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    work = Work()
    queue = BackgroundQueue(work, max_waiting=5, durable=True)
    with monkeypatch.context() as patched:
        patched.setattr(background, "start_thread", no_thread)
        assert queue.offer(1) and queue.offer(2)
    assert queue.offer(3)
    queue.flush()
    assert work.items == [1, 2, 3] and queue.counts == QueueCounts()


def test_calls_of_the_work_never_overlap_whoever_flushes() -> None:
    running = threading.Lock()
    items: list[int] = []

    def work(batch: list[int]) -> None:
        assert running.acquire(blocking=False)
        items.extend(batch)
        running.release()

    queue = BackgroundQueue(work, max_waiting=10_000, batch=3)

    def offer(start: int) -> None:
        for item in range(start, start + 200):
            assert queue.offer(item)
            if item % 7 == 0:
                queue.flush()

    threads = [threading.Thread(target=offer, args=(1000 * n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    queue.flush()
    assert sorted(items) == [1000 * n + i for n in range(4) for i in range(200)]


def test_it_waits_by_the_clock() -> None:
    done: list[float] = []

    def work(items: list[float]) -> None:
        clock.sleep(items[0])
        done.append(clock.now())

    with VirtualClock(seed=3).running():
        queue = BackgroundQueue(work, max_waiting=5)
        assert queue.offer(100.0) and queue.offer(50.0)
        clock.sleep(1.0)
        queue.drop()
        assert clock.now() == 100.0
    assert done == [100.0] and queue.counts == QueueCounts(drops=1)
