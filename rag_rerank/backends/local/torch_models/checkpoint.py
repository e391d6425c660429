"""Safetensors checkpoints: which files a folder must hold, and how sentence-transformers loads a cross-encoder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rag_rerank.backends.local.model_files import RECORDS, TORCH_FILES, ModelFolder, beyond_window, read_json
from rag_rerank.backends.local.model_tokenizer import IDS, MASK, TYPES, ModelTokenizer, load_core
from rag_rerank.backends.local.padding import COARSE, ROUGH, ignores_padding
from rag_rerank.backends.local.pair_encoding import OnLongQuery, PairTokenizer
from rag_rerank.backends.local.samples import TOLERANCE
from rag_rerank.backends.local.torch_models import late_interaction, open_provence
from rag_rerank.backends.local.torch_models.packed_attention import PackedModel
from rag_rerank.errors import ModelLoadError
from rag_rerank.rank_correlation import relative_difference

if TYPE_CHECKING:
    import torch

__all__ = [
    "CrossEncoderModel",
    "check_trained",
    "check_weights",
    "copy_checkpoint",
    "cross_encoder",
    "has_checkpoint",
    "library_tokenizer",
    "module_folders",
    "quiet",
    "readable_window",
    "refuse_own_code",
]


_EQUAL = 1e-6
"""Logits of different texts that differ by less are rounding."""

_TOKENIZER_FILES = ("tokenizer.json", "vocab.*", "*.model", "merges.txt")
"""Files of which one holds the words of a tokenizer."""

_NOT_THE_MODEL = ("trainer_state.json", *RECORDS)
"""Files beside a checkpoint that are no part of the model."""


_OWN_ARCHITECTURES = {
    late_interaction.MODEL_TYPE: late_interaction.register,
    open_provence.MODEL_TYPE: open_provence.register,
}
"""``model_type`` -> what lets transformers load the architectures that it does not have."""


class CrossEncoderModel:
    """A cross-encoder with one logit or two, plain or modular, and the tokenizer that makes its inputs.

    ``module`` is sentence-transformers' `CrossEncoder`; its activation is never applied. Of two logits, the score is
    the second less the first: its sigmoid is the softmax probability of the second label, which is the relevant one in
    every published reranker with two. The last layer computes in fp32 whatever the others compute in, so that logits
    have the precision of fp32. Where the architecture allows it, the layers run on packed tokens (see `PackedModel`);
    ``layout`` is the note on that for the trace. ``equal_lengths`` says that inputs must not be padded, because padding
    would change their logits.

    Args:
        folder: The model.
        device: A torch device.
        dtype: Type that the weights are cast to.
        max_length: The window in tokens; by default the model's own.
        on_long_query: What to do with a query that is longer than its share.

    Raises:
        ModelLoadError: It is no cross-encoder that can be run.
    """

    def __init__(
        self,
        folder: ModelFolder,
        device: str,
        dtype: Any,
        *,
        max_length: int | None = None,
        on_long_query: OnLongQuery = "truncate",
    ) -> None:
        import torch

        self.module = cross_encoder(folder, device, dtype).eval()
        if self.module.num_labels not in (1, 2):
            raise ModelLoadError(
                f"{folder.name} gives {self.module.num_labels} numbers a pair, not one relevance logit"
            )
        encoder = self.module.transformers_model
        if encoder is None:
            raise ModelLoadError(f"{folder.name} has no transformer, so it is no cross-encoder")
        missing = check_trained(encoder, folder.path / module_folders(folder)[0])
        if missing:
            refuse_own_code(folder)
            raise ModelLoadError(
                f"{folder.name} lacks trained weights, which would be random: {', '.join(missing[:5])}; "
                "is it a reranker?"
            )
        if self.module.default_prompt_name:
            raise ModelLoadError(f"{folder.name} puts a prompt before its texts, which this library does not know")
        _last_layer_in_fp32(self.module, folder.name)
        self.tokenizer = library_tokenizer(self.module, folder)
        self.inputs = self.tokenizer.inputs
        self.window = readable_window(folder, encoder, max_length)
        self.dtype = encoder.dtype
        self._device = torch.device(device)
        self._packed = PackedModel(encoder) if len(self.module) == 1 and PackedModel.knows(encoder) else None
        if self._packed:
            self.tokenizer = replace(self.tokenizer, pads_left=False)  # padding is dropped
            self.layout = f"tokens packed, {self._packed.attention}"
        else:
            self.layout = f"inputs padded: no packed layout for {type(encoder).__name__}"
        self.pairs = PairTokenizer(folder, self.window, self.tokenizer, on_long_query)
        self.equal_lengths = self._packed is None and not self._ignores_padding(folder)
        if self.equal_lengths:
            self.layout = f"inputs of one length at a time: {type(encoder).__name__} does not ignore padding"

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
            scores = self._packed.logits(features, torch.from_numpy(arrays[MASK]).sum(dim=1))
        scores = scores.float().reshape(len(arrays[IDS]), -1)
        return scores[:, 0] if scores.shape[1] == 1 else scores[:, 1] - scores[:, 0]

    def _ignores_padding(self, folder: ModelFolder) -> bool:
        """Whether a pair has the same logit with padding and without; runs two short pairs.

        Raises:
            ModelLoadError: The model does not run on inputs of some length.
        """
        import torch

        if MASK not in self.inputs:
            return False
        tolerance = {torch.float16: ROUGH, torch.bfloat16: COARSE}.get(self.dtype, TOLERANCE)
        logits: list[float] = []

        def run(arrays: Mapping[str, Any]) -> list[float]:
            batch: list[float] = self.logits(arrays).tolist()
            logits.extend(batch)
            return batch

        try:
            with torch.inference_mode():
                is_ignored = ignores_padding(self.pairs, run, tolerance)
        except Exception as error:  # torch raises RuntimeError, IndexError and others
            raise ModelLoadError(
                f"{folder.name}: {type(self.module.transformers_model).__name__} does not run on short inputs with "
                f"this config, so it cannot be served: {error}"
            ) from error
        # Architectures whose kernels are not installed give one score to all texts.
        if logits and relative_difference(max(logits), min(logits)) < _EQUAL:
            raise ModelLoadError(
                f"{folder.name}: {type(self.module.transformers_model).__name__} gives different texts the same score "
                "here; use a model of another architecture"
            )
        return is_ignored


def library_tokenizer(module: Any, folder: ModelFolder) -> ModelTokenizer:
    """Return the tokenizer that sentence-transformers has loaded, with truncation and padding off.

    Raises:
        ModelLoadError: It is not a fast one, or has no padding token.
    """
    tokenizer = module.tokenizer
    core = getattr(tokenizer, "backend_tokenizer", None)
    if core is None or not hasattr(core, "encode_batch_fast"):
        raise ModelLoadError(
            f"{folder.name}: its tokenizer ({type(tokenizer).__name__}) has no fast form, which is needed here; save "
            "the model with a tokenizer.json"
        )
    pad = tokenizer.pad_token_id
    config = module.transformers_model.config
    if pad is None:
        pad = config.pad_token_id
    if pad is None:
        raise ModelLoadError(f"{folder.name}: neither tokenizer_config.json nor config.json names a padding token")
    if config.pad_token_id is None:
        config.pad_token_id = pad  # causal classifiers look for it to find the last token
    core.no_truncation()
    core.no_padding()
    return ModelTokenizer(
        core=core,
        inputs=tuple(name for name in (IDS, MASK, TYPES) if name in tokenizer.model_input_names),
        pad=pad,
        pad_type=tokenizer.pad_token_type_id,
        pads_left=tokenizer.padding_side == "left",
        cuts_left=tokenizer.truncation_side == "left",
    )


def readable_window(folder: ModelFolder, encoder: Any, limit: int | None) -> int:
    """Return the window in tokens: the user's limit, or else all that the loaded model can read.

    Raises:
        ModelLoadError: The limit is more than the model can read, or neither is known.
    """
    window = folder.max_length(limit)
    tables = [module for name, module in encoder.named_modules() if name.rpartition(".")[2] == "position_embeddings"]
    for table in tables:
        padding = getattr(table, "padding_idx", None)
        if isinstance(padding, int):  # positions count from padding + 1
            readable = table.weight.shape[0] - padding - 1
            if limit is not None and limit > readable:
                raise beyond_window(folder.name, readable, limit)
            window = min(window, readable)
    return window


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
    if not any(file for pattern in _TOKENIZER_FILES for file in folder.path.glob(pattern)):
        load_core(folder)  # transformers would make a tokenizer without words
    if (register := _OWN_ARCHITECTURES.get(folder.config.get("model_type", ""))) is not None:
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
        refuse_own_code(folder, error)
        if (folder.path / "tokenizer.json").is_file():
            load_core(folder)  # says so if that is the broken file
        raise ModelLoadError(f"{folder.name} cannot be loaded: {error}") from error


def refuse_own_code(folder: ModelFolder, error: Exception | None = None) -> None:
    """Raise if a model that could not be loaded has an architecture whose code is in its own repository.

    An architecture that is written here too is none of these.

    Raises:
        ModelLoadError: It has.
    """
    if folder.config.get("model_type") in _OWN_ARCHITECTURES:
        return
    code = folder.config.get("auto_map")
    names = sorted({str(name) for name in code.values()}) if isinstance(code, dict) else []
    if names:
        raise ModelLoadError(
            f"{folder.name} needs Python code of its own ({', '.join(names)}), which this library never runs; serve it "
            "with an inference server that has this architecture (vLLM, Text Embeddings Inference) and call it with "
            "the type http, or use its provider's API"
        ) from error


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

    count = module.num_labels
    layers = [layer for layer in module.modules() if isinstance(layer, torch.nn.Linear) and layer.out_features == count]
    if not layers:
        raise ModelLoadError(f"{name} has no layer with {count} outputs, so it gives no relevance logit")
    for part in module:
        if isinstance(getattr(part, "activation_function", None), torch.nn.Sigmoid) and part is module[-1]:
            part.activation_function = torch.nn.Identity()  # the score would be the sigmoid of a sigmoid
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
