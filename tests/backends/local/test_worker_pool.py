"""Who is served next: the fair order, the bound, and that nothing is lost when calls fail, stop or are closed."""

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

from rag_rerank.backends.local.worker_pool import WorkerPool

SECONDS = 30.0
"""How long a test waits for what must come; it is never waited out unless something is wrong."""


class Piece(NamedTuple):
    """A unit of `Steps`."""

    size: int
    number: int
    kind: str | None = None


class Steps:
    """A task whose units do what they are told, in sizes that are told; every step is logged as (name, number)."""

    def __init__(
        self,
        name: str,
        sizes: Sequence[int] = (1,),
        log: list[tuple[str, int]] | None = None,
        do: Callable[[int], object] = lambda unit: None,
        kinds: Sequence[str | None] = (),
    ) -> None:
        self.name = name
        self.kinds = kinds or [None] * len(sizes)
        self.sizes = sizes
        self.log = [] if log is None else log
        self.act = do

    def units(self) -> list[Piece]:
        self.act(-1)
        return [Piece(size, i, kind) for i, (size, kind) in enumerate(zip(self.sizes, self.kinds, strict=True))]

    def do(self, unit: Piece, others: Sequence[tuple[Steps, Piece]]) -> None:
        for task, piece in [(self, unit), *others]:
            task.log.append((task.name, piece.number))
            task.act(piece.number)

    def result(self, seconds: float, waited: float) -> tuple[str, float]:
        self.act(len(self.sizes))
        return self.name, waited


class Gate(Steps):
    """A call of one unit that waits until it is let go."""

    def __init__(self, log: list[tuple[str, int]] | None = None) -> None:
        super().__init__("gate", log=log, do=self._pass)
        self.reached = threading.Event()
        self.opened = threading.Event()

    def _pass(self, unit: int) -> None:
        if unit == 0:
            self.reached.set()
            assert self.opened.wait(SECONDS)


@pytest.fixture
def crew() -> Iterator[WorkerPool]:
    crew = WorkerPool(workers=1, limit=64)
    yield crew
    crew.close()


def held(crew: WorkerPool, log: list[tuple[str, int]] | None = None) -> Gate:
    """Keep a worker busy, so that what is submitted next waits."""
    gate = Gate(log)
    crew.submit(gate)
    assert gate.reached.wait(SECONDS)
    return gate


def threads_of(crew: WorkerPool) -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread in crew._pool._threads]


def test_equal_calls_are_served_in_the_order_in_which_they_came(crew: WorkerPool) -> None:
    log: list[tuple[str, int]] = []
    gate = held(crew)
    answers = [crew.submit(Steps(name, [2, 2], log)) for name in "abcd"]
    gate.opened.set()
    assert [answer.result(SECONDS)[0] for answer in answers] == list("abcd")
    assert log == [(name, unit) for name in "abcd" for unit in (0, 1)]


def test_a_small_call_overtakes_a_large_one_that_has_begun(crew: WorkerPool) -> None:
    log: list[tuple[str, int]] = []
    small: list[Future[object]] = []

    def comes(unit: int) -> None:
        if unit == 2:
            small.append(crew.submit(Steps("small", [1, 1], log)))

    crew.submit(Steps("large", [1] * 50, log, comes)).result(SECONDS)
    assert log[:6] == [("large", 0), ("large", 1), ("large", 2), ("small", 0), ("small", 1), ("large", 3)]
    assert len(log) == 52


def test_a_small_unit_takes_along_those_of_its_kind_up_to_what_is_enough() -> None:
    crew, log = WorkerPool(workers=1, limit=64, enough=5), []
    together: list[list[str]] = []

    class Joined(Steps):
        def do(self, unit: Piece, others: Sequence[tuple[Steps, Piece]]) -> None:
            together.append([f"{task.name}{piece.number}" for task, piece in [(self, unit), *others]])
            super().do(unit, others)

    gate = held(crew)
    calls = [
        Joined("a", [2, 6], log, kinds=["short", "long"]),
        Joined("b", [2, 2], log, kinds=["short", "other"]),
        Joined("c", [2, 6], log, kinds=["short", "long"]),
        Joined("d", [1, 1], log, kinds=["short", None]),
    ]
    answers = [crew.submit(call) for call in calls]
    gate.opened.set()
    assert [answer.result(SECONDS)[0] for answer in answers] == list("abcd")
    crew.close()
    assert [units for units in together if len(units) > 1] == [["d0", "a0", "b0"]]  # d, the smallest call, goes first
    assert sorted(log) == sorted((name, number) for name in "abcd" for number in (0, 1))


def test_an_error_in_units_that_ran_together_is_told_to_its_own_call() -> None:
    crew, log = WorkerPool(workers=1, limit=64, enough=10), []

    def breaks(unit: int) -> None:
        if unit == 0:
            raise ValueError("of b")

    gate = held(crew)
    answers = [
        crew.submit(Steps("a", [1], log, kinds=["k"])),
        crew.submit(Steps("b", [1], log, breaks, kinds=["k"])),
        crew.submit(Steps("c", [1], log, kinds=["k"])),
    ]
    gate.opened.set()
    assert answers[0].result(SECONDS)[0] == "a" and answers[2].result(SECONDS)[0] == "c"
    with pytest.raises(ValueError, match="of b"):
        answers[1].result(SECONDS)
    crew.close()


