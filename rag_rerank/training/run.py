"""The record of a run: ``training.json``."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rag_rerank.evaluation import Problem
from rag_rerank.evaluation.measures import TOP_3
from rag_rerank.training._course import Point
from rag_rerank.training._validating import MEASURE, Quality
from rag_rerank.training.card import Figure
from rag_rerank.training.examples import Source
from rag_rerank.training.settings import Settings

__all__ = ["Run", "hardware", "versions"]


@dataclass(frozen=True, kw_only=True)
class Run:
    """What was trained on what, how, where, for how long, and what came of it.

    Args:
        folder: The folder that was made.
        base: Id or folder of the model that it began with.
        revision: Commit of its files, where they come from the hub.
        base_sha256: Hash of its weights, config and tokenizer.
        new_weights: Names of the weights that the base lacked, and that began as random numbers: a head.
        settings: The knobs.
        sources: Where the examples come from, with hashes of what was read.
        data_sha256: Hash of all examples as they were trained on, mined negatives and teacher scores included.
        queries: Queries that were learnt from.
        pairs: Pairs of a query and a passage that were learnt from.
        validation_sha256: Hash of the validation; ``None`` without one.
        validation_name: What the validation is called; ``None`` without one.
        validation_queries: How many queries were validated on.
        incoming: How good the order was in which the passages of the validation came.
        steps: Steps that were planned; the last point of the curve says how many were done.
        best_step: The step whose weights are in the folder; 0 is the base.
        curve: Loss, nDCG@10 and lift at top-3 by step.
        problems: What was left out.
        sessions: When it was begun or gone on with (UTC), and from the checkpoint of which step.
        ended: When it ended (UTC).
        seconds: Time that training and validating took, in all sessions.
        versions: Of Python and of the libraries that decide the numbers.
        hardware: Processor, cores, and the device that computed.
    """

    folder: Path
    base: str
    revision: str | None
    base_sha256: str
    new_weights: tuple[str, ...]
    settings: Settings
    sources: tuple[Source, ...]
    data_sha256: str
    queries: int
    pairs: int
    validation_sha256: str | None
    validation_name: str | None
    validation_queries: int
    incoming: Quality | None
    steps: int
    best_step: int
    curve: tuple[Point, ...]
    problems: tuple[Problem, ...]
    sessions: tuple[Mapping[str, Any], ...]
    ended: str
    seconds: float
    versions: Mapping[str, str]
    hardware: Mapping[str, Any]

    @property
    def before(self) -> Point:
        """The base, before the first step."""
        return self.curve[0]

    @property
    def best(self) -> Point:
        """The step whose weights are in the folder."""
        return next(point for point in self.curve if point.step == self.best_step)

    def figures(self) -> Iterator[Figure]:
        """Yield what the model card says of the validation; nothing without one."""
        if self.incoming is None or not self.validation_name or self.best.ndcg is None or self.best.lift is None:
            return
        base = "the base model with an untrained head" if self.new_weights else "the base model"
        came = "the order in which they came"
        top3 = self.incoming.top3
        for measure, after, before, baseline in (
            (MEASURE, self.best.ndcg, self.before.ndcg, base),
            (MEASURE, self.best.ndcg, self.incoming.ndcg, came),
            (TOP_3, top3 + self.best.lift, top3, came),
        ):
            yield Figure(
                data=self.validation_name,
                measure=measure,
                after=after,
                before=before,
                baseline=baseline,
                queries=self.validation_queries,
            )

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON has it, for ``training.json``; schema 1."""
        found = {name: value for name, value in asdict(self).items() if name != "folder"}
        return {"schema": 1, **found}


def versions() -> dict[str, str]:
    """Return the versions of what decides the numbers."""
    from importlib.metadata import version

    names = ("torch", "transformers", "sentence-transformers", "accelerate", "tokenizers")
    from rag_rerank import __version__

    return {"python": platform.python_version(), "rag_rerank": __version__, **{name: version(name) for name in names}}


def hardware(device: str) -> dict[str, Any]:
    """Return the processor, its cores and threads, and the device that computes."""
    import torch

    card = torch.cuda.get_device_name(device) if device.startswith("cuda") else None
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": f"{device} ({card})" if card else device,
    }


def _processor() -> str:
    cpus = Path("/proc/cpuinfo")
    lines = cpus.read_text(encoding="utf-8", errors="replace").splitlines() if cpus.is_file() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()
