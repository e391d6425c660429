"""Checkpoints that a training begins with: found, safe to read, and given a new head where they have none."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from rag_rerank._extras import need
from rag_rerank.backends._checkpoint import check_weights, has_checkpoint, module_folders, quiet, untrained
from rag_rerank.backends._templates import causal_architecture
from rag_rerank.backends._weights import TORCH_FILES, locate
from rag_rerank.backends.torch import usable_device
from rag_rerank.errors import ModelLoadError

__all__ = ["Base", "load_base", "silent"]


@dataclass(frozen=True, kw_only=True)
class Base:
    """A model before its training.

    Args:
        module: sentence-transformers' `CrossEncoder` with one logit and no activation, in fp32.
        name: Model id, or the folder as the user gave it.
        revision: Commit of its files, where they come from the hub.
        licence: Its licence, where the catalogue knows it.
        sha256: Hash of its weights and its config.
        new: Names of the weights that its files lack, which are therefore random: the head of an encoder.
        device: The torch device that it is on.
    """

    module: Any
    name: str
    revision: str | None
    licence: str | None
    sha256: str
    new: tuple[str, ...]
    device: str


def load_base(model: str, *, revision: str | None = None, max_length: int, device: str = "auto", seed: int) -> Base:
    """Load a cross-encoder, or an encoder that is given a new head, from safetensors and without remote code.

    Args:
        model: Alias or id of a model, or a folder with a safetensors checkpoint.
        revision: Commit, branch or tag on the hub; by default the one that the catalogue pins.
        max_length: Window in tokens that the model is given.
        device: A torch device, or ``"auto"``.
        seed: Decides the numbers of a new head.

    Raises:
        ConfigError: The device is unknown or not there.
        MissingExtraError: torch or sentence-transformers is not installed.
        ModelLoadError: It cannot be found or loaded, is no encoder, lacks more than a head, or is read with a prompt.
    """
    torch = need("torch", extra="train")
    sentence_transformers = need("sentence_transformers", extra="train")
    folder = locate(model, backend="torch", revision=revision, patterns=TORCH_FILES, complete=has_checkpoint)
    causal = causal_architecture(folder)
    if causal:
        raise ModelLoadError(f"{folder.name} is a causal language model ({causal}); only encoders are trained here")
    check_weights(folder)
    folder.max_length(max_length)
    device = usable_device(device)
    try:
        with silent(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            module = sentence_transformers.CrossEncoder(
                str(folder.path),
                device=device,
                num_labels=1,
                max_length=max_length,
                activation_fn=torch.nn.Identity(),
                trust_remote_code=False,
                local_files_only=True,
                model_kwargs={"dtype": torch.float32, "use_safetensors": True},
            )
    except Exception as error:  # transformers raises whatever the file makes it raise
        raise ModelLoadError(f"{folder.name} cannot be loaded for training: {error}") from error
    encoder = module.transformers_model
    if encoder is None or module.default_prompt_name:
        raise ModelLoadError(f"{folder.name} is no plain encoder of query and text: it has a prompt, or no transformer")
    with silent():
        new = tuple(untrained(encoder, folder.path / module_folders(folder)[0]))
    body = f"{encoder.base_model_prefix}."
    absent = [name for name in new if name.startswith(body) and "pooler" not in name]
    if absent:
        raise ModelLoadError(f"{folder.name} lacks weights of its layers, not only a head: {', '.join(absent[:5])}")
    return Base(
        module=module,
        name=folder.name,
        revision=folder.revision,
        licence=folder.row.licence if folder.row else None,
        sha256=_hash(folder.path),
        new=new,
        device=device,
    )


@contextmanager
def silent() -> Iterator[None]:
    """Hold back what the libraries below log and draw: a library does not write to the terminal."""
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


def _hash(folder: Any) -> str:
    from hashlib import sha256

    found = sha256()
    for file in sorted((*folder.rglob("*.safetensors"), folder / "config.json", folder / "tokenizer.json")):
        if file.is_file():
            found.update(file.relative_to(folder).as_posix().encode())
            with file.open("rb") as stream:
                while block := stream.read(1 << 20):
                    found.update(block)
    return found.hexdigest()
