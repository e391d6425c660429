"""ONNX folders of a cross-encoder: write them, run them once, and compare their logits with PyTorch's."""

from __future__ import annotations

import json
import math
import os
import shutil
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, get_args

from rag_rerank._files import write_folder
from rag_rerank._lazy import need
from rag_rerank._version import __version__
from rag_rerank.backends.local.model_files import TORCH_FILES, ModelFolder, locate
from rag_rerank.backends.local.samples import QUERIES, TEXTS, TOLERANCE
from rag_rerank.backends.local.torch_models import llama_bidirectional
from rag_rerank.backends.local.torch_models.checkpoint import CrossEncoderModel, cross_encoder, has_checkpoint
from rag_rerank.backends.local.torch_models.prompt_templates import causal_architecture
from rag_rerank.backends.onnx import OnnxReranker
from rag_rerank.errors import BackendError, ModelLoadError, ReadabilityWarning
from rag_rerank.export.compact_weights import CompactWeights, compact
from rag_rerank.export.onnx_trace import OPSET, write_onnx, write_tokenizer
from rag_rerank.rank_correlation import relative_difference

__all__ = ["ExportReport", "Weights", "export", "write_forms"]

Weights = Literal["fp32", "int8", "int4"]
"""How weight matrices are stored."""


@dataclass(frozen=True, slots=True)
class ExportReport:
    """The outcome of an export.

    Args:
        path: The folder.
        weights: How the weights are stored.
        max_difference: Largest difference between a logit of the folder in ONNX Runtime and the one of PyTorch.
        pairs: How many pairs of query and text were compared.
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
    ``rag_rerank.json``, which names its source. The ``onnx`` backend loads and runs it for a check, and it is put in
    place only if all logits are within `TOLERANCE` of PyTorch's.

    Args:
        source: Alias or id of a model, or a folder with a safetensors checkpoint.
        out: The folder to make; it must not exist, or be empty.
        revision: Commit, branch or tag on the hub; by default the one that the catalogue pins.
        max_length: Window in tokens that the folder declares; by default the model's own.
        weights: ``"int8"`` stores weight matrices as int8 with one fp32 factor for each output, a quarter of the size;
            ``"int4"`` stores them as 4-bit numbers with one fp16 factor for each 32, a seventh of the size. They are
            expanded at load, and the model computes in fp32. The check is made before the weights are rounded; the
            report and ``rag_rerank.json`` say by how much the rounded model differs.

    Raises:
        ConfigError: ``out`` holds something, cannot be made, or the disk is full; nothing is written.
        MissingExtraError: torch or sentence-transformers is not installed.
        ModelLoadError: The source cannot be loaded or is not a cross-encoder, or the logits differ; nothing is written.
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
        forms: Way to store the weights -> folder without a model, which need not exist; all on one disk.
        revision: As in `export`.
        max_length: As in `export`.
        title: Name of the source in ``rag_rerank.json``; by default its id, or the folder as it was given.
        licence: Licence in ``rag_rerank.json``; by default the catalogue's.

    Returns:
        A report for each form, in the order of ``forms``.

    Raises:
        MissingExtraError: torch or sentence-transformers is not installed.
        ModelLoadError: The source cannot be loaded or is not a cross-encoder, or the logits differ.
        OSError: A write failed.
    """
    torch = need("torch", extra="torch")
    need("sentence_transformers", extra="torch")
    folder = _locate_cross_encoder(source, revision)
    for form in forms.values():
        form.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=next(iter(forms.values())).parent) as temporary:
        scratch = Path(temporary)
        fp32 = forms.get("fp32", scratch / "fp32")
        fp32.mkdir(exist_ok=True)
        model = CrossEncoderModel(folder, "cpu", torch.float32, max_length=max_length)
        write_tokenizer(model, folder, fp32)
        write_onnx(model, scratch / "graph", fp32 / "model.onnx", folder.name)
        expected = _library_logits(folder, model.window)
        differences = _check(_logit_pairs(expected, fp32), folder.name)
        largest: dict[Weights, float] = {"fp32": max(differences)}
        for bits in get_args(CompactWeights):
            if bits in forms:
                form = forms[bits]
                for file in fp32.glob("*.json"):
                    shutil.copyfile(file, form / file.name)
                compact(fp32 / "model.onnx", form / "model.onnx", bits)
                largest[bits] = max(_difference(*pair) for pair in _logit_pairs(expected, form))
    origin = {
        "source": title or folder.name,
        "revision": folder.revision,
        "licence": licence or (folder.row.licence if folder.row else None),
    }
    reports = []
    for weights, form in forms.items():
        _write_origin(form, origin, weights, largest[weights], len(differences))
        size = sum(file.stat().st_size for file in form.iterdir() if file.is_file())
        reports.append(ExportReport(form, weights, largest[weights], len(differences), size))
    return reports


