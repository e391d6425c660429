"""The worker pool: the fair order, the bound, and that no call is lost when others fail, are cancelled or closed."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
import time
import traceback
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Future
from queue import Full
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rag_rerank.backends.local.worker_pool import PoolStats, WorkerPool

SECONDS = 30.0
"""How long a test waits for an event at most; it is never waited out unless something is wrong."""


IDLE = PoolStats(waiting=0, running=0, busy_workers=0)


class Piece(NamedTuple):
    """A batch of `Steps`."""

    size: int
    number: int
    group: str | None = None


class Steps:
    """A task with batches of the sizes given; each calls ``act`` with its number, and is logged as (name, number).

    ``act`` is also called with -1 when the task is split, and with the number of batches when it is finished.
    """

    def __init__(
        self,
        name: str,
        sizes: Sequence[int] = (1,),
        log: list[tuple[str, int]] | None = None,
        act: Callable[[int], object] = lambda batch: None,
        groups: Sequence[str | None] = (),
    ) -> None:
        self.name = name
        self.groups = groups or [None] * len(sizes)
        self.sizes = sizes
        self.log = [] if log is None else log
        self.act = act

    def split(self) -> list[Piece]:
        self.act(-1)
        return [Piece(size, i, group) for i, (size, group) in enumerate(zip(self.sizes, self.groups, strict=True))]

    def finish(self, results: Sequence[tuple[Piece, str]], seconds: float, waited: float) -> tuple[str, float]:
        assert sorted(result for _, result in results) == sorted(f"{self.name}{i}" for i in range(len(self.sizes)))
        assert all(result == f"{self.name}{piece.number}" for piece, result in results)
        self.act(len(self.sizes))
        return self.name, waited


def run(pairs: Sequence[tuple[Steps, Piece]]) -> list[str]:
    """Run pieces, and return the name of each as its result."""
    for task, piece in pairs:
        task.log.append((task.name, piece.number))
        task.act(piece.number)
    return [f"{task.name}{piece.number}" for task, piece in pairs]


def new_pool(workers: int = 1, limit: int = 64, target_tokens: int = 0) -> WorkerPool:
    return WorkerPool(run, workers=workers, limit=limit, target_tokens=target_tokens)


class Gate(Steps):
    """A call of one batch that waits until its event ``opened`` is set."""

    def __init__(self, log: list[tuple[str, int]] | None = None) -> None:
        super().__init__("gate", log=log, act=self._wait)
        self.reached = threading.Event()
        self.opened = threading.Event()

    def _wait(self, batch: int) -> None:
        if batch == 0:
            self.reached.set()
            assert self.opened.wait(SECONDS)


@pytest.fixture
def pool() -> Iterator[WorkerPool]:
    pool = new_pool()
    yield pool
    pool.close()


def occupied(pool: WorkerPool, log: list[tuple[str, int]] | None = None) -> Gate:
    """Keep a worker busy, so that the next calls wait."""
    gate = Gate(log)
    pool.submit(gate)
    assert gate.reached.wait(SECONDS)
    return gate


def new_threads(before: Sequence[threading.Thread]) -> list[threading.Thread]:
    """Return the threads of pools that have been started since."""
    return [each for each in threading.enumerate() if each not in before and each.name.startswith("rag_rerank")]


def test_equal_calls_are_served_in_the_order_in_which_they_came(pool: WorkerPool) -> None:
    log: list[tuple[str, int]] = []
    gate = occupied(pool)
    answers = [pool.submit(Steps(name, [2, 2], log)) for name in "abcd"]
    gate.opened.set()
    assert [answer.result(SECONDS)[0] for answer in answers] == list("abcd")
    assert log == [(name, batch) for name in "abcd" for batch in (0, 1)]


def test_a_small_call_overtakes_a_large_one_that_has_begun(pool: WorkerPool) -> None:
    log: list[tuple[str, int]] = []
    small: list[Future[object]] = []

    def comes(batch: int) -> None:
        if batch == 2:
            small.append(pool.submit(Steps("small", [1, 1], log)))

    pool.submit(Steps("large", [1] * 50, log, comes)).result(SECONDS)
    assert log[:6] == [("large", 0), ("large", 1), ("large", 2), ("small", 0), ("small", 1), ("large", 3)]
    assert len(log) == 52


def test_a_small_batch_runs_with_compatible_ones_up_to_the_target_size() -> None:
    log: list[tuple[str, int]] = []
    together: list[list[str]] = []

    def run_and_note(pairs: Sequence[tuple[Steps, Piece]]) -> list[str]:
        together.append(run(pairs))
        return together[-1]

    pool = WorkerPool(run_and_note, workers=1, limit=64, target_tokens=5)
    gate = occupied(pool)
    calls = [
        Steps("a", [2, 6], log, groups=["short", "long"]),
        Steps("b", [2, 2], log, groups=["short", "other"]),
        Steps("c", [2, 6], log, groups=["short", "long"]),
        Steps("d", [1, 1], log, groups=["short", None]),
    ]
    answers = [pool.submit(call) for call in calls]
    gate.opened.set()
    assert [answer.result(SECONDS)[0] for answer in answers] == list("abcd")
    pool.close()
    assert [names for names in together if len(names) > 1] == [["d0", "a0", "b0"]]  # d, the smallest call, goes first
    assert sorted(log) == sorted((name, number) for name in "abcd" for number in (0, 1))


def test_an_error_in_batches_that_ran_together_reaches_its_own_call_only() -> None:
    pool, log = new_pool(target_tokens=10), []

    def breaks(batch: int) -> None:
        if batch == 0:
            raise ValueError("of b")

    gate = occupied(pool)
    answers = [
        pool.submit(Steps("a", [1], log, groups=["k"])),
        pool.submit(Steps("b", [1], log, breaks, groups=["k"])),
        pool.submit(Steps("c", [1], log, groups=["k"])),
    ]
    gate.opened.set()
    assert answers[0].result(SECONDS)[0] == "a" and answers[2].result(SECONDS)[0] == "c"
    with pytest.raises(ValueError, match="of b"):
        answers[1].result(SECONDS)
    pool.close()


def test_workers_share_one_call() -> None:
    together = threading.Barrier(3, timeout=SECONDS)
    pool = new_pool(workers=3, limit=1)
    pool.submit(Steps("call", [1, 1, 1], act=lambda batch: batch in range(3) and together.wait())).result(SECONDS)
    pool.close()


@pytest.mark.parametrize("workers", [1, 3])
def test_no_more_batches_run_side_by_side_than_there_are_workers(workers: int) -> None:
    pool, running, most, lock = new_pool(workers), [0], [0], threading.Lock()

    def work(batch: int) -> None:
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        time.sleep(0)
        with lock:
            running[0] -= 1

    answers = [pool.submit(Steps(str(i), [1] * 20, act=work)) for i in range(30)]
    assert [answer.result(SECONDS)[0] for answer in answers] == [str(i) for i in range(30)]
    assert most[0] <= workers
    pool.close()


def test_one_call_too_many_is_refused_and_each_way_to_end_frees_a_place() -> None:
    pool = new_pool(limit=3)
    gate = occupied(pool)
    fails = pool.submit(Steps("fails", act=lambda batch: 1 / 0))
    stops = pool.submit(Steps("stops"))
    with pytest.raises(Full):
        pool.submit(Steps("too many"))
    assert stops.cancel()
    again = pool.submit(Steps("again"))
    with pytest.raises(Full):
        pool.submit(Steps("too many"))
    gate.opened.set()
    assert again.result(SECONDS)[0] == "again"
    with pytest.raises(ZeroDivisionError):
        fails.result(SECONDS)
    full = [pool.submit(gate) for gate in (Gate(), Gate(), Gate())]
    with pytest.raises(Full):
        pool.submit(Steps("too many"))
    for answer in full[1:]:
        answer.cancel()
    assert pool.submit(Steps("again")).cancel()
    full[0].cancel()
    assert pool.stats.calls == 0


def test_the_stats_count_waiting_and_running_calls_and_busy_workers() -> None:
    pool = new_pool()
    assert pool.stats == IDLE
    gate = occupied(pool)
    waiting = [pool.submit(Steps(name, [1, 1])) for name in "ab"]
    assert pool.stats == PoolStats(waiting=2, running=1, busy_workers=1)
    assert waiting[0].cancel()
    assert pool.stats == PoolStats(waiting=1, running=1, busy_workers=1) and pool.stats.calls == 2
    gate.opened.set()
    pool.close()
    assert pool.stats == IDLE


@pytest.mark.parametrize("moment", [-1, 0, 2])
def test_a_cancelled_call_does_nothing_more_and_the_next_one_runs(pool: WorkerPool, moment: int) -> None:
    log: list[tuple[str, int]] = []
    reached, opened = threading.Event(), threading.Event()

    def work(batch: int) -> None:
        if batch == moment:
            reached.set()
            assert opened.wait(SECONDS)

    stops = pool.submit(Steps("stops", [1] * 5, log, work))
    after = pool.submit(Steps("after", [1] * 50, log))
    assert reached.wait(SECONDS)
    assert stops.cancel() and stops.cancelled()
    opened.set()
    assert after.result(SECONDS)[0] == "after"
    assert [step for step in log if step[0] == "stops"] == [("stops", batch) for batch in range(moment + 1)]
    assert pool.stats.calls == 0


def test_a_call_cancelled_while_it_waits_is_not_even_prepared(pool: WorkerPool) -> None:
    prepared: list[int] = []
    gate = occupied(pool)
    stops = pool.submit(Steps("stops", act=prepared.append))
    assert stops.cancel()
    after = pool.submit(Steps("after"))
    gate.opened.set()
    after.result(SECONDS)
    assert prepared == []


@pytest.mark.parametrize("moment", [-1, 1, 4])
def test_an_error_ends_its_own_call_only_and_tells_where_it_was(pool: WorkerPool, moment: int) -> None:
    log: list[tuple[str, int]] = []

    def breaks(batch: int) -> None:
        if batch == moment:
            raise LookupError("broken")

    gate = occupied(pool)
    before, failing, after = (
        pool.submit(Steps(name, [1] * 4, log, do))
        for name, do in (("before", lambda batch: None), ("broken", breaks), ("after", lambda batch: None))
    )
    gate.opened.set()
    with pytest.raises(LookupError, match="broken") as caught:
        failing.result(SECONDS)
    assert "breaks" in [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert (before.result(SECONDS)[0], after.result(SECONDS)[0]) == ("before", "after")
    assert [batch for name, batch in log if name == "broken"] == list(range(min(moment + 1, 4)))


def test_a_call_that_fails_on_two_workers_fails_once() -> None:
    pool, together = new_pool(workers=2, limit=1), threading.Barrier(2, timeout=SECONDS)

    def breaks(batch: int) -> None:
        if batch >= 0:
            together.wait()
            raise LookupError(batch)

    with pytest.raises(LookupError):
        pool.submit(Steps("broken", [1, 1], act=breaks)).result(SECONDS)
    assert pool.submit(Steps("next")).result(SECONDS)[0] == "next"
    pool.close()


def test_an_error_keeps_nothing_alive_once_it_is_gone(pool: WorkerPool) -> None:
    def breaks(batch: int) -> None:
        raise LookupError

    task = Steps("broken", act=breaks)
    reference = weakref.ref(task)
    gc.disable()
    try:
        answer = pool.submit(task)
        with pytest.raises(LookupError):
            answer.result(SECONDS)
        del task, answer
        pool.submit(Steps("next")).result(SECONDS)  # the worker has let go of the one before
        assert reference() is None
    finally:
        gc.enable()


def test_time_spent_waiting_for_others_is_reported_and_0_without_others(pool: WorkerPool) -> None:
    assert pool.submit(Steps("alone")).result(SECONDS)[1] == 0.0
    gate = occupied(pool)
    later = pool.submit(Steps("later"))
    gate.opened.set()
    assert later.result(SECONDS)[1] > 0.0


def test_a_call_overtaken_after_it_came_has_waited_for_others(pool: WorkerPool) -> None:
    small: list[Future[tuple[str, float]]] = []

    def overtaken(batch: int) -> None:
        if batch == -1:
            small.append(pool.submit(Steps("small", [1])))

    assert pool.submit(Steps("large", [9], act=overtaken)).result(SECONDS)[1] > 0.0


async def test_a_cancelled_task_frees_its_place() -> None:
    pool = new_pool(limit=2)
    gate = occupied(pool)
    log: list[tuple[str, int]] = []

    async def call() -> None:
        await asyncio.wrap_future(pool.submit(Steps("stops", log=log)))

    waiting = asyncio.create_task(call())
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    after = asyncio.wrap_future(pool.submit(Steps("after", log=log)))
    gate.opened.set()
    assert (await after)[0] == "after"
    assert log == [("after", 0)]
    pool.close()


def test_closing_answers_what_was_accepted_and_leaves_no_thread() -> None:
    before = threading.enumerate()
    pool = new_pool(workers=2, limit=9)
    gate = occupied(pool)
    answers = [pool.submit(Steps(str(i), [1, 1])) for i in range(5)]
    threads = new_threads(before)
    assert threads
    closing = threading.Thread(target=pool.close)
    closing.start()
    gate.opened.set()
    closing.join(SECONDS)
    assert [answer.result(0)[0] for answer in answers] == list("01234")
    assert not any(thread.is_alive() for thread in threads)


def test_a_call_that_meets_the_closing_is_answered() -> None:
    pool = new_pool(limit=9)
    pool.close()
    running: list[threading.Thread] = []
    answer = pool.submit(Steps("late", act=lambda batch: running.append(threading.current_thread())))
    assert answer.result(SECONDS)[0] == "late"
    running[0].join(SECONDS)
    assert not running[0].is_alive()


def test_a_pool_that_is_dropped_ends_its_threads() -> None:
    before = threading.enumerate()
    pool = new_pool(workers=2, limit=9)
    pool.submit(Steps("call", [1] * 4)).result(SECONDS)
    threads = new_threads(before)
    assert threads
    reference = weakref.ref(pool)
    del pool
    for thread in threads:
        thread.join(SECONDS)
        assert not thread.is_alive()
    assert reference() is None


LATE = """
import sys, threading, time
from types import SimpleNamespace
from rag_rerank.backends.local.worker_pool import PoolStats, WorkerPool

