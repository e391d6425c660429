"""The processor cores and the memory that this process may use."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

__all__ = ["cores", "memory_limit"]

_ROOT = Path("/")

_NO_LIMIT = 2**60
"""Bytes from which on a limit is none: version 1 writes the largest number of whole pages."""


def cores() -> int:
    """Return the number of physical cores that this process may use, at least 1.

    Takes into account the process's affinity, the CPU quotas of its control group and of those above it (as containers
    and services have; version 2 and 1), and which logical processors are threads of one core: a second thread of the
    same core adds little to matrix products. Only Linux has all that; elsewhere it is the number of logical processors.
    """
    processors = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    return max(1, min(len({_core(cpu) for cpu in processors}), *_quotas()))


def memory_limit() -> int | None:
    """Return how many bytes of memory the control groups of this process allow; ``None`` where none sets a limit.

    Beyond it, the system ends the process without a message. Only Linux has control groups (version 2 and 1).
    """
    limits = [
        int(text)
        for group in _groups("memory")
        for text in (
            _read(f"sys/fs/cgroup/{group}/memory.max"),
            _read(f"sys/fs/cgroup/memory/{group}/memory.limit_in_bytes"),
        )
        if text.isdigit() and int(text) < _NO_LIMIT
    ]
    return min(limits, default=None)


def _core(cpu: int) -> str:
    """Return a name for the core that a logical processor belongs to."""
    return _read(f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list") or str(cpu)


def _quotas() -> Iterator[int]:
    """Yield how many cores each control group allows, rounded up, and a large number in case none sets a limit."""
    yield 1_000_000
    for group in _groups("cpu"):
        limit, _, period = _read(f"sys/fs/cgroup/{group}/cpu.max").partition(" ")
        if not limit:
            limit = _read(f"sys/fs/cgroup/cpu/{group}/cpu.cfs_quota_us")
            period = _read(f"sys/fs/cgroup/cpu/{group}/cpu.cfs_period_us")
        if limit.isdigit() and period.isdigit() and int(period):
            yield math.ceil(int(limit) / int(period))


def _groups(controller: str) -> Iterator[str]:
    """Yield the process's control group and those above it; in a container, the outermost one is its own."""
    yield "."
    for line in _read("proc/self/cgroup").splitlines():
        _, controllers, group = line.split(":", 2)
        if controllers == "" or controller in controllers.split(","):
            path = Path(group.lstrip("/"))
            yield from (str(part) for part in (path, *path.parents))


def _read(file: str) -> str:
    try:
        return (_ROOT / file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""
