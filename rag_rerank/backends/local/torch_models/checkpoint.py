"""Safetensors checkpoints: which files a folder must hold, and how sentence-transformers loads a cross-encoder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rag_rerank.backends.local.model_files import RECORDS, TORCH_FILES, ModelFolder, read_json
from rag_rerank.backends.local.torch_models.late_interaction import MODEL_TYPE, register
from rag_rerank.backends.local.torch_models.packed_attention import PackedModel
from rag_rerank.errors import ModelLoadError

if TYPE_CHECKING:
    import torch

__all__ = [
    "CrossEncoderModel",
    "check_trained",
    "check_weights",
    "copy_checkpoint",
    "cross_encoder",
    "has_checkpoint",
    "module_folders",
    "quiet",
]


_NOT_THE_MODEL = ("trainer_state.json", *RECORDS)
"""Files beside a checkpoint that are no part of the model."""


class CrossEncoderModel:
    """A cross-encoder with one logit, plain or modular, and the inputs that it takes.

    ``module`` is sentence-transformers' `CrossEncoder`; its activation is never applied. The last layer computes in
    fp32 whatever the others compute in, so that logits have the precision of fp32. Where the architecture allows it,
    the layers run on packed tokens (see `PackedModel`); ``layout`` is the note on that for the trace.
    """

    def __init__(self, folder: ModelFolder, device: str, dtype: Any) -> None:
        import torch

        self.module = cross_encoder(folder, device, dtype).eval()
        if self.module.num_labels != 1:
            raise ModelLoadError(
                f"{folder.name} gives {self.module.num_labels} numbers a pair, not one relevance logit"
            )
        encoder = self.module.transformers_model
        if encoder is None:
            raise ModelLoadError(f"{folder.name} has no transformer, so it is no cross-encoder")
        missing = check_trained(encoder, folder.path / module_folders(folder)[0])
        if missing:
            raise ModelLoadError(
                f"{folder.name} lacks trained weights, which would be random: {', '.join(missing[:5])}; "
                "is it a reranker?"
            )
        if self.module.default_prompt_name:
            raise ModelLoadError(f"{folder.name} puts a prompt before its texts, which this library does not know")
        _last_layer_in_fp32(self.module, folder.name)
        segments = (getattr(encoder.config, "type_vocab_size", None) or 0) > 1
        self.inputs = ("input_ids", "attention_mask", *(("token_type_ids",) if segments else ()))
        self.dtype = encoder.dtype
        self._device = torch.device(device)
        self._packed = PackedModel(encoder) if len(self.module) == 1 and PackedModel.knows(encoder) else None
        self.layout = (
            f"tokens packed, {self._packed.attention}"
            if self._packed
            else f"inputs padded: no packed layout for {type(encoder).__name__}"
        )

    def logits(self, arrays: Mapping[str, Any]) -> torch.Tensor:
        """Return one fp32 logit a row."""
        import torch

        tensors = {name: torch.from_numpy(arrays[name]) for name in self.inputs}
        features = {name: tensor.to(self._device) for name, tensor in tensors.items()}
        scores: torch.Tensor
        if self._packed is None:
            scores = self.module(features)["scores"]
        else:
            del features["attention_mask"]
            scores = self._packed.logits(features, tensors["attention_mask"].sum(dim=1))
        return scores.float().reshape(-1)


def cross_encoder(folder: ModelFolder, device: str, dtype: Any, **more: Any) -> Any:
    """Load sentence-transformers' `CrossEncoder` from the safetensors of a folder, without activation or remote code.

    Args:
        folder: The folder.
        device: A torch device.
        dtype: Type that the weights are cast to.
        more: Further arguments of `CrossEncoder`.

    Raises:
        ModelLoadError: The folder has no safetensors file, or cannot be loaded.
    """
    import torch
    from sentence_transformers import CrossEncoder

    check_weights(folder)
    if folder.config.get("model_type") == MODEL_TYPE:
        register()
    try:
        with quiet():
            return CrossEncoder(
                str(folder.path),
                device=device,
                activation_fn=torch.nn.Identity(),
                trust_remote_code=False,
                local_files_only=True,
                model_kwargs={"dtype": dtype, "use_safetensors": True},
                **more,
            )
    except Exception as error:  # transformers raises many kinds of errors for broken files
        raise ModelLoadError(f"{folder.name} cannot be loaded: {error}") from error


def has_checkpoint(folder: Path) -> bool:
    """Whether a folder holds a config and all safetensors files of a checkpoint."""
    return (folder / "config.json").is_file() and _has_weights(folder)


def _has_weights(folder: Path) -> bool:
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return (folder / "model.safetensors").is_file()
    shards = set(read_json(index, folder.name)["weight_map"].values())
    return all((folder / shard).is_file() for shard in shards)


def check_weights(folder: ModelFolder) -> None:
    """Refuse pickled and absent weights before anything is read.

    Raises:
        ModelLoadError: Some part of the model has no safetensors file.
    """
    for position, name in enumerate(module_folders(folder)):
        part = folder.path / name
        if _has_weights(part):
            continue
        if any(part.glob("pytorch_model*.bin")):
            raise ModelLoadError(
                f"{folder.name} has pickled weights only ({Path(name) / 'pytorch_model.bin'}), which can run code when "
                "they are read; save the model as safetensors"
            )
        if position == 0:
            raise ModelLoadError(
                f"{folder.name} has no model.safetensors, or not all of its shards"
                + (
                    "; it ships as ONNX only, so name a checkpoint that PyTorch reads: minilm, any cross-encoder or "
                    "encoder of the hub, or a folder with one"
                    if folder.row and folder.row.packaged
                    else ""
                )
            )


def module_folders(folder: ModelFolder) -> list[str]:
    """Return the folders of a model's modules, the encoder's first; the whole folder for a plain model."""
    modules = folder.path / "modules.json"
    if not modules.is_file():
        return [""]
    try:
        return [module["path"] for module in json.loads(modules.read_text(encoding="utf-8"))]
    except (ValueError, KeyError, TypeError) as error:
        raise ModelLoadError(f"{folder.name}: modules.json cannot be read: {error}") from error


def copy_checkpoint(source: Path, out: Path) -> None:
    """Copy the files of a checkpoint that the ``torch`` backend reads; files that are already there stay.

    Other folders beside a checkpoint of sentence-transformers, and the files of a trainer, are not copied.

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


