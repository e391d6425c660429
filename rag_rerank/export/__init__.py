"""Turning a safetensors cross-encoder into folders that the ``onnx`` backend loads without torch."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from rag_rerank._files import write_folder
from rag_rerank._lazy import need
from rag_rerank._version import __version__
from rag_rerank.backends.local.model_files import RECORDS, TORCH_FILES, ModelFolder, locate
from rag_rerank.backends.local.pair_encoding import PairTokenizer
from rag_rerank.backends.local.samples import QUERIES, TEXTS, TOLERANCE
from rag_rerank.backends.local.torch_models.checkpoint import CrossEncoderModel, has_checkpoint, module_folders
from rag_rerank.backends.local.torch_models.prompt_templates import causal_architecture
from rag_rerank.backends.onnx import OnnxReranker
from rag_rerank.errors import ModelLoadError
from rag_rerank.export.compact_weights import compact
from rag_rerank.export.onnx_trace import OPSET, write_onnx, write_tokenizer

__all__ = ["ExportReport", "Weights", "copy_checkpoint", "export", "write_forms"]

_BATCH_TOKENS = 2048

_NOT_THE_MODEL = ("trainer_state.json", *RECORDS)
"""What may lie beside a checkpoint and is no part of the model."""

Weights = Literal["fp32", "int8"]
"""How weight matrices are stored."""


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What an export made.

    Args:
        path: The folder.
        weights: How the weights are stored.
        max_difference: Largest difference between the logits of the folder in ONNX Runtime and of PyTorch.
        pairs: On how many pairs of query and text they were compared.
        bytes: Size of the folder.
    """

    path: Path
    weights: Weights
    max_difference: float
    pairs: int
    bytes: int


def export(
    source: str,
    out: str | os.PathLike[str],
    *,
    revision: str | None = None,
    max_length: int | None = None,
    weights: Weights = "fp32",
) -> ExportReport:
    """Write a cross-encoder as ONNX with its tokenizer, and check its logits before the folder appears.

    The folder holds ``model.onnx``, ``config.json``, ``tokenizer.json``, ``tokenizer_config.json`` and
    ``rag_rerank.json``, which says where it comes from. It is loaded and run by the ``onnx`` backend itself; only if
    all logits are within `TOLERANCE` of PyTorch's is it put in place.

    Args:
        source: Alias or id of a model, or a folder with a safetensors checkpoint.
        out: The folder to make; it must not exist, or be empty.
        revision: Commit, branch or tag on the hub; by default the one that the catalogue pins.
        max_length: Window in tokens that the folder declares; by default the model's own.
        weights: ``"int8"`` stores weight matrices as int8 with one fp32 factor for each output, a fourth of the size;
            they are expanded at load, and the model computes in fp32. The check above is made before the rounding;
            by how much the rounded model differs stands in the report and in ``rag_rerank.json``.

    Raises:
        ConfigError: ``out`` holds something, cannot be made, or the disk is full; nothing is written.
        MissingExtraError: torch or sentence-transformers is not installed.
        ModelLoadError: The source cannot be loaded or is no cross-encoder, or the logits differ; nothing is written.
    """
    with write_folder(Path(out)) as draft:
        (report,) = write_forms(source, {weights: draft}, revision=revision, max_length=max_length)
    return replace(report, path=Path(out).absolute())