class Task:
    def __init__(self, name): self.name = name
    def split(self): return [SimpleNamespace(size=1, group=None)] * 3
    def finish(self, results, seconds, waited): print(self.name, flush=True)

def run(pairs):
    time.sleep(0.01)
    return pairs

pool = WorkerPool(run, workers=1, limit=64)
def call(name):
    pool.submit(Task(name)).result()
    pool.submit(Task(name + " again")).result()

for i in range(4):
    threading.Thread(target=call, args=(f"call {i}",), daemon=DAEMON).start()
while pool.stats.calls < 4: time.sleep(0.001)
"""


@pytest.mark.parametrize("daemon", [True, False])
def test_the_interpreter_ends_while_calls_wait(daemon: bool) -> None:
    script = LATE.replace("DAEMON", str(daemon))
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=SECONDS)
    assert run.returncode == 0 and run.stderr == ""
    answer_names = set(run.stdout.splitlines())
    assert answer_names >= {f"call {i}" for i in range(4)}
    if not daemon:
        assert answer_names >= {f"call {i} again" for i in range(4)}


@settings(max_examples=20)
@given(
    st.integers(1, 3),
    st.lists(st.tuples(st.lists(st.integers(1, 5), max_size=5), st.sampled_from(["", "cancel", "fail"])), max_size=25),
)
def test_every_call_gets_its_own_answer_whatever_happens_to_the_others(
    workers: int, calls: list[tuple[list[int], str]]
) -> None:
    def breaks(batch: int) -> None:
        raise LookupError

    pool = new_pool(workers, limit=25)
    answers = [
        pool.submit(Steps(str(i), sizes, act=breaks if fate == "fail" else lambda batch: None))
        for i, (sizes, fate) in enumerate(calls)
    ]
    for answer, (_, fate) in zip(answers, calls, strict=True):
        if fate == "cancel":
            answer.cancel()
    for i, (answer, (_, fate)) in enumerate(zip(answers, calls, strict=True)):
        try:
            assert answer.result(SECONDS)[0] == str(i) and fate != "fail"
        except LookupError:
            assert fate == "fail"
        except CancelledError:
            assert fate == "cancel"
    pool.close()
    assert pool.stats == IDLE
