"""A process for one system: reads one JSON message a line, and answers each with one line.

    python -m benchmarks.speed.worker MODULE:FUNCTION

| message | answer |
|---|---|
| ``prepare``: folder | (nothing) |
| ``load``: folder, settings | wall, cpu |
| ``rerank``: query, texts | scores, wall, cpu |
| ``slots``: query, texts | slots |
| ``callers``: query, texts of each call, callers, asynchronous | latencies, failed, wall, cpu |
| ``gemm``: hidden, inner | gflops |
| ``forget_peak`` | (nothing) |
| ``memory`` | now, peak |

Seconds are those around the system's own call; ``cpu`` is the whole process's. Bytes are those of `/proc`. What the
system prints goes to standard error. An exception is answered as ``error`` and the process lives on.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import resource
import sys
import threading
import time
import warnings
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

MEMORY = 0.75
"""Share of the machine's memory that one system may reserve; beyond it, its allocation fails instead of the machine."""


class Host:
    """Answers messages for the system of one loader."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._loaded: Any = None

    def answer(self, message: dict[str, Any]) -> dict[str, Any]:
        do = message.pop("do")
        return getattr(self, f"_{do}")(**message) or {}

    def _prepare(self, folder: str) -> None:
        _load_function(self._name)(Path(folder))

    def _load(self, folder: str, settings: dict[str, Any]) -> dict[str, Any]:
        with _clock() as timing:
            self._loaded = _load_function(self._name)(Path(folder), **settings)
        return timing

    def _rerank(self, query: str, texts: list[str]) -> dict[str, Any]:
        with _clock() as timing:
            scores = self._loaded.score(query, texts)
        return {"scores": scores, **timing}

    def _slots(self, query: str, texts: list[str]) -> dict[str, Any]:
        slots: list[int] = []
        undo = self._loaded.watch(slots)
        try:
            self._loaded.score(query, texts)
        finally:
            undo()
        return {"slots": sum(slots) or None}

    def _callers(self, calls: list[tuple[str, list[str]]], callers: int, asynchronous: bool) -> dict[str, Any]:
        with _clock() as timing:
            if asynchronous:
                latencies, failed = asyncio.run(_in_tasks(self._loaded.ascore, calls, callers))
            else:
                latencies, failed = _in_threads(self._loaded.score, calls, callers)
        return {"latencies": latencies, "failed": failed, **timing}

    def _gemm(self, hidden: int, inner: int) -> dict[str, Any]:
        """Time the products of one layer, 2048 tokens, by torch on all cores this process may use."""
        import torch

        torch.set_num_threads(len(os.sched_getaffinity(0)))
        tokens = 2048
        shapes = [(hidden, hidden)] * 4 + [(hidden, inner), (inner, hidden)]
        operands = [(torch.randn(tokens, a), torch.randn(a, b)) for a, b in shapes]
        flops = sum(2 * tokens * a * b for a, b in shapes)
        rates = []
        for _ in range(12):
            started = time.perf_counter()
            for a, b in operands:
                torch.mm(a, b)
            rates.append(flops / (time.perf_counter() - started) / 1e9)
        return {"gflops": sorted(rates)[len(rates) // 2]}

    def _forget_peak(self) -> None:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")

    def _memory(self) -> dict[str, Any]:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        sizes = {name: rest for name, _, rest in (line.partition(":") for line in lines)}
        now, peak = (int(sizes[name].split()[0]) * 1024 for name in ("VmRSS", "VmHWM"))
        return {"now": now, "peak": peak}


def _load_function(name: str) -> Callable[..., Any]:
    module, _, function = name.partition(":")
    return getattr(importlib.import_module(module), function)  # type: ignore[no-any-return]


@contextmanager
def _clock() -> Any:
    timing: dict[str, float] = {}
    wall, cpu = time.perf_counter(), time.process_time()
    yield timing
    timing["wall"], timing["cpu"] = time.perf_counter() - wall, time.process_time() - cpu


def _in_threads(score: Any, calls: list[tuple[str, list[str]]], callers: int) -> tuple[list[float], list[str]]:
    """Let callers take one call after the other; all callers begin at once."""
    todo: SimpleQueue[tuple[str, list[str]]] = SimpleQueue()
    for call in calls:
        todo.put(call)
    latencies: list[float] = []
    failed: list[str] = []
    begin = threading.Barrier(callers)

    def caller() -> None:
        begin.wait()
        while True:
            try:
                query, texts = todo.get_nowait()
            except Empty:
                return
            started = time.perf_counter()
            try:
                score(query, texts)
                latencies.append(time.perf_counter() - started)
            except Exception as error:  # failures under many callers are a result, and are counted
                failed.append(_error_text(error))

    threads = [threading.Thread(target=caller) for _ in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return latencies, failed


async def _in_tasks(ascore: Any, calls: list[tuple[str, list[str]]], callers: int) -> tuple[list[float], list[str]]:
    latencies: list[float] = []
    failed: list[str] = []
    todo = iter(calls)

    async def caller() -> None:
        for query, texts in todo:
            started = time.perf_counter()
            try:
                await ascore(query, texts)
                latencies.append(time.perf_counter() - started)
            except Exception as error:
                failed.append(_error_text(error))

    await asyncio.gather(*(caller() for _ in range(callers)))
    return latencies, failed


def _error_text(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def main() -> None:
    warnings.simplefilter("ignore")
    limit = int(MEMORY * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    host = Host(sys.argv[1])
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    for line in sys.stdin:
        try:
            answer = host.answer(json.loads(line))
        except Exception as error:  # the client decides
            answer = {"error": _error_text(error)}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
