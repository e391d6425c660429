"""How many processor cores this process may keep busy."""

from __future__ import annotations

import math
import os
from pathlib import Path

__all__ = ["cores"]


def cores() -> int:
    """Return the number of physical cores that this process may use, at least 1.

    Looks at the process's affinity, at the CPU quota of its control group (as containers have; version 2 and 1), and at
    which logical processors are threads of one core: a second thread of the same core adds little to matrix products.
    """
    allowed = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    return max(1, min(len({_core(cpu) for cpu in allowed}), _quota()))


def _core(cpu: int) -> str:
    """Return a name of the core that a logical processor is a thread of."""
    file = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
    return _read(file) or str(cpu)


def _quota() -> int:
    """Return how many cores the control group allows, rounded up; a large number where it sets no limit."""
    limit, _, period = _read(Path("/sys/fs/cgroup/cpu.max")).partition(" ")
    if not limit:
        limit = _read(Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"))
        period = _read(Path("/sys/fs/cgroup/cpu/cpu.cfs_period_us"))
    if limit.isdigit() and period.isdigit() and int(period):
        return math.ceil(int(limit) / int(period))
    return 1_000_000


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii").strip()
    except OSError:
        return ""
