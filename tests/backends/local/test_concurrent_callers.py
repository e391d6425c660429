"""Many callers on one local reranker: what they wait for, what their traces say, and what is left afterwards."""

from __future__ import annotations

import asyncio
import gc
import os
import pickle
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import tiny_checkpoints
from support.tiny_checkpoints import DOCUMENTS, QUERIES

from rag_rerank import (
    BackendError,
    ConfigError,
    Deadline,
    DeadlineExceeded,
    Fallback,
    InputTooLong,
    Overloaded,
    TransientError,
    build,
)
from rag_rerank._lazy import forget, load_once
from rag_rerank.backends.local.base import LocalReranker
from rag_rerank.backends.local.pair_encoding import EncodedPairs
from rag_rerank.backends.torch import TorchReranker
from rag_rerank.execution import clock
from rag_rerank.testing import ScriptedReranker
from rag_rerank.trace import Coverage

SECONDS = 30.0
"""How long a test waits for an event at most; it is never waited out unless something is wrong."""


class Lengths:
    """An engine whose logit is the number of words of the text; the text "wait" blocks it, "break" makes it fail."""

    notes = ()
    batch_tokens = 1  # a text a batch
    equal_lengths = False
    workers = 1
    window = 512

    def __init__(self) -> None:
        self.texts_run: list[int] = []
        self.reached = threading.Event()
        self.opened = threading.Event()
        self.act: Callable[[], object] = lambda: None

    @property
    def tokenizer(self) -> Lengths:
        return self

    def encode(self, query: str, texts: Sequence[str], on_overflow: str) -> EncodedPairs:
        if "too long" in texts:
            raise InputTooLong("too long", position=list(texts).index("too long"))
        rows = [[-1 if text == "wait" else -2 if text == "break" else len(text.split())] for text in texts]
        return EncodedPairs(rows, [[0] for _ in texts], tuple(Coverage(1, 1) for _ in texts), pad=0)

    def logits(self, arrays: Mapping[str, Any], notes: list[str]) -> list[float]:
        ids = [int(row[0]) for row in arrays["input_ids"]]
        self.texts_run += ids
        self.act()
        if -1 in ids:
            self.reached.set()
            assert self.opened.wait(SECONDS)
        if -2 in ids:
            raise BackendError("broken")
        return [float(id) for id in ids]


@dataclass(frozen=True, kw_only=True)
class Local(LocalReranker):
    """A local reranker on `Lengths`."""

    kind: ClassVar[str] = "lengths"
    files: ClassVar[tuple[str, ...]] = ()

    engines: list[Lengths] = field(default_factory=list, init=False, repr=False, compare=False, metadata={"live": True})
    load: Callable[[], object] = field(default=lambda: None, repr=False, compare=False, metadata={"live": True})

    @staticmethod
    def complete(folder: Path) -> bool:
        return True

    @load_once
    def _engine(self) -> Lengths:
        self.load()
        self.engines.append(Lengths())
        return self.engines[-1]

    def close(self) -> None:
        forget(self, "_engine")
        super().close()


@pytest.fixture
def reranker() -> Iterator[Local]:
    reranker = Local(max_queue=3)
    yield reranker
    reranker.close()


def holding(reranker: Local) -> Lengths:
    """Keep the worker busy with a call of its own."""
    reranker.warm_up()
    engine = reranker.engines[-1]
    threading.Thread(target=reranker.score, args=("q", ["wait"])).start()
    assert engine.reached.wait(SECONDS)
    return engine


def calls_of(reranker: LocalReranker) -> int:
    """Return how many calls wait or run."""
    assert reranker.stats is not None
    return reranker.stats.calls


def new_threads(before: set[threading.Thread]) -> set[threading.Thread]:
    """Return the worker threads that have been started since."""
    return {each for each in threading.enumerate() if each not in before and each.name.startswith("rag_rerank")}


async def until(true: Callable[[], bool]) -> None:
    while not true():  # noqa: ASYNC110  what is waited for happens on other threads
        await asyncio.sleep(0)


def test_calls_wait_for_each_other_and_are_told_so(reranker: Local) -> None:
    alone = reranker.rerank("q", ["a b", "a"])
    assert alone.trace.notes == () and alone.usage.seconds > 0
    engine = holding(reranker)
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(reranker.rerank, "q", ["a b", "a"])
        threading.Timer(0.05, engine.opened.set).start()
        ranking = answer.result(SECONDS)
    (note,) = ranking.trace.notes
    assert note.startswith("waited 0.") and note.endswith(" s for other calls")
    assert ranking.usage.seconds < ranking.trace.seconds