def _locate_cross_encoder(source: str, revision: str | None) -> ModelFolder:
    folder = locate(source, backend="torch", revision=revision, patterns=TORCH_FILES, complete=has_checkpoint)
    causal = causal_architecture(folder)
    if causal:
        raise ModelLoadError(
            f"{folder.name} is a causal language model ({causal}); only cross-encoders can be exported, so use it "
            'through the "torch" backend'
        )
    if folder.config.get("model_type") == llama_bidirectional.MODEL_TYPE:
        raise ModelLoadError(
            f'{folder.name} reads a prompt of its own, which an export cannot hold; use it through the "torch" backend'
        )
    return folder


def _library_logits(folder: ModelFolder, window: int) -> list[list[float]]:
    """Return the logits of the sample pairs as sentence-transformers computes them, from the texts on.

    None of this library's code makes the inputs, so that a difference in the inputs is found, too. Pairs are computed
    one at a time, because some models give other logits where there is padding.
    """
    import torch

    module = cross_encoder(folder, "cpu", torch.float32).eval()
    module.max_seq_length = window
    return [[_one_logit(module.predict([(query, text)], batch_size=1)[0]) for text in TEXTS] for query in QUERIES]


def _one_logit(output: Any) -> float:
    """Return the logit of a pair; of two, the second less the first."""
    numbers = [float(number) for number in output.reshape(-1)]
    return numbers[0] if len(numbers) == 1 else numbers[1] - numbers[0]


def _logit_pairs(expected: list[list[float]], folder: Path) -> Iterator[tuple[float, float]]:
    """Yield, for each sample pair, the logit of the exported folder and that of the checkpoint."""
    # the file itself, not the graph built from it, on texts in several scripts, whether the model can read them or not
    with warnings.catch_warnings(), OnnxReranker(model=str(folder), optimize=False, on_unreadable="score") as exported:
        warnings.simplefilter("ignore", ReadabilityWarning)
        for query, logits in zip(QUERIES, expected, strict=True):
            try:
                values = exported.score(query, TEXTS).values
            except BackendError as error:
                raise ModelLoadError(
                    "the ONNX export of this architecture does not run on inputs of other lengths than the traced one, "
                    f'and nothing was written; use the "torch" backend: {error}'
                ) from error
            yield from zip(values, logits, strict=True)


def _difference(value: float, logit: float) -> float:
    difference = abs(value - logit)
    return difference if math.isfinite(difference) else math.inf


def _check(pairs: Iterable[tuple[float, float]], name: str) -> list[float]:
    """Return the differences of the pairs, or raise `ModelLoadError` at the first that is more than rounding."""
    differences = []
    for value, logit in pairs:
        differences.append(_difference(value, logit))
        if not relative_difference(value, logit) <= TOLERANCE:
            raise ModelLoadError(
                f"the ONNX export of {name} is wrong: a logit differs by {differences[-1]:.2g} from PyTorch's "
                f"{logit:.4g}, and only {TOLERANCE:.0e} of it is allowed; nothing was written"
            )
    return differences


def _write_origin(form: Path, origin: Mapping[str, Any], weights: Weights, max_difference: float, pairs: int) -> None:
    from importlib.metadata import version

    content = {
        **origin,
        "opset": OPSET,
        "weights": weights,
        "max_difference": max_difference,
        "pairs": pairs,
        "made_by": {
            "rag_rerank": __version__,
            **{name: version(name) for name in ("torch", "sentence-transformers", "transformers")},
        },
    }
    (form / "rag_rerank.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
