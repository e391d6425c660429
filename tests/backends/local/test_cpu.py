"""How many cores a process may use, on machines simulated by files."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from rag_rerank.backends.local import cpu
from rag_rerank.backends.local.cpu import cores, memory_limit

Machine = Callable[..., int]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Machine:
    """Return a function that counts the cores of a simulated machine: siblings of processors, affinity, other files."""

    def count(siblings: list[str], affinity: set[int] | None = None, files: Mapping[str, str] | None = None) -> int:
        monkeypatch.setattr(cpu, "_ROOT", tmp_path)
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: affinity or set(range(len(siblings))), raising=False)
        topology = {f"sys/devices/system/cpu/cpu{i}/topology/thread_siblings_list": s for i, s in enumerate(siblings)}
        for name, content in {**topology, **(files or {})}.items():
            file = tmp_path / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"{content}\n")
        return cores()

    return count


EIGHT = [str(i) for i in range(8)]
TWO_THREADS_EACH = ["0,4", "1,5", "2,6", "3,7"] * 2


def test_threads_of_one_core_count_once(machine: Machine) -> None:
    assert machine(TWO_THREADS_EACH) == 4


def test_ranges_of_threads_count_once(machine: Machine) -> None:
    assert machine(["0-1", "0-1", "2-3", "2-3"]) == 2


def test_only_processors_that_the_process_may_use_count(machine: Machine) -> None:
    assert machine(TWO_THREADS_EACH, affinity={0, 4, 1}) == 2
    assert machine(EIGHT, affinity={7}) == 1


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        ("max 100000", 8),
        ("200000 100000", 2),
        ("150000 100000", 2),
        ("250000 100000", 3),
        ("10000 100000", 1),
        ("1600000 100000", 8),
        ("50000 10000", 5),
        ("max", 8),
        ("200000 0", 8),
        ("odd", 8),
        ("", 8),
    ],
)
def test_a_quota_of_version_2_limits_rounded_up(machine: Machine, limit: str, expected: int) -> None:
    assert machine(EIGHT, files={"sys/fs/cgroup/cpu.max": limit}) == expected


@pytest.mark.parametrize(("quota", "expected"), [("-1", 8), ("300000", 3), ("320000", 4)])
def test_a_quota_of_version_1_limits_rounded_up(machine: Machine, quota: str, expected: int) -> None:
    folder = "sys/fs/cgroup/cpu"
    files = {f"{folder}/cpu.cfs_quota_us": quota, f"{folder}/cpu.cfs_period_us": "100000"}
    assert machine(EIGHT, files=files) == expected


def test_the_quota_of_a_service_is_found_in_its_own_group(machine: Machine) -> None:
    files = {
        "proc/self/cgroup": "0::/system.slice/search.service",
        "sys/fs/cgroup/system.slice/search.service/cpu.max": "300000 100000",
    }
    assert machine(EIGHT, files=files) == 3


def test_the_lowest_quota_of_all_groups_above_counts(machine: Machine) -> None:
    files = {
        "proc/self/cgroup": "0::/a/b",
        "sys/fs/cgroup/a/b/cpu.max": "max 100000",
        "sys/fs/cgroup/a/cpu.max": "200000 100000",
    }
    assert machine(EIGHT, files=files) == 2


def test_groups_of_version_1_are_found_by_their_controller(machine: Machine) -> None:
    files = {
        "proc/self/cgroup": "12:memory:/other\n4:cpu,cpuacct:/docker/1f3a\n1:name=systemd:/x:y",
        "sys/fs/cgroup/cpu/docker/1f3a/cpu.cfs_quota_us": "100000",
        "sys/fs/cgroup/cpu/docker/1f3a/cpu.cfs_period_us": "100000",
        "sys/fs/cgroup/cpu/other/cpu.cfs_quota_us": "50000",
    }
    assert machine(EIGHT, files=files) == 1


def test_a_group_that_is_not_mounted_here_limits_nothing(machine: Machine) -> None:
    assert machine(EIGHT, files={"proc/self/cgroup": "0::/../../init.scope"}) == 8


def test_without_a_topology_every_processor_is_a_core(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(cpu, "_ROOT", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 2, 5}, raising=False)
    assert cores() == 3


@pytest.mark.parametrize(("processors", "expected"), [(10, 10), (1, 1), (None, 1)])
def test_systems_without_affinity_count_their_processors(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, processors: int | None, expected: int
) -> None:
    """MacOS and Windows."""
    monkeypatch.setattr(cpu, "_ROOT", tmp_path)
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: processors)
    assert cores() == expected


def test_this_machine_has_cores() -> None:
    assert 1 <= cores() <= (os.cpu_count() or 1)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, None),
        ({"sys/fs/cgroup/memory.max": "max"}, None),
        ({"sys/fs/cgroup/memory.max": "2147483648"}, 2**31),
        ({"sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712"}, None),
        ({"sys/fs/cgroup/memory/memory.limit_in_bytes": "536870912"}, 2**29),
        (
            {
                "proc/self/cgroup": "0::/system.slice/search.service",
                "sys/fs/cgroup/system.slice/search.service/memory.max": "max",
                "sys/fs/cgroup/system.slice/memory.max": "1073741824",
                "sys/fs/cgroup/memory.max": "4294967296",
            },
            2**30,
        ),
    ],
    ids=["no groups", "no limit", "version 2", "no limit in version 1", "version 1", "the smallest one above counts"],
)
def test_the_memory_limit_is_that_of_the_control_groups(
    machine: Machine, files: Mapping[str, str], expected: int | None
) -> None:
    machine(EIGHT, files=files)
    assert memory_limit() == expected
