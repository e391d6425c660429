"""Many callers at once on one local reranker: throughput against one batch caller, latency, stalls of the event loop.

    python benchmarks/callers.py --model onnx:embedded --callers 1 4 16 64

The work is the same for every row: ``--calls`` calls of ``--candidates`` texts of skewed length (lognormal, fixed
seed). The callers take the calls from one list, each starting the next as soon as it has an answer; the batch caller
ranks all texts in one call. A ratio is the throughput of a row over that of the batch calls just before and after it;
look at the ratio by CPU time where the machine is busy with other things. A stall is how late a coroutine is woken
that sleeps 1 ms at a time; the first line gives it for an idle loop. Its CPU time
is what the whole process computed meanwhile: on a busy machine it is the more reliable figure of the two.

The last lines rank ``--many`` candidates, asynchronously and without the model's forward passes, so that only the rest
can stall the loop: checks, tokenising, sorting, the trace.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import random
import threading
import time
import warnings
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path

import rag_rerank
from rag_rerank import Cascade, Reranker, Stage, TruncationWarning
from rag_rerank.testing import ScriptedReranker

WORDS = [
    "the",
    "crane",
    "lakes",
    "water",
    "boils",
    "at",
    "lower",
    "temperature",
    "because",
    "air",
    "pressure",
    "is",
    "less",
]
QUERY = "how should a bearded dragon be kept warm?"


def texts_of(count: int, seed: int = 0) -> list[str]:
    draw = random.Random(seed)
    return [
        " ".join(draw.choice(WORDS) for _ in range(max(5, min(90, int(draw.lognormvariate(3.6, 0.55))))))
        for _ in range(count)
    ]


@asynccontextmanager
async def largest_stalls() -> Iterator[list[float]]:
    """Yield a list that holds, after the block, the largest stall of the loop, by the clock and by CPU time."""
    largest = [0.0, 0.0]
    done = asyncio.Event()

    async def probe() -> None:
        while not done.is_set():
            clock, cpu = time.perf_counter(), time.process_time()
            await asyncio.sleep(0.001)
            gaps = time.perf_counter() - clock - 0.001, time.process_time() - cpu
            largest[:] = map(max, largest, gaps)

    watching = asyncio.create_task(probe())
    await asyncio.sleep(0.01)
    largest[:] = 0.0, 0.0
    try:
        yield largest
        await asyncio.sleep(0.002)
    finally:
        done.set()
        await watching


def sync_callers(reranker: Reranker, calls: list[list[str]], callers: int) -> tuple[list[float], None]:
    pending, lock, seconds = iter(calls), threading.Lock(), []

    def work() -> None:
        while True:
            with lock:
                texts = next(pending, None)
            if texts is None:
                return
            before = time.perf_counter()
            reranker.rerank(QUERY, texts)
            seconds.append(time.perf_counter() - before)

    with ThreadPoolExecutor(callers) as pool:
        for caller in [pool.submit(work) for _ in range(callers)]:
            caller.result()
    return seconds, None


def async_callers(reranker: Reranker, calls: list[list[str]], callers: int) -> tuple[list[float], float]:
    pending, seconds = iter(calls), []

    async def work() -> None:
        for texts in pending:
            before = time.perf_counter()
            await reranker.arerank(QUERY, texts)
            seconds.append(time.perf_counter() - before)

    async def run() -> float:
        async with largest_stalls() as largest:
            await asyncio.gather(*(work() for _ in range(callers)))
        return largest[0]

    stall = asyncio.run(run())
    return seconds, stall


def time_of(work: Callable[[], object]) -> tuple[float, float, object]:
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    return time.perf_counter() - wall, time.process_time() - cpu, result


def stalls_of(work: Callable[[], Awaitable[object]]) -> list[float]:
    async def run() -> list[float]:
        async with largest_stalls() as largest:
            await work()
        return largest

    gc.collect()
    return asyncio.run(run())


def without_forward_passes(reranker: Reranker) -> None:
    engine = reranker._engine  # type: ignore[attr-defined]
    engine.logits = lambda arrays, notes: [0.0] * len(arrays["input_ids"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="onnx:embedded", help="name, or config file, of a local reranker")
    parser.add_argument("--callers", type=int, nargs="+", default=[1, 4, 16, 64])
    parser.add_argument("--calls", type=int, default=64)
    parser.add_argument("--candidates", type=int, default=20)
    parser.add_argument("--many", type=int, default=10_000, help="candidates of the call whose stalls are measured")
    options = parser.parse_args()
    warnings.simplefilter("ignore", TruncationWarning)
    reranker = (rag_rerank.load if Path(options.model).is_file() else rag_rerank.build)(options.model)
    everything = texts_of(options.calls * options.candidates)
    calls = [everything[i : i + options.candidates] for i in range(0, len(everything), options.candidates)]
    reranker.rerank(QUERY, everything[:8])
    print(f"{options.model}: {options.calls} calls of {options.candidates} texts; stall of an idle loop:", end=" ")
    print(f"{1000 * max(stalls_of(lambda: asyncio.sleep(0.2))[0] for _ in range(5)):.0f} ms")

    def batch() -> tuple[float, float, object]:
        return time_of(lambda: reranker.rerank(QUERY, everything))

    before = batch()
    print(f"one batch call: {len(everything) / before[0]:.1f} texts/s, {before[1]:.1f} s of CPU", flush=True)
    print("world  callers  texts/s  ratio  by CPU  p50 s  p95 s  largest stall ms")
    for callers in options.callers:
        for world, run in (("sync", sync_callers), ("async", async_callers)):
            wall, cpu, (seconds, stall) = time_of(lambda run=run, callers=callers: run(reranker, calls, callers))
            after = batch()
            ratio, by_cpu = ((before[i] + after[i]) / 2 / took for i, took in enumerate((wall, cpu)))
            half, most = (sorted(seconds)[min(len(seconds) - 1, int(len(seconds) * part))] for part in (0.5, 0.95))
            stall_text = "-" if stall is None else f"{1000 * stall:.0f}"
            print(
                f"{world:5}  {callers:7}  {len(everything) / wall:7.1f}  {ratio:5.2f}  {by_cpu:6.2f}  {half:5.2f}  "
                f"{most:5.2f}  {stall_text:>16}",
                flush=True,
            )
            before = after
    many = texts_of(options.many)
    without_forward_passes(reranker)
    lexicon = ScriptedReranker(by_text={text: float(i) for i, text in enumerate(many)})
    cascade = Cascade(stages=(Stage(reranker=lexicon), Stage(reranker=reranker, depth=100)))
    for name, which in (("scripted scores", lexicon), (options.model, reranker), ("a cascade to 100", cascade)):
        stalls = [stalls_of(lambda which=which: which.arerank(QUERY, many)) for _ in range(5)]
        print(
            f"{options.many} candidates, {name}, without forward passes: largest stalls in 5 calls, ms:",
            *(f"{1000 * clock:.0f} ({1000 * cpu:.0f} of CPU)" for clock, cpu in stalls),
        )


if __name__ == "__main__":
    main()