def test_workers_share_one_call() -> None:
    together = threading.Barrier(3, timeout=SECONDS)
    crew = WorkerPool(workers=3, limit=1)
    crew.submit(Steps("call", [1, 1, 1], do=lambda unit: unit in range(3) and together.wait())).result(SECONDS)
    crew.close()


@pytest.mark.parametrize("workers", [1, 3])
def test_no_more_units_run_side_by_side_than_there_are_workers(workers: int) -> None:
    crew, running, most, lock = WorkerPool(workers, 64), [0], [0], threading.Lock()

    def work(unit: int) -> None:
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        time.sleep(0)
        with lock:
            running[0] -= 1

    answers = [crew.submit(Steps(str(i), [1] * 20, do=work)) for i in range(30)]
    assert [answer.result(SECONDS)[0] for answer in answers] == [str(i) for i in range(30)]
    assert most[0] <= workers
    crew.close()


def test_one_call_too_many_is_refused_and_each_way_to_end_frees_a_place() -> None:
    crew = WorkerPool(workers=1, limit=3)
    gate = held(crew)
    fails = crew.submit(Steps("fails", do=lambda unit: 1 / 0))
    stops = crew.submit(Steps("stops"))
    with pytest.raises(Full):
        crew.submit(Steps("too many"))
    assert stops.cancel()
    again = crew.submit(Steps("again"))
    with pytest.raises(Full):
        crew.submit(Steps("too many"))
    gate.opened.set()
    assert again.result(SECONDS)[0] == "again"
    with pytest.raises(ZeroDivisionError):
        fails.result(SECONDS)
    full = [crew.submit(held_back) for held_back in (Gate(), Gate(), Gate())]
    with pytest.raises(Full):
        crew.submit(Steps("too many"))
    for answer in full[1:]:
        answer.cancel()
    assert crew.submit(Steps("again")).cancel()
    full[0].cancel()
    assert not crew._calls


@pytest.mark.parametrize("moment", [-1, 0, 2])
def test_a_cancelled_call_does_nothing_more_and_the_next_one_runs(crew: WorkerPool, moment: int) -> None:
    log: list[tuple[str, int]] = []
    reached, opened = threading.Event(), threading.Event()

    def work(unit: int) -> None:
        if unit == moment:
            reached.set()
            assert opened.wait(SECONDS)

    stops = crew.submit(Steps("stops", [1] * 5, log, work))
    after = crew.submit(Steps("after", [1] * 50, log))
    assert reached.wait(SECONDS)
    assert stops.cancel() and stops.cancelled()
    opened.set()
    assert after.result(SECONDS)[0] == "after"
    assert [step for step in log if step[0] == "stops"] == [("stops", unit) for unit in range(moment + 1)]
    assert not crew._line and not crew._new


def test_a_call_cancelled_while_it_waits_is_not_even_prepared(crew: WorkerPool) -> None:
    prepared: list[int] = []
    gate = held(crew)
    stops = crew.submit(Steps("stops", do=prepared.append))
    assert stops.cancel()
    after = crew.submit(Steps("after"))
    gate.opened.set()
    after.result(SECONDS)
    assert prepared == []