async def test_one_call_too_many_is_refused_in_both_worlds(reranker: Local) -> None:
    engine = holding(reranker)
    waiting = [asyncio.create_task(reranker.arerank("q", ["a"])) for _ in range(2)]
    await until(lambda: calls_of(reranker) == 3)
    with pytest.raises(Overloaded, match=r"lengths:minilm has 3 calls waiting or running.*max_queue") as caught:
        await reranker.arerank("q", ["a"])
    with pytest.raises(Overloaded):
        reranker.rerank("q", ["a"])
    assert isinstance(caught.value, TransientError) and caught.value.retry_after is None
    assert (caught.value.backend, caught.value.model) == ("lengths", "minilm")
    assert caught.value.trace.error.startswith("Overloaded: ")
    assert pickle.loads(pickle.dumps(caught.value)).args == caught.value.args
    engine.opened.set()
    assert [ranking[0].raw_score for ranking in await asyncio.gather(*waiting)] == [1.0, 1.0]


async def test_a_fallback_answers_in_place_of_an_overloaded_member(reranker: Local) -> None:
    engine = holding(reranker)
    waiting = [asyncio.create_task(reranker.arerank("q", ["a"])) for _ in range(2)]
    await until(lambda: calls_of(reranker) == 3)
    whole = Fallback(members=(reranker, ScriptedReranker(name="spare")))
    for ranking in (whole.rerank("q", ["a"]), await whole.arerank("q", ["a"])):
        assert "spare answered in place of lengths:minilm (Overloaded)" in ranking.degraded[0]
    engine.opened.set()
    await asyncio.gather(*waiting)


@pytest.mark.parametrize("count", [0, -1])
def test_a_queue_without_places_is_refused(count: int) -> None:
    with pytest.raises(ConfigError, match=f"max_queue: max_queue must be at least 1, got {count}"):
        Local(max_queue=count)


def test_the_bound_is_part_of_the_config() -> None:
    assert build({"type": "embedded", "max_queue": 7}).max_queue == 7


async def test_a_cancelled_task_frees_its_place_and_the_next_call_runs(reranker: Local) -> None:
    engine = holding(reranker)
    first, second = (asyncio.create_task(reranker.arerank("q", ["a b c"] * 9)) for _ in range(2))
    await until(lambda: calls_of(reranker) == 3)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    third = asyncio.create_task(reranker.arerank("q", ["a b"]))
    await until(lambda: calls_of(reranker) == 3)
    engine.opened.set()
    assert len(await second) == 9 and len(await third) == 1
    assert engine.texts_run.count(3) == 9


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="no signal to one thread here")
def test_an_interrupted_call_does_nothing_more_and_frees_its_place() -> None:
    reranker = Local(max_queue=1)
    reranker.warm_up()
    engine = reranker.engines[0]
    main = threading.main_thread().ident
    engine.act = lambda: signal.pthread_kill(main, signal.SIGINT) if engine.texts_run == [1, -1] else None
    with pytest.raises(KeyboardInterrupt):
        reranker.rerank("q", ["a", "wait"] * 50)
    engine.opened.set()
    assert len(reranker.rerank("q", ["a b"])) == 1
    assert engine.texts_run == [1, -1, 2]
    reranker.close()


async def test_waiting_calls_hold_no_thread_of_the_loop(reranker: Local) -> None:
    reranker.warm_up()
    busy = threading.Event()
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(1))
    blocked = loop.run_in_executor(None, busy.wait)
    rankings = await asyncio.wait_for(asyncio.gather(*(reranker.arerank("q", ["a"]) for _ in range(3))), SECONDS)
    assert len(rankings) == 3
    busy.set()
    await blocked


async def test_loading_at_first_use_leaves_the_loop_free() -> None:
    go_on = threading.Event()
    reranker = Local(load=lambda: go_on.wait(SECONDS) or pytest.fail("the loop stood"))
    call = asyncio.create_task(reranker.arerank("q", ["a"]))
    await asyncio.sleep(0)
    go_on.set()
    assert len(await call) == 1
    await reranker.aclose()


async def test_errors_stay_with_their_own_call() -> None:
    reranker = Local()
    texts = [["a", "b c"], ["break", "a"], ["a", "too long"], ["a b c"], ["a", "break"]]
    answers = await asyncio.gather(*(reranker.arerank("q", t) for t in texts), return_exceptions=True)
    assert [type(answer).__name__ for answer in answers] == [
        *("Ranking", "BackendError", "InputTooLong", "Ranking", "BackendError")
    ]
    assert "logits" in [frame.name for frame in _frames(answers[1])]
    assert "candidate '1'" in str(answers[2])
    reranker.close()


