"""The record of a training run (``training.json``), and its state while it runs."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rag_rerank._version import __version__
from rag_rerank.evaluation import Problem
from rag_rerank.evaluation.measures import TOP_3
from rag_rerank.training.data.examples import Source
from rag_rerank.training.model_card.card import Figure
from rag_rerank.training.settings import TrainingSettings
from rag_rerank.training.validation import MEASURE, Quality

__all__ = ["Point", "TrainingRun", "TrainingState", "hardware", "versions"]


@dataclass(frozen=True, kw_only=True)
class Point:
    """Where a run stood after some steps.

    Args:
        step: Steps that were done.
        loss: Mean loss of the steps since the point before; ``None`` before the first step.
        ndcg: nDCG@10 on the validation, if there is one.
        lift: Lift at top-3 on the validation.
    """

    step: int
    loss: float | None
    ndcg: float | None = None
    lift: float | None = None


@dataclass
class TrainingState:
    """The curve so far, which step is the best, and for how long nothing better came.

    Args:
        curve: Points in order of steps.
        best_step: The step with the best nDCG@10; without a validation, the last one once it is done, before that 0.
        best: Its nDCG@10.
        stale: Validations since.
        finished: Whether the last step was done, or patience was at its end.
        losses: Losses of the steps since the last point.
        sessions: When it was begun and gone on with, and from which step.
        seconds: Time that training took, in all sessions.
    """

    curve: list[Point] = field(default_factory=list)
    best_step: int = 0
    best: float | None = None
    stale: int = 0
    finished: bool = False
    losses: list[float] = field(default_factory=list)
    sessions: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0

    def add(self, step: int, quality: Quality | None) -> bool:
        """Add a point; return whether it is the best so far."""
        loss = sum(self.losses) / len(self.losses) if self.losses else None
        self.losses.clear()
        ndcg, lift = (None, None) if quality is None else (quality.ndcg, quality.lift)
        self.curve.append(Point(step=step, loss=loss, ndcg=ndcg, lift=lift))
        if ndcg is None:
            return False
        if self.best is not None and ndcg <= self.best:
            self.stale += 1
            return False
        self.best_step, self.best, self.stale = step, ndcg, 0
        return True

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON has it; floats come back as they were."""
        return asdict(self)

    @classmethod
    def from_dict(cls, found: Mapping[str, Any]) -> TrainingState:
        """Return what `to_dict` made a dictionary of."""
        known = {name: found[name] for name in cls.__dataclass_fields__}
        return cls(**{**known, "curve": [Point(**point) for point in found["curve"]]})


@dataclass(frozen=True, kw_only=True)
class TrainingRun:
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
    settings: TrainingSettings
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
