"""The record of a training run: ``training.json``."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rag_rerank._version import __version__
from rag_rerank.evaluation import Problem
from rag_rerank.evaluation.measures import TOP_3
from rag_rerank.training.data.examples import Source
from rag_rerank.training.early_stopping import Point
from rag_rerank.training.model_card.card import Figure
from rag_rerank.training.settings import TrainingSettings
from rag_rerank.training.validation import MEASURE, Quality

__all__ = ["TrainingRun", "describe_hardware", "library_versions"]


@dataclass(frozen=True, kw_only=True)
class TrainingRun:
    """What was trained, on which data, how, where and for how long, and the outcome.

    Args:
        folder: The finished folder.
        base: Id or folder of the model that it started from.
        revision: Commit of its files, where they come from the hub.
        base_sha256: Hash of its weights, config and tokenizer.
        new_weights: Names of the weights that the base lacked, and that started as random numbers: a head.
        settings: The settings.
        sources: Where the examples come from, with hashes of what was read.
        data_sha256: Hash of all examples as they were trained on, mined negatives and teacher scores included.
        queries: Queries that the loss could learn from.
        pairs: Pairs of a query and a passage that the loss could learn from.
        validation_sha256: Hash of the validation; ``None`` without one.
        validation_name: Name of the validation; ``None`` without one.
        validation_queries: Number of its queries.
        incoming: Quality of the order in which the passages of the validation came.
        steps: Planned number of steps; the last point of the curve says how many were done.
        best_step: The step whose weights are in the folder; 0 is the base.
        curve: Loss, nDCG@10 and lift at top-3 by step.
        problems: What was left out.
        sessions: When it was started or resumed (UTC), and from the checkpoint of which step.
        end_time: When it ended (UTC); ``ended`` in ``training.json``.
        seconds: Time of training and validation, in all sessions.
        versions: Versions of Python and of the libraries that decide the numbers.
        hardware: Processor, cores, and device.
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
    end_time: str
    seconds: float
    versions: Mapping[str, str]
    hardware: Mapping[str, Any]

    @property
    def before(self) -> Point:
        """The base, before the first step."""
        return self.curve[0]

    @property
    def best(self) -> Point:
        """The point whose weights are in the folder."""
        return next(point for point in self.curve if point.step == self.best_step)

    def figures(self) -> Iterator[Figure]:
        """Yield the figures on the validation for the model card; none without a validation."""
        if self.incoming is None or not self.validation_name or self.best.ndcg is None or self.best.lift is None:
            return
        base = "the base model with an untrained head" if self.new_weights else "the base model"
        incoming = "the order in which they came"
        top3 = self.incoming.top3
        for measure, after, before, baseline in (
            (MEASURE, self.best.ndcg, self.before.ndcg, base),
            (MEASURE, self.best.ndcg, self.incoming.ndcg, incoming),
            (TOP_3, top3 + self.best.lift, top3, incoming),
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
        """Return the content of ``training.json``, schema 1, as plain values."""
        values = {name: value for name, value in asdict(self).items() if name != "folder"}
        return {"schema": 1, **{"ended" if name == "end_time" else name: value for name, value in values.items()}}


def library_versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that decide the numbers."""
    from importlib.metadata import version

    names = ("torch", "transformers", "sentence-transformers", "accelerate", "tokenizers")
    return {"python": platform.python_version(), "rag_rerank": __version__, **{name: version(name) for name in names}}


def describe_hardware(device: str) -> dict[str, Any]:
    """Return processor, cores, threads, and the device of the training."""
    import torch

    gpu = torch.cuda.get_device_name(device) if device.startswith("cuda") else None
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": f"{device} ({gpu})" if gpu else device,
    }


def _processor() -> str:
    cpus = Path("/proc/cpuinfo")
    lines = cpus.read_text(encoding="utf-8", errors="replace").splitlines() if cpus.is_file() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()
