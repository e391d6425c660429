"""The clock and its threads."""

import os
import threading
from concurrent.futures import Future

import pytest

from rag_rerank.execution import clock


def test_work_beside_gives_its_result_and_its_error() -> None:
    assert clock.start_thread(lambda: 42).result(timeout=30) == 42
    failed: Future[float] = clock.start_thread(lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        failed.result(timeout=30)


def test_a_thread_is_used_again_and_two_at_once_are_two() -> None:
    first = clock.start_thread(threading.get_ident)
    ident = first.result(timeout=30)
    gate = threading.Event()

    def wait_for_both() -> int:
        gate.wait(30)
        return threading.get_ident()

    idle = clock._threads._idle
    while not idle:  # the thread puts itself back after it has answered
        pass
    both = [clock.start_thread(wait_for_both), clock.start_thread(wait_for_both)]
    gate.set()
    idents = {future.result(timeout=30) for future in both}
    assert len(idents) == 2
    assert ident in idents


def test_an_idle_thread_ends_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "_IDLE", 0.001)
    threads = clock._Threads()
    worker: Future[threading.Thread] = Future()
    threads.run(lambda: worker.set_result(threading.current_thread()))
    worker.result(timeout=30).join(timeout=30)
    assert not worker.result().is_alive()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_starts_threads_of_its_own() -> None:
    clock.start_thread(lambda: None).result(timeout=30)
    child = os.fork()
    if child == 0:
        os._exit(0 if clock.start_thread(lambda: 7).result(timeout=30) == 7 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_another_clock_counts_for_all_threads_until_it_is_taken_away() -> None:
    class Stopped(clock.Clock):
        def now(self) -> float:
            return 5.0

    with clock.use(Stopped()):
        assert clock.now() == 5.0
        assert clock.start_thread(clock.now).result(timeout=30) == 5.0
    assert clock.now() != 5.0


def test_waiting_ends_with_the_first_future_or_with_the_time() -> None:
    done: Future[int] = Future()
    done.set_result(1)
    clock.wait_for_any([done, Future()])
    clock.wait_for_any([Future()], 0.0)