def check_trained(encoder: Any, folder: Path) -> list[str]:
    """Return the names of weights that are not in the file, so that loading has set them to random numbers.

    Where a name is absent, transformers decides: it knows which weights are shared and which were renamed.
    """
    from safetensors import safe_open

    stored: set[str] = set()
    for file in folder.glob("*.safetensors"):
        with safe_open(file, framework="pt") as weights:
            stored.update(weights.keys())
    if stored.issuperset(encoder.state_dict()):
        return []
    with quiet():
        _, report = type(encoder).from_pretrained(
            folder, config=encoder.config, use_safetensors=True, local_files_only=True, output_loading_info=True
        )
    return sorted(report["missing_keys"])


def _last_layer_in_fp32(module: Any, name: str) -> None:
    import torch

    layers = [layer for layer in module.modules() if isinstance(layer, torch.nn.Linear) and layer.out_features == 1]
    if not layers:
        raise ModelLoadError(f"{name} has no layer with one output, so it gives no relevance logit")
    if layers[-1].weight.dtype != torch.float32:
        layers[-1].float().register_forward_pre_hook(lambda _, inputs: (inputs[0].float(),))


@contextmanager
def quiet() -> Iterator[None]:
    """Switch the progress bars of transformers off: a library does not write to the terminal."""
    from transformers.utils import logging

    was_enabled = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if was_enabled:
            logging.enable_progress_bar()
