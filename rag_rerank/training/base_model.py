"""Load the checkpoint that training starts from; an encoder without a head gets a new head."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from rag_rerank._lazy import need
from rag_rerank.backends.local.model_files import TORCH_FILES, ModelFolder, locate
from rag_rerank.backends.local.torch_models import llama_bidirectional, open_provence
from rag_rerank.backends.local.torch_models.checkpoint import (
    check_trained,
    check_weights,
    cross_encoder,
    has_checkpoint,
    module_folders,
    quiet,
)
from rag_rerank.backends.local.torch_models.late_interaction import MODEL_TYPE, register
from rag_rerank.backends.local.torch_models.prompt_templates import causal_architecture
from rag_rerank.backends.torch import usable_device
from rag_rerank.errors import ModelLoadError

__all__ = ["OWN_MODEL_TYPES", "BaseModel", "check_extra", "find_base", "load_base", "model_from_config", "silent"]

OWN_MODEL_TYPES = (MODEL_TYPE,)
"""``model_type`` of architectures that other programs do not know."""


@dataclass(frozen=True, kw_only=True)
class BaseModel:
    """A model before its training.

    Args:
        module: sentence-transformers' `CrossEncoder` with one logit and no activation, in fp32.
        name: Model id, or the folder as the user named it.
        revision: Commit of its files, where they come from the hub.
        licence: Its licence, where the catalogue knows it.
        sha256: Hash of its weights, config and tokenizer.
        new_weights: Names of the weights that its files lack, which are therefore random: the head of an encoder.
        device: Its torch device.
    """

    module: Any
    name: str
    revision: str | None
    licence: str | None
    sha256: str
    new_weights: tuple[str, ...]
    device: str


def check_extra() -> None:
    """Raise an error unless the packages for training are installed; call it before a download or a payment.

    Raises:
        MissingExtraError: The extra ``train`` is not installed.
    """
    for module in ("torch", "sentence_transformers", "accelerate", "datasets", "ir_measures"):
        need(module, extra="train")


def find_base(model: str, revision: str | None = None) -> ModelFolder:
    """Return the folder of a model that training can start from; its weights are not read.

    Raises:
        MissingExtraError: The extra ``train`` is not installed.
        ModelLoadError: It cannot be found, has no safetensors file, is a language model with a prompt, or has a second
            head.
    """
    check_extra()
    folder = locate(model, backend="torch", revision=revision, patterns=TORCH_FILES, complete=has_checkpoint)
    causal = causal_architecture(folder)
    if causal:
        raise ModelLoadError(f"{folder.name} is a causal language model ({causal}); only encoders are trained here")
    kind = folder.config.get("model_type")
    if kind == llama_bidirectional.MODEL_TYPE:
        raise ModelLoadError(f"{folder.name} reads a prompt of its own; only encoders of plain pairs are trained here")
    if kind == open_provence.MODEL_TYPE:
        raise ModelLoadError(
            f"{folder.name} has a second head, which would not fit the trained layers any more; train from the model "
            "that it was made from"
        )
    check_weights(folder)
    return folder


def load_base(
    model: str, *, revision: str | None = None, max_length: int, device: str = "auto", seed: int
) -> BaseModel:
    """Load a cross-encoder, or an encoder with a new head, from safetensors and without remote code.

    Args:
        model: Alias or id of a model, or a folder with a safetensors checkpoint.
        revision: Commit, branch or tag on the hub; by default the one that the catalogue pins.
        max_length: The window in tokens that the model will have.
        device: A torch device, or ``"auto"``.
        seed: Seed of the weights of a new head.

    Raises:
        ConfigError: The device is unknown or absent.
        MissingExtraError: The extra ``train`` is not installed.
        ModelLoadError: It cannot be found or loaded, is not an encoder, lacks more than a head, or uses a prompt.
    """
    folder = find_base(model, revision)
    torch = need("torch", extra="train")
    device = usable_device(device)
    with silent(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = cross_encoder(folder, device, torch.float32, num_labels=1, max_length=max_length)
    folder.max_length(max_length)
    encoder = module.transformers_model
    if encoder is None or module.default_prompt_name:
        raise ModelLoadError(
            f"{folder.name} is not a plain encoder of query and text: it has a prompt or no transformer"
        )
    with silent():
        new_weights = tuple(check_trained(encoder, folder.path / module_folders(folder)[0]))
    body = f"{encoder.base_model_prefix}."
    absent = [name for name in new_weights if name.startswith(body) and "pooler" not in name]
    if absent:
        raise ModelLoadError(f"{folder.name} lacks weights of its layers, not only a head: {', '.join(absent[:5])}")
    return BaseModel(
        module=module,
        name=folder.name,
        revision=folder.revision,
        licence=folder.row.licence if folder.row else None,
        sha256=_model_hash(folder.path),
        new_weights=new_weights,
        device=device,
    )


def model_from_config(config: Mapping[str, Any]) -> Any:
    """Return a model with one logit and random weights, built from a ``config.json``.

    Raises:
        MissingExtraError: transformers is not installed.
        ModelLoadError: transformers cannot build a model from the config.
    """
    transformers = need("transformers", extra="train")
    kind = str(config.get("model_type"))
    if kind == MODEL_TYPE:
        register()
    try:
        options = {key: value for key, value in config.items() if key != "model_type"}
        model_config = transformers.AutoConfig.for_model(kind, **options)
        return transformers.AutoModelForSequenceClassification.from_config(model_config)
    except Exception as error:  # transformers raises errors of any type
        raise ModelLoadError(f"a model of the kind {kind!r} cannot be made from its config: {error}") from error


@contextmanager
def silent() -> Iterator[None]:
    """Silence the logs and progress bars of the libraries below: a library does not write to the terminal."""
    loggers = [logging.getLogger(name) for name in ("transformers", "sentence_transformers", "accelerate", "datasets")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with quiet():
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _model_hash(folder: Path) -> str:
    """Return one hash over names and bytes of weights, config and tokenizer; checkpoints and run records hold it."""
    digest = sha256()
    for file in sorted((*folder.rglob("*.safetensors"), folder / "config.json", folder / "tokenizer.json")):
        if file.is_file():
            digest.update(file.relative_to(folder).as_posix().encode())
            with file.open("rb") as stream:
                while block := stream.read(1 << 20):
                    digest.update(block)
    return digest.hexdigest()