def _frames(error: Any) -> list[Any]:
    import traceback

    return list(traceback.extract_tb(error.__traceback__))


def test_an_error_keeps_no_text_alive_once_it_is_gone(reranker: Local) -> None:
    class Text(str):
        __slots__ = ("__weakref__",)

    text = Text("break")
    text_ref = weakref.ref(text)
    gc.disable()
    try:
        with pytest.raises(BackendError):
            reranker.score("q", [text])
        reranker.score("q", ["a"])  # the worker has let go of the call before
        del text
        assert text_ref() is None
    finally:
        gc.enable()


def test_closing_answers_what_waits_and_a_later_call_loads_anew(reranker: Local) -> None:
    engine = holding(reranker)
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(reranker.rerank, "q", ["a b"])
        while calls_of(reranker) < 2:
            pass
        closing = pool.submit(reranker.close)
        while reranker.stats is not None:
            pass
        later = pool.submit(reranker.rerank, "q", ["a"])  # meets the closing, and waits for nobody
        assert len(later.result(SECONDS)) == 1
        assert not answer.done() and not closing.done()
        engine.opened.set()
        assert answer.result(SECONDS)[0].raw_score == 2.0
        closing.result(SECONDS)
    assert len(reranker.rerank("q", ["a"])) == 1
    assert len(reranker.engines) == 2


def test_there_are_stats_as_long_as_the_model_is_loaded(reranker: Local) -> None:
    assert reranker.stats is None
    engine = holding(reranker)
    assert calls_of(reranker) == 1
    engine.opened.set()
    reranker.close()
    assert reranker.stats is None


def test_loading_and_closing_again_and_again_leaves_no_thread_and_no_engine() -> None:
    reranker = Local()
    before = set(threading.enumerate())
    for _ in range(20):
        reranker.rerank("q", ["a", "b c"])
        asyncio.run(reranker.arerank("q", ["a"]))
        reranker.close()
    assert set(threading.enumerate()) <= before
    engine_refs = [weakref.ref(engine) for engine in reranker.engines]
    reranker.engines.clear()
    assert len(engine_refs) == 20 and not any(engine() for engine in engine_refs)


def test_a_reranker_that_is_dropped_without_closing_ends_its_threads() -> None:
    before = set(threading.enumerate())
    reranker = Local()
    reranker.rerank("q", ["a"])
    threads = new_threads(before)
    engine = weakref.ref(reranker.engines[0])
    del reranker
    for thread in threads:
        thread.join(SECONDS)
    assert threads and not any(thread.is_alive() for thread in threads)
    assert engine() is None


