"""Trace a cross-encoder into an ONNX file by PyTorch, and copy its tokenizer."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

from rag_rerank.backends.local.model_files import ModelFolder, read_json
from rag_rerank.backends.local.model_tokenizer import MASK
from rag_rerank.backends.local.samples import QUERIES, TEXTS
from rag_rerank.backends.local.torch_models.checkpoint import CrossEncoderModel, quiet
from rag_rerank.errors import ModelLoadError

__all__ = ["OPSET", "write_onnx", "write_tokenizer"]

OPSET = 17
"""The first ONNX operator set with LayerNormalization."""


def write_tokenizer(model: CrossEncoderModel, folder: ModelFolder, draft: Path) -> None:
    """Write config and tokenizer as transformers has loaded them, and declare the window and the model's inputs.

    What a tokenizer gives by default differs between releases of transformers; here it is stated.

    Raises:
        OSError: A write failed.
    """
    shutil.copyfile(folder.path / "config.json", draft / "config.json")
    tokenizer = model.module.tokenizer
    tokenizer.save_pretrained(draft)
    file = draft / "tokenizer_config.json"
    settings = {
        **read_json(file, folder.name),
        "model_max_length": model.window,
        "model_input_names": list(model.inputs),
        "padding_side": tokenizer.padding_side,
        "truncation_side": tokenizer.truncation_side,
        "pad_token_type_id": tokenizer.pad_token_type_id,
    }
    file.write_text(json.dumps(settings, indent=2), encoding="utf-8")


def write_onnx(model: CrossEncoderModel, graph: Path, file: Path, name: str) -> None:
    """Trace a model into an ONNX file that takes batches of any size and length, and returns ``logits``.

    A model that does not ignore padding gets no mask, which says that its inputs must not be padded.

    Args:
        model: The model.
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
            scores = self.cross_encoder(dict(zip(names, inputs, strict=True)))["scores"]
            return scores if scores.shape[-1] == 1 else scores[:, 1:] - scores[:, :1]

    pairs = model.pairs.encode(QUERIES[0], TEXTS, "truncate")
    arrays = pairs.arrays([1] if model.equal_lengths else range(len(TEXTS)))
    names = [name for name in model.inputs if name != MASK or not model.equal_lengths]
    try:
        with quiet(), warnings.catch_warnings(), torch.inference_mode():
            warnings.simplefilter("ignore")  # the tracer's warnings: comparing the logits finds its mistakes
            torch.onnx.export(
                Logits().eval(),
                tuple(torch.from_numpy(arrays[name]) for name in names),
                str(graph / "model.onnx"),
                input_names=names,
                output_names=["logits"],
                dynamic_axes={**{i: {0: "batch", 1: "sequence"} for i in names}, "logits": {0: "batch"}},
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