def write_forms(
    source: str,
    forms: Mapping[Weights, Path],
    *,
    revision: str | None = None,
    max_length: int | None = None,
    title: str | None = None,
    licence: str | None = None,
) -> list[ExportReport]:
    """Trace a cross-encoder once, check its logits, and write it into one folder for each way to store the weights.

    Args:
        source: As in `export`.
        forms: Storage of the weights -> a folder, which need not exist, without a model; all on one disk.
        revision: As in `export`.
        max_length: As in `export`.
        title: What ``rag_rerank.json`` calls the source; by default its id, or the folder as it was given.
        licence: What ``rag_rerank.json`` names as its licence; by default the catalogue's.

    Returns:
        A report for each form, in the order of ``forms``.

    Raises:
        MissingExtraError: torch or sentence-transformers is not installed.
        ModelLoadError: The source cannot be loaded or is no cross-encoder, or the logits differ.
        OSError: A write failed.
    """
    torch = need("torch", extra="torch")
    need("sentence_transformers", extra="torch")
    folder = locate(source, backend="torch", revision=revision, patterns=TORCH_FILES, complete=has_checkpoint)
    causal = causal_architecture(folder)
    if causal:
        raise ModelLoadError(
            f"{folder.name} is a causal language model ({causal}); only cross-encoders can be exported, so use it "
            'through the "torch" backend'
        )
    for form in forms.values():
        form.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=next(iter(forms.values())).parent) as temporary:
        scratch = Path(temporary)
        whole = forms.get("fp32", scratch / "fp32")
        whole.mkdir(exist_ok=True)
        window = folder.max_length(max_length)
        write_tokenizer(folder, whole, window)
        tokenizer = PairTokenizer(ModelFolder(whole, folder.name, folder.revision, folder.row), window)
        model = CrossEncoderModel(folder, "cpu", torch.float32)
        write_onnx(model, tokenizer, scratch / "graph", whole / "model.onnx", folder.name)
        differences = _checked(_differences(model, tokenizer, whole), folder.name)
        worst: dict[Weights, float] = {"fp32": max(differences)}
        if "int8" in forms:
            small = forms["int8"]
            for file in whole.glob("*.json"):
                shutil.copyfile(file, small / file.name)
            compact(whole / "model.onnx", small / "model.onnx")
            worst["int8"] = max(difference for _, difference in _differences(model, tokenizer, small))
    origin = {
        "source": title or folder.name,
        "revision": folder.revision,
        "licence": licence or (folder.row.licence if folder.row else None),
    }
    reports = []
    for weights, form in forms.items():
        _write_origin(form, origin, weights, worst[weights], len(differences))
        size = sum(file.stat().st_size for file in form.iterdir() if file.is_file())
        reports.append(ExportReport(form, weights, worst[weights], len(differences), size))
    return reports


def copy_checkpoint(source: Path, out: Path) -> None:
    """Copy what the ``torch`` backend reads of a checkpoint, weights unchanged; files that are there already stay.

    Beside a checkpoint of sentence-transformers there may lie other folders and what a trainer keeps; they stay behind.

    Raises:
        ModelLoadError: ``modules.json`` cannot be read.
        OSError: A file cannot be read or written.
    """
    for part in module_folders(ModelFolder(source, str(source), None, None)):
        for file in sorted(file for pattern in TORCH_FILES for file in (source / part).glob(pattern)):
            copy = out / part / file.name
            if file.name not in _NOT_THE_MODEL and not copy.exists():
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, copy)


def _differences(model: CrossEncoderModel, tokenizer: PairTokenizer, draft: Path) -> Iterator[tuple[float, float]]:
    """Yield each logit of the checkpoint, and by how much the folder's differs from it."""
    import torch

    with OnnxReranker(model=str(draft), optimize=False) as exported:  # the file itself, not what is made of it later
        for query in QUERIES:
            given = exported.score(query, TEXTS).values
            inputs = tokenizer.encode(query, TEXTS, "truncate")
            for rows, arrays in inputs.batch_arrays(_BATCH_TOKENS):
                with torch.inference_mode():
                    wanted = model.logits(arrays).tolist()
                for row, logit in zip(rows, wanted, strict=True):
                    difference = abs(given[row] - logit)
                    yield logit, difference if math.isfinite(difference) else math.inf


def _checked(compared: Iterator[tuple[float, float]], name: str) -> list[float]:
    """Return the differences, or raise `ModelLoadError` at the first that is more than rounding."""
    differences = []
    for logit, difference in compared:
        if difference > TOLERANCE * max(1.0, abs(logit)):
            raise ModelLoadError(
                f"the ONNX export of {name} is wrong: a logit differs by {difference:.2g} from PyTorch's "
                f"{logit:.4g}, and {TOLERANCE:.0e} of it would be let through; nothing was written"
            )
        differences.append(difference)
    return differences


def _write_origin(form: Path, origin: Mapping[str, Any], weights: Weights, worst: float, pairs: int) -> None:
    from importlib.metadata import version

    whole = {
        **origin,
        "opset": OPSET,
        "weights": weights,
        "max_difference": worst,
        "pairs": pairs,
        "made_by": {
            "rag_rerank": __version__,
            **{name: version(name) for name in ("torch", "sentence-transformers", "transformers")},
        },
    }
    (form / "rag_rerank.json").write_text(json.dumps(whole, indent=2) + "\n", encoding="utf-8")
