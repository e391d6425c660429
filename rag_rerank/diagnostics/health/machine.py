"""The processor, the threads and the memory that models get here."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from pathlib import Path

from rag_rerank.backends.local.cpu import cores, memory_limit
from rag_rerank.diagnostics.health.finding import Finding, Subject
from rag_rerank.errors import RerankError

__all__ = ["check_memory", "check_processor", "check_threads"]

_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
"""Variables that set the threads of PyTorch and of NumPy. ONNX Runtime reads none of them."""

_INSTRUCTIONS = {"avx2": "AVX2", "avx512f": "AVX-512", "avx512_vnni": "AVX-512 VNNI", "avx_vnni": "AVX VNNI"}
_ARM = {"asimddp": "dot products", "i8mm": "int8 matrix products", "sve": "SVE"}
"""Flag in /proc/cpuinfo -> name."""

_CPU_INFO = Path("/proc/cpuinfo")
_THREADS_A_CORE = 2
"""Threads that one core runs at the same time, at most (simultaneous multithreading)."""

_SHARE = 0.8
"""Share of the memory limit that the files of models may take: tokenizers, activations and Python need the rest."""


def check_processor(subject: Subject) -> Iterator[Finding]:
    """Yield the cores that this process may use, and the instructions that matter for matrix products."""
    flags = _read_flags()
    names = [name for flag, name in (_INSTRUCTIONS | _ARM).items() if flag in flags]
    usable, logical = cores(), os.cpu_count() or 1
    what = (
        f"{usable} cores may be used, of {logical} logical processors; {', '.join(names) or 'instructions not known'}"
    )
    yield Finding("cpu", "ok", platform.machine() or "processor", what)
    if flags and platform.machine().lower() in ("x86_64", "amd64") and "avx2" not in flags:
        what = "the processor has no AVX2, so runtimes fall back to slower code, and some wheels do not start"
        advice = "use a machine with AVX2; in a virtual machine, choose a processor type that passes it through"
        yield Finding("cpu", "warning", "AVX2", what, advice)


def check_threads(subject: Subject) -> Iterator[Finding]:
    """Yield settings that start more threads than there are cores, or that are no number."""
    from rag_rerank.backends.onnx import OnnxReranker

    usable = cores()
    is_right = True
    for name in _VARIABLES:
        text = os.environ.get(name)
        if not text:
            continue
        numbers = text.split(",")  # OpenMP takes a number a level of nesting
        if not all(number.strip().isdigit() and int(number) > 0 for number in numbers):
            is_right = False
            what = "it is no list of whole numbers above 0, so it has no effect, or a library refuses it"
            yield Finding("threads", "warning", name, what, f"set {name} to {usable}, or unset it")
        elif int(numbers[0]) > _THREADS_A_CORE * usable:
            is_right = False
            what = f"it starts {int(numbers[0])} threads on {usable} cores, and they wait for each other"
            yield Finding("threads", "warning", name, what, f"set {name} to {usable}, or unset it")
    for part in subject.local_parts:
        if isinstance(part, OnnxReranker) and (busy := (part.workers or 1) * part.threads) > _THREADS_A_CORE * usable:
            is_right = False
            what = f"workers x threads is {busy} on {usable} cores, and they wait for each other"
            advice = "leave workers and threads out, or let rag-rerank tune measure them here"
            yield Finding("threads", "warning", part.label, what, advice)
    if is_right:
        words = [f"{name}={os.environ[name]}" for name in _VARIABLES if os.environ.get(name)]
        yield Finding("threads", "ok", "threads", ", ".join(words) or "no variable changes their number")


def check_memory(subject: Subject) -> Iterator[Finding]:
    """Yield whether the files of the models fit into the memory that the control group allows."""
    limit, size = memory_limit(), 0
    for part in subject.local_parts:
        try:
            size += _folder_size(part.fetch().path) if part.is_cached() else 0
        except (RerankError, OSError):  # another check says what is wrong with the files
            continue
    files = f"the files of the models take {size / 2**20:,.0f} MiB"
    if limit is None:
        yield Finding("memory", "ok", "memory", f"{files}; no control group limits the memory")
        return
    what = f"{files}, and the control group allows {limit / 2**20:,.0f} MiB"
    advice = "raise the limit, or choose a smaller model; beyond the limit the system ends the process"
    if size > limit:
        yield Finding("memory", "problem", "memory", what, advice)
    elif size > _SHARE * limit:
        yield Finding("memory", "warning", "memory", what, advice)
    else:
        yield Finding("memory", "ok", "memory", what)


def _read_flags() -> frozenset[str]:
    """Return the flags of the first processor; empty where the system does not list them."""
    try:
        lines = _CPU_INFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return frozenset()
    rows = (line.partition(":")[2] for line in lines if line.lower().startswith(("flags", "features")))
    return frozenset(next(rows, "").split())


def _folder_size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