@pytest.mark.parametrize("moment", [-1, 1, 4])
def test_an_error_ends_its_own_call_only_and_tells_where_it_was(crew: WorkerPool, moment: int) -> None:
    log: list[tuple[str, int]] = []

    def breaks(unit: int) -> None:
        if unit == moment:
            raise LookupError("broken")

    gate = held(crew)
    before, broken, after = (
        crew.submit(Steps(name, [1] * 4, log, do))
        for name, do in (("before", lambda unit: None), ("broken", breaks), ("after", lambda unit: None))
    )
    gate.opened.set()
    with pytest.raises(LookupError, match="broken") as caught:
        broken.result(SECONDS)
    assert "breaks" in [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert (before.result(SECONDS)[0], after.result(SECONDS)[0]) == ("before", "after")
    assert [unit for name, unit in log if name == "broken"] == list(range(min(moment + 1, 4)))


def test_a_call_that_fails_on_two_workers_fails_once() -> None:
    crew, together = WorkerPool(workers=2, limit=1), threading.Barrier(2, timeout=SECONDS)

    def breaks(unit: int) -> None:
        if unit >= 0:
            together.wait()
            raise LookupError(unit)

    with pytest.raises(LookupError):
        crew.submit(Steps("broken", [1, 1], do=breaks)).result(SECONDS)
    assert crew.submit(Steps("next")).result(SECONDS)[0] == "next"
    crew.close()


def test_an_error_keeps_nothing_alive_once_it_is_gone(crew: WorkerPool) -> None:
    def breaks(unit: int) -> None:
        raise LookupError

    task = Steps("broken", do=breaks)
    gone = weakref.ref(task)
    gc.disable()
    try:
        answer = crew.submit(task)
        with pytest.raises(LookupError):
            answer.result(SECONDS)
        del task, answer
        crew.submit(Steps("next")).result(SECONDS)  # the worker has let go of the one before
        assert gone() is None
    finally:
        gc.enable()


def test_waiting_for_others_is_told_and_waiting_for_nobody_is_not(crew: WorkerPool) -> None:
    assert crew.submit(Steps("alone")).result(SECONDS)[1] == 0.0
    gate = held(crew)
    later = crew.submit(Steps("later"))
    gate.opened.set()
    assert later.result(SECONDS)[1] > 0.0


def test_a_call_overtaken_after_it_came_has_waited_for_others(crew: WorkerPool) -> None:
    small: list[Future[tuple[str, float]]] = []

    def overtaken(unit: int) -> None:
        if unit == -1:
            small.append(crew.submit(Steps("small", [1])))

    assert crew.submit(Steps("large", [9], do=overtaken)).result(SECONDS)[1] > 0.0


async def test_a_cancelled_task_frees_its_place() -> None:
    crew = WorkerPool(workers=1, limit=2)
    gate = held(crew)
    log: list[tuple[str, int]] = []

    async def call() -> None:
        await asyncio.wrap_future(crew.submit(Steps("stops", log=log)))

    waiting = asyncio.create_task(call())
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    after = asyncio.wrap_future(crew.submit(Steps("after", log=log)))
    gate.opened.set()
    assert (await after)[0] == "after"
    assert log == [("after", 0)]
    crew.close()


def test_closing_answers_what_was_accepted_and_leaves_no_thread() -> None:
    crew = WorkerPool(workers=2, limit=9)
    gate = held(crew)
    answers = [crew.submit(Steps(str(i), [1, 1])) for i in range(5)]
    threads = threads_of(crew)
    assert threads
    closing = threading.Thread(target=crew.close)
    closing.start()
    gate.opened.set()
    closing.join(SECONDS)
    assert [answer.result(0)[0] for answer in answers] == list("01234")
    assert not any(thread.is_alive() for thread in threads)


def test_a_call_that_meets_the_closing_is_answered() -> None:
    crew = WorkerPool(workers=1, limit=9)
    crew.close()
    running: list[threading.Thread] = []
    answer = crew.submit(Steps("late", do=lambda unit: running.append(threading.current_thread())))
    assert answer.result(SECONDS)[0] == "late"
    running[0].join(SECONDS)
    assert not running[0].is_alive()


def test_a_crew_that_is_dropped_ends_its_threads() -> None:
    crew = WorkerPool(workers=2, limit=9)
    crew.submit(Steps("call", [1] * 4)).result(SECONDS)
    threads = threads_of(crew)
    gone = weakref.ref(crew)
    del crew
    for thread in threads:
        thread.join(SECONDS)
        assert not thread.is_alive()
    assert gone() is None


LATE = """
import sys, threading, time
from types import SimpleNamespace
from rag_rerank.backends.local.worker_pool import WorkerPool

class Task:
    def __init__(self, name): self.name = name
    def units(self): return [SimpleNamespace(size=1, kind=None)] * 3
    def do(self, unit, others): time.sleep(0.01)
    def result(self, seconds, waited): print(self.name, flush=True)

crew = WorkerPool(1, 64)
def call(name):
    crew.submit(Task(name)).result()
    crew.submit(Task(name + " again")).result()

for i in range(4):
    threading.Thread(target=call, args=(f"call {i}",), daemon=DAEMON).start()
while len(crew._calls) < 4: time.sleep(0.001)
"""


@pytest.mark.parametrize("daemon", [True, False])
def test_the_interpreter_ends_while_calls_wait(daemon: bool) -> None:
    script = LATE.replace("DAEMON", str(daemon))
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=SECONDS)
    assert run.returncode == 0 and run.stderr == ""
    answered = set(run.stdout.splitlines())
    assert answered >= {f"call {i}" for i in range(4)}
    if not daemon:
        assert answered >= {f"call {i} again" for i in range(4)}


@settings(max_examples=20)
@given(
    st.integers(1, 3),
    st.lists(st.tuples(st.lists(st.integers(1, 5), max_size=5), st.sampled_from(["", "cancel", "fail"])), max_size=25),
)
def test_every_call_gets_its_own_answer_whatever_happens_to_the_others(
    workers: int, calls: list[tuple[list[int], str]]
) -> None:
    def breaks(unit: int) -> None:
        raise LookupError

    crew = WorkerPool(workers, limit=25)
    answers = [
        crew.submit(Steps(str(i), sizes, do=breaks if fate == "fail" else lambda unit: None))
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
    crew.close()
    assert not crew._calls and not crew._line and not crew._new and crew._busy == 0