FORK = """
import os, threading, warnings
import rag_rerank

warnings.simplefilter("ignore", DeprecationWarning)  # of forking where there are threads: that is the point
reranker = rag_rerank.build({"type": "embedded", "threads": 1})
here = [hit.raw_score for hit in reranker.rerank("how warm?", ["cold", "warm"])]
hold = threading.Thread(target=lambda: reranker.rerank("how warm?", ["warm and cold"] * 40))
hold.start()
child = os.fork()
there = [hit.raw_score for hit in reranker.rerank("how warm?", ["cold", "warm"])]
assert there == here
reranker.close()
if not child:
    os._exit(0)
hold.join()
assert os.waitpid(child, 0)[1] == 0
print("both answered")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_process_loads_its_own_and_answers() -> None:
    environment = {**os.environ, "TOKENIZERS_PARALLELISM": "false"}
    run = subprocess.run(
        [sys.executable, "-c", FORK], capture_output=True, text=True, timeout=4 * SECONDS, env=environment
    )
    assert run.stdout == "both answered\n", run.stderr


def test_pickles_and_copies_carry_no_workers() -> None:
    reranker = build("embedded")
    reranker.warm_up()
    twin = pickle.loads(pickle.dumps(reranker))
    assert twin == reranker and twin.stats is None
    reranker.close()


@pytest.fixture(scope="module")
def tiny() -> Iterator[TorchReranker]:
    with TorchReranker(model=str(tiny_checkpoints.checkpoint("bert")), batch_tokens=64) as tiny:
        yield tiny


@settings(max_examples=10)
@given(
    st.lists(
        st.tuples(st.sampled_from(QUERIES), st.lists(st.sampled_from(DOCUMENTS), min_size=1, max_size=12)),
        min_size=2,
        max_size=10,
    )
)
def test_no_call_gets_the_scores_of_another(tiny: TorchReranker, calls: list[tuple[str, list[str]]]) -> None:
    alone = [tiny.score(query, texts).values for query, texts in calls]

    async def at_once() -> list[Any]:
        return await asyncio.gather(*(tiny.ascore(query, texts) for query, texts in calls))

    with ThreadPoolExecutor(8) as pool:
        there = pool.submit(asyncio.run, at_once())
        together = list(pool.map(lambda call: tiny.score(*call), calls))
        for scores, expected in zip([*together, *there.result(SECONDS)], [*alone, *alone], strict=True):
            assert scores.values == expected
            assert scores.usage.texts == len(scores.coverage) == len(expected)


def test_batches_of_several_calls_give_each_call_the_scores_it_gets_alone() -> None:
    texts = [" ".join(["the", "crane", "rests", "on", "lakes"][i % 5] for i in range(n)) for n in (3, 7, 7, 12, 20)]
    queries = [f"where do cranes rest in {year}?" for year in range(1990, 2006)]  # of one length, so batches are joined
    with build({"type": "onnx", "model": "embedded", "workers": 1}) as reranker:
        alone = [reranker.score(query, texts).values for query in queries]
        together = threading.Barrier(len(queries), timeout=SECONDS)

        def call(query: str) -> list[float]:
            together.wait()
            return list(reranker.score(query, texts).values)

        with ThreadPoolExecutor(len(queries)) as pool:
            assert list(pool.map(call, queries)) == [list(values) for values in alone]
    assert len({tuple(values) for values in alone}) == len(queries)


class Hasty(clock.Clock):
    """Waits with a limit are over as soon as what they wait for is stuck; others are real."""

    def __init__(self, stuck: threading.Event) -> None:
        self.passed = 0.0
        self._stuck = stuck

    def now(self) -> float:
        return self.passed

    def wait_for_any(self, futures: Any, seconds: float | None) -> None:
        if seconds is None:
            super().wait_for_any(futures, None)
            return
        while not self._stuck.is_set() and not any(future.done() for future in futures):
            super().wait_for_any(futures, 0.01)
        if self._stuck.is_set():
            self.passed += seconds


def test_a_late_call_frees_its_place_and_the_next_one_is_answered() -> None:
    reranker = Local(max_queue=1)
    reranker.warm_up()
    (engine,) = reranker.engines
    with clock.use(Hasty(engine.reached)):
        with pytest.raises(DeadlineExceeded, match="lengths:minilm has not answered within its time of 3 s") as caught:
            reranker.rerank("q", ["wait", "a", "a b"], timeout=3)
        assert caught.value.trace.step == "lengths:minilm"
        assert calls_of(reranker) == 0
        engine.opened.set()
    assert len(reranker.rerank("q", ["a b c"])) == 1
    assert engine.texts_run == [-1, 3]  # what was left of the late call was not done
    reranker.close()


async def test_a_late_call_frees_its_place_on_the_event_loop_too() -> None:
    reranker = Local(max_queue=1)
    reranker.warm_up()
    (engine,) = reranker.engines
    with pytest.raises(DeadlineExceeded):
        await reranker.arerank("q", ["wait", "a"], timeout=0.01)
    await until(lambda: calls_of(reranker) == 0)
    engine.opened.set()
    assert len(await reranker.arerank("q", ["a b c"])) == 1
    await reranker.aclose()


def test_loading_is_inside_the_time() -> None:
    loading, go_on = threading.Event(), threading.Event()
    reranker = Local(load=lambda: (loading.set(), go_on.wait(SECONDS)))
    with clock.use(Hasty(loading)), pytest.raises(DeadlineExceeded):
        reranker.rerank("q", ["a"], timeout=3)
    go_on.set()
    assert len(reranker.rerank("q", ["a"])) == 1  # the model was loaded once, for whoever comes next
    assert len(reranker.engines) == 1
    reranker.close()


@pytest.mark.parametrize("on_late", ["first_stage", "partial"])
def test_a_deadline_around_a_local_model_answers_without_it(on_late: Any) -> None:
    reranker = Local()
    reranker.warm_up()
    (engine,) = reranker.engines
    with clock.use(Hasty(engine.reached)):
        ranking = Deadline(reranker=reranker, seconds=3, on_late=on_late).rerank("q", ["wait", "a"])
        engine.opened.set()
    assert [hit.text for hit in ranking] == ["wait", "a"] and len(ranking.degraded) == 1
    assert ranking[0].score is None
    reranker.close()
