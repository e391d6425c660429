"""Turn a checkpoint into the folder that every local backend loads; it appears complete or not at all."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rag_rerank._files import write_folder
from rag_rerank.backends.local.torch_models.checkpoint import copy_checkpoint
from rag_rerank.compose import CalibrationMap, Unjudged
from rag_rerank.config import build
from rag_rerank.errors import ConfigError, InputError
from rag_rerank.evaluation import Judged, calibrate
from rag_rerank.export import ExportReport, write_forms
from rag_rerank.training.base_model import OWN_MODEL_TYPES
from rag_rerank.training.model_card.card import Card, ModelMeasurements
from rag_rerank.training.model_card.readme import render

__all__ = ["TrainedModel", "complete"]

_MAP = "calibration.json"
_FORMS = ("onnx", "int8")
"""Folders of the two ONNX files, fp32 and int8."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedModel:
    """A finished model.

    Args:
        path: The folder.
        card: The card in ``README.md``, with the measurements of the folder.
        calibration: The map in ``calibration.json``; ``None`` if there is none: `card` says why.
    """

    path: Path
    card: Card
    calibration: CalibrationMap | None


def complete(
    checkpoint: Path,
    out: Path,
    *,
    calibration: Judged | None = None,
    unjudged: Unjudged = "left out",
    card: Card,
    run: Mapping[str, Any] | None = None,
) -> TrainedModel:
    """Make the folder of a trained cross-encoder: for PyTorch, for ONNX Runtime in fp32 and int8, with map and card.

    The checkpoint is read only. Its weights are copied as they are; it is traced once, and the ONNX logits are compared
    with PyTorch's as `rag_rerank.export` does, before the folder appears.

    Maps from scores to probabilities are fitted for the folder as ``onnx:OUT`` and ``onnx:OUT/int8`` with their default
    settings. With others, or with ``torch:OUT``, `CalibrationWarning` says that the map was fitted on something else.

    Args:
        checkpoint: Folder of a safetensors cross-encoder, plain or modular, as sentence-transformers saves it.
        out: The folder to make; it must not exist, or be empty.
        calibration: Judged queries that were not trained on. Without them, or if they do not suffice for a fit, there
            is no map, and the card says why.
        unjudged: How the fit counts their candidates without a judgment (`rag_rerank.evaluation.calibrate`).
        card: The card so far; window, sizes and calibration are filled in here.
        run: The record of the run, written to ``training.json``.

    Raises:
        ConfigError: ``out`` holds something or cannot be made, the disk is full, or ``run`` has no JSON form.
        MissingExtraError: torch, sentence-transformers, or what fits a map is not installed.
        ModelLoadError: The checkpoint cannot be loaded or is not a cross-encoder, or its ONNX logits differ.
    """
    record = None if run is None else _record(run)
    with write_folder(out) as draft:
        reports = write_forms(
            str(checkpoint.absolute()),
            {"fp32": draft, "int8": draft / "int8"},
            title=card.name,
            licence=card.licence,
        )
        (draft / "onnx").mkdir()
        for file in list(draft.glob("model.onnx*")):
            file.rename(draft / "onnx" / file.name)
        copy_checkpoint(checkpoint, draft)
        if record is not None:
            (draft / "training.json").write_text(record, encoding="utf-8")
        outcome = _calibrate(draft, calibration, unjudged, card.name)
        provenance = outcome if isinstance(outcome, str) else outcome.fitted
        final_card = replace(card, measured=_measure(draft, reports), calibration=provenance)
        (draft / "README.md").write_text(render(final_card), encoding="utf-8")
    calibration_map = None if isinstance(outcome, str) else outcome
    return TrainedModel(path=out.absolute(), card=final_card, calibration=calibration_map)


def _record(run: Mapping[str, Any]) -> str:
    try:
        return json.dumps(run, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    except (TypeError, ValueError) as error:
        raise ConfigError(f"the record of the run has no JSON form: {error}", path="run") from error


def _calibrate(draft: Path, judged: Judged | None, unjudged: Unjudged, name: str) -> CalibrationMap | str:
    """Fit and write a map for each ONNX file; return the fp32 file's map, or why there is none.

    A map names the model and not the folder, which is a draft and a path of this machine. Its identity ties it to the
    folder: a hash of the folder's files without the maps, wherever they are.
    """
    if judged is None:
        return "there were no judged queries to fit it on"
    maps = {}
    for folder, label in ((draft, f"onnx:{name}"), (draft / "int8", f"onnx:{name}/int8")):
        with build({"type": "onnx", "model": str(folder), "name": label}) as reranker:
            try:
                fitted = calibrate(reranker, judged, unjudged=unjudged)
            except InputError as error:
                return str(error)
        maps[folder] = replace(fitted, fitted=replace(fitted.fitted, model=name))
    for folder, calibration_map in maps.items():
        calibration_map.save(folder / _MAP)
    return maps[draft]


def _measure(draft: Path, reports: list[ExportReport]) -> ModelMeasurements:
    from safetensors import safe_open

    files = [*sorted(draft.rglob("*.safetensors")), *sorted(draft.rglob("model.onnx*"))]
    parameters = 0
    for file in draft.rglob("*.safetensors"):
        with safe_open(file, framework="numpy") as weights:
            parameters += sum(math.prod(weights.get_slice(name).get_shape()) for name in weights.keys())  # noqa: SIM118
    settings = json.loads((draft / "tokenizer_config.json").read_text(encoding="utf-8"))
    return ModelMeasurements(
        window=settings["model_max_length"],
        parameters=parameters,
        bytes={file.relative_to(draft).as_posix(): file.stat().st_size for file in files},
        differences={folder: report.max_difference for folder, report in zip(_FORMS, reports, strict=True)},
        pairs=reports[0].pairs,
        ours=json.loads((draft / "config.json").read_text(encoding="utf-8")).get("model_type") in OWN_MODEL_TYPES,
    )
