"""The rows of the benchmark. Each takes a `Session` and returns its measurements, one mapping each."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from statistics import median

from benchmarks.speed import environments
from benchmarks.speed.limit import flops
from benchmarks.speed.process import Process
from benchmarks.speed.session import Measurement, Session
from benchmarks.speed.systems import REFERENCE, SYSTEMS
from benchmarks.speed.texts import SKEW, Case, cases, even

SKEWS = (SKEW, 0.25)
BATCHES = (4, 8, 16, 32)
TUNING = 500
"""Number of the first case that is used for choosing a batch size; none of those is measured."""
WARMING = 800
"""Number of the first case that only warms up."""


def main(session: Session) -> Iterator[Measurement]:
    """100 candidates, every system in turn, at two skews; then memory, padding and the reference scores."""
    names = session.present(*SYSTEMS)
    if "st-best" in names:
        yield from _tune(session)
    rounds = 2 if session.quick else 10
    for skew in SKEWS:
        (first,) = cases(1, 100, skew, WARMING)
        for name in session.alive(names):
            session.ask(name, "rerank", query=first.query, texts=first.texts)
            slots = session.ask(name, "slots", query=first.query, texts=first.texts)
            if slots:
                yield {"what": "slots", "system": name, "skew": skew, "slots": slots["slots"], "lengths": first.lengths}
        case_list = cases(rounds, 100, skew)
        done = 0
        for number, case in session.within(enumerate(case_list), share=0.7 if skew == SKEW else 1.0):
            yield {"what": "gemm", "skew": skew, "gflops": session.gemm(), "flops": flops(session.shape, case.lengths)}
            for measured in _turn(session, names, case, number):
                yield {"what": "rerank", "skew": skew, "case": number, **measured}
            done = number + 1
        if skew == SKEW:
            for name in session.alive(names):
                yield {"what": "memory", "system": name, "peak": session.peak(name)}
            for number, case in enumerate(case_list[: min(done, 1 if session.quick else 3)]):
                with session.noting("reference"), session.other(REFERENCE) as reference:
                    answer = reference.ask("rerank", query=case.query, texts=case.texts)
                    yield {"what": "reference", "case": number, "scores": answer["scores"]}


def scale(session: Session) -> Iterator[Measurement]:
    """From 10 candidates to 1,000."""
    names = session.present("ours", "ours-int8", "st", "st-best", "flashrank", "fastembed")
    if "st-best" in names:
        yield from _tune(session)
    (first,) = cases(1, 50, first=WARMING)
    for name in names:
        session.ask(name, "rerank", query=first.query, texts=first.texts)
    sizes = {10: 1, 50: 1} if session.quick else {10: 7, 50: 5, 100: 3, 300: 2, 1000: 1}
    for size, rounds in sizes.items():
        for number, case in enumerate(cases(rounds, size)):
            if number and session.late():
                break
            for measured in _turn(session, names, case, number):
                yield {"what": "rerank", "candidates": size, "case": number, **measured}


def callers(session: Session) -> Iterator[Measurement]:
    """1 to 64 callers of 20 candidates each on one instance."""
    names = session.present("ours", "st", "st-onnx", "fastembed")
    variants = [(name, False) for name in names] + [("ours", True)]
    counts = {1: 2, 4: 4} if session.quick else {1: 12, 4: 16, 16: 32, 64: 64}
    for number, (count, calls) in enumerate(counts.items()):
        case_list = [(case.query, case.texts) for case in cases(calls, 20, first=100 * number)]
        for name, asynchronous in variants[:: 1 - 2 * (number % 2)]:
            answer = session.ask(name, "callers", calls=case_list, callers=count, asynchronous=asynchronous)
            if answer:
                yield {"what": "callers", "system": name, "asynchronous": asynchronous, "callers": count, **answer}


def cold(session: Session) -> Iterator[Measurement]:
    """From the start of a process to its first score, the files in the page cache."""
    (case,) = cases(1, 1, first=WARMING)
    names = session.alive(name for name in SYSTEMS if name != "st-best")
    for name in names:
        with session.noting(name):
            session.prepare(SYSTEMS[name])
    for repeat in range(-1, 1 if session.quick else 5):
        for name in session.alive(names)[:: 1 - 2 * (repeat % 2)]:
            with tempfile.TemporaryDirectory() as home:
                starts = ("first ever", "later") if SYSTEMS[name].caches else ("later",)
                for start in starts:
                    with session.noting(name):
                        measured = _started(session, name, case, {"HOME": home, "XDG_CACHE_HOME": f"{home}/cache"})
                        if repeat >= 0:  # the first time only fills the page cache
                            yield {"what": "cold", "system": name, "start": start, "case": repeat, **measured}


def memory(session: Session) -> Iterator[Measurement]:
    """The peak memory of this library on large calls, above that of the loaded model."""
    sizes = ((50, 512), (200, 100)) if session.quick else ((1000, 512), (10_000, 100))
    (small,) = cases(1, 1, first=WARMING)
    for name in session.alive(("ours", "ours-int8")):
        for candidates, length in sizes:
            case = even(candidates, length)
            with session.noting(name), session.other(SYSTEMS[name]) as process:
                process.ask("rerank", query=small.query, texts=small.texts)
                loaded = process.ask("memory")["now"]
                process.ask("forget_peak")
                timing = process.ask("rerank", query=case.query, texts=case.texts)
                figures = {"loaded": loaded, "peak": process.ask("memory")["peak"], "wall": timing["wall"]}
                yield {"what": "memory", "system": name, "candidates": candidates, "length": length, **figures}


def size(session: Session) -> Iterator[Measurement]:
    """The disk space of an installation of each system."""
    for name, system in SYSTEMS.items():
        if system.requirements and not session.unavailable.get(name):
            figures = environments.size(session.bench, system.environment, *system.requirements)
            yield {"what": "size", "system": name, **figures}


ROWS: Mapping[str, tuple[Callable[[Session], Iterator[Measurement]], float]] = {
    "main": (main, 16),
    "scale": (scale, 11),
    "callers": (callers, 5),
    "cold": (cold, 3),
    "memory": (memory, 4),
    "size": (size, 1),
}
"""Name -> row, and its share of the time."""


def _turn(session: Session, names: Sequence[str], case: Case, number: int) -> Iterator[Measurement]:
    """Let every system rank one case, in reverse order every other time."""
    (warming,) = cases(1, 20, first=WARMING)
    for name in session.alive(names)[:: 1 - 2 * (number % 2)]:
        if not session.awake(name):
            session.ask(name, "rerank", query=warming.query, texts=warming.texts)
        answer = session.ask(name, "rerank", query=case.query, texts=case.texts)
        if answer:
            yield {"system": name, **answer}
            session.relieve(name)


def _tune(session: Session) -> Iterator[Measurement]:
    """Choose the batch size of ``st-best`` on cases that are not measured, and restart it with that size."""
    walls: dict[int, list[float]] = {batch: [] for batch in BATCHES}
    for case in cases(1 if session.quick else 3, 100, first=TUNING):
        for batch in BATCHES:
            session.ask("st-best", "load", folder=str(session.folder), settings={"batch": batch})
            session.ask("st-best", "rerank", query=case.query, texts=case.texts[:8])
            answer = session.ask("st-best", "rerank", query=case.query, texts=case.texts)
            if answer is None:
                return
            walls[batch].append(answer["wall"])
    best = min(BATCHES, key=lambda batch: median(walls[batch]))
    session.restart("st-best", {"batch": best})
    yield {"what": "tuning", "system": "st-best", "walls": walls, "best": best}


def _started(session: Session, name: str, case: Case, variables: dict[str, str]) -> dict[str, float]:
    system = SYSTEMS[name]
    began = time.perf_counter()
    process = Process(environments.python(session.bench, system.environment), system.loader, variables)
    try:
        load = process.ask("load", folder=str(session.folder), settings=system.settings)
        first = process.ask("rerank", query=case.query, texts=case.texts)
        return {"wall": time.perf_counter() - began, "load": load["wall"], "first": first["wall"]}
    finally:
        process.close()
