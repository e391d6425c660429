"""Trace a cross-encoder into an ONNX file by PyTorch, and copy its tokenizer."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

from rag_rerank.backends.local.model_files import ModelFolder, read_json
from rag_rerank.backends.local.pair_encoding import PairTokenizer
from rag_rerank.backends.local.samples import QUERIES, TEXTS
from rag_rerank.backends.local.torch_models.checkpoint import CrossEncoderModel, quiet
from rag_rerank.errors import ModelLoadError

__all__ = ["OPSET", "write_onnx", "write_tokenizer"]

OPSET = 17
"""The first ONNX operator set with LayerNormalization."""


def write_tokenizer(folder: ModelFolder, draft: Path, window: int) -> None:
    """Copy config and tokenizer, converted where there is no ``tokenizer.json``, and declare the window.

    Raises:
        ModelLoadError: No tokenizer can be made from the files.
        OSError: A write failed.
    """
    shutil.copyfile(folder.path / "config.json", draft / "config.json")
    if (folder.path / "tokenizer.json").is_file():
        for name in ("tokenizer.json", "tokenizer_config.json"):
            if (folder.path / name).is_file():
                shutil.copyfile(folder.path / name, draft / name)
    else:
        from transformers import AutoTokenizer

        try:
            AutoTokenizer.from_pretrained(folder.path, local_files_only=True).save_pretrained(draft)
        except Exception as error:  # transformers raises many kinds of errors for broken files
            raise ModelLoadError(f"{folder.name}: no tokenizer can be made from its files: {error}") from error
    file = draft / "tokenizer_config.json"
    settings = dict(read_json(file, folder.name)) if file.is_file() else {}
    file.write_text(json.dumps({**settings, "model_max_length": window}, indent=2), encoding="utf-8")


def write_onnx(model: CrossEncoderModel, tokenizer: PairTokenizer, graph: Path, file: Path, name: str) -> None:
    """Trace a model into an ONNX file that takes batches of any size and length, and returns ``logits``.

    Args:
        model: The model.
        tokenizer: Makes its inputs.
        graph: A folder to trace in, which does not exist: the exporter may put weights beside the file.
        file: The file to write.
        name: The model's name, for messages.

    Raises:
        ModelLoadError: PyTorch cannot trace it.
        OSError: A write failed.
    """
    import torch

    graph.mkdir()

    class Logits(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.cross_encoder = model.module

        def forward(self, *inputs: Any) -> Any:
            return self.cross_encoder(dict(zip(model.inputs, inputs, strict=True)))["scores"]

    _, arrays = next(tokenizer.encode(QUERIES[0], TEXTS, "truncate").batch_arrays(10**6))
    try:
        with quiet(), warnings.catch_warnings(), torch.inference_mode():
            warnings.simplefilter("ignore")  # the tracer's warnings: comparing the logits finds its mistakes
            torch.onnx.export(
                Logits().eval(),
                tuple(torch.from_numpy(arrays[input]) for input in model.inputs),
                str(graph / "model.onnx"),
                input_names=list(model.inputs),
                output_names=["logits"],
                dynamic_axes={**{i: {0: "batch", 1: "sequence"} for i in model.inputs}, "logits": {0: "batch"}},
                opset_version=OPSET,
                dynamo=False,  # the newer exporter needs onnxscript, and gains nothing for these models
            )
    except OSError:
        raise
    except Exception as error:  # the exporter raises many kinds of errors
        raise ModelLoadError(f"PyTorch cannot export {name} to ONNX: {error}") from error
    _put_in_place(graph, file)


def _put_in_place(graph: Path, file: Path) -> None:
    """Move a traced model to its place; weights in other files (of models over 2 GB) go into one file beside it."""
    import onnx

    traced = graph / "model.onnx"
    if list(graph.iterdir()) == [traced]:
        traced.rename(file)
    else:
        onnx.save_model(onnx.load(traced), file, save_as_external_data=True, location=f"{file.name}_data")
