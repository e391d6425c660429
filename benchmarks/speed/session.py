"""One run: its checkpoint, its processes, the systems that are not available, and the remaining time."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from benchmarks.speed import environments
from benchmarks.speed.checkpoints import SHAPES
from benchmarks.speed.process import Process, SystemFailed
from benchmarks.speed.systems import SYSTEMS, System

T = TypeVar("T")

_MUCH = 2 << 30
"""Bytes that a process may hold between two messages."""

Measurement = dict[str, Any]


class Session:
    """The systems of one run, for the rows to measure.

    A system that is not installed, cannot load, or fails is left out from then on, and `unavailable` says why.

    Args:
        bench: The folder with environments and checkpoints.
        folder: The checkpoint.
        minutes: How long the row may take; a measurement that has begun is finished.
        quick: A short run that tests that all works.
        only: Names of the systems to measure; by default all.
    """

    def __init__(
        self, bench: Path, folder: Path, minutes: float, *, quick: bool = False, only: Sequence[str] = ()
    ) -> None:
        self.bench = bench
        self.folder = folder
        self.quick = quick
        self.shape: Mapping[str, int] = SHAPES[folder.name][1]
        self.unavailable: dict[str, str] = {}
        self._only = only or tuple(SYSTEMS)
        self._began = time.monotonic()
        self._seconds = 60 * minutes
        self._processes: dict[str, Process] = {}
        self._settings: dict[str, Mapping[str, Any]] = {}
        self._peaks: dict[str, int] = {}
        self._cached: set[str] = set()
        self._gemm: Process | None = None
        for name, system in SYSTEMS.items():
            reason = environments.missing(bench, system.environment)
            if name not in self._only:
                self.unavailable[name] = "not asked for"
            elif reason:
                self.unavailable[name] = reason

    def late(self, share: float = 1.0) -> bool:
        """Whether a share of the time has passed."""
        return time.monotonic() - self._began > share * self._seconds

    def within(self, rounds: Iterable[T], share: float = 1.0) -> Iterator[T]:
        """Yield rounds, at least two, until a share of the time has passed."""
        for number, item in enumerate(rounds):
            if number >= 2 and self.late(share):
                return
            yield item

    def process(self, name: str) -> Process | None:
        """Return the process of a system, loaded at first use, or ``None`` if it cannot take part."""
        if name in self.unavailable:
            return None
        if name not in self._processes:
            with self.noting(name):
                self._processes[name] = self.open(SYSTEMS[name], self._settings.get(name))
        return self._processes.get(name)

    def present(self, *names: str) -> list[str]:
        """Return those systems of ``names`` that can take part, loaded."""
        return [name for name in names if self.process(name)]

    def alive(self, names: Iterable[str]) -> list[str]:
        """Return those of ``names`` that have not failed."""
        return [name for name in names if name not in self.unavailable]

    def restart(self, name: str, settings: Mapping[str, Any]) -> None:
        """Run a system by a new process with these settings from now on."""
        self._settings[name] = settings
        self._processes.pop(name).close()
        self.process(name)

    def relieve(self, name: str) -> None:
        """End the process of a system that holds much memory, so that all fit; the next message starts it again."""
        memory = self.ask(name, "memory")
        if memory and memory["now"] > _MUCH:
            self._peaks[name] = max(memory["peak"], self._peaks.get(name, 0))
            self._processes.pop(name).close()

    def awake(self, name: str) -> bool:
        """Whether a system has a process that is loaded."""
        return name in self._processes

    def peak(self, name: str) -> int | None:
        """Return the peak memory of a system's processes, in bytes."""
        memory = self.ask(name, "memory")
        return max(memory["peak"], self._peaks.get(name, 0)) if memory else None

    def ask(self, name: str, do: str, **message: Any) -> dict[str, Any] | None:
        """Send a message to a system; return the answer and the machine's load. A failure makes it unavailable."""
        process = self.process(name)
        if process is None:
            return None
        with self.noting(name):
            return {**process.ask(do, **message), "load": os.getloadavg()[0]}
        return None

    @contextmanager
    def noting(self, name: str) -> Iterator[None]:
        """Mark a system as unavailable if it fails in this block, with its error."""
        try:
            yield
        except SystemFailed as error:
            self.unavailable[name] = f"not available: {error}"

    def gemm(self) -> float:
        """Return GFLOP/s of fp32 matrix products of the checkpoint's shapes on all cores."""
        if self._gemm is None:
            self._gemm = Process(environments.python(self.bench, "torch"), "")
        return float(self._gemm.ask("gemm", hidden=self.shape["hidden"], inner=self.shape["inner"])["gflops"])

    def open(self, system: System, settings: Mapping[str, Any] | None = None) -> Process:
        """Start and load a system; its owner closes it.

        Raises:
            SystemFailed: It cannot be loaded.
        """
        self.prepare(system)
        if system.caches and system.title not in self._cached:  # its cache is filled once, outside the measurement
            self._cached.add(system.title)
            self.open(system, settings).close()
        process = Process(environments.python(self.bench, system.environment), system.loader)
        try:
            process.ask("load", folder=str(self.folder), settings={**system.settings, **(settings or {})})
        except SystemFailed:
            process.close()
            raise
        return process

    def prepare(self, system: System) -> None:
        """Make the file that only this system needs, if there is one and it is not there yet.

        Raises:
            SystemFailed: It cannot be made.
        """
        if system.prepare:
            process = Process(environments.python(self.bench, system.environment), system.prepare)
            try:
                process.ask("prepare", folder=str(self.folder))
            finally:
                process.close()

    @contextmanager
    def other(self, system: System) -> Iterator[Process]:
        """Yield a new process of a system, and close it afterwards."""
        process = self.open(system)
        try:
            yield process
        finally:
            process.close()

    def close(self) -> None:
        """End all processes."""
        for process in [*self._processes.values(), *([self._gemm] if self._gemm else [])]:
            process.close()
