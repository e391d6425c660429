"""Students by shape: number of layers, width, and the part of a base model that they start from."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rag_rerank._files import parse_json
from rag_rerank._lazy import need
from rag_rerank.errors import ConfigError, ModelLoadError
from rag_rerank.training.base_model import model_from_config

__all__ = ["Student", "plan_student", "spread_layers"]

_SHAPE = re.compile(r"(?P<layers>[1-9]\d{0,2})x(?P<hidden>[1-9]\d{0,4})")

_KINDS = ("bert", "roberta", "xlm-roberta")
"""``model_type`` of the encoders whose layers can be removed."""

_HEAD = 64
"""Width of an attention head if the width is not the base's: with that and a feed-forward layer of four times the
width, ``2x128`` is the BERT-Tiny of Turc et al. 2019 (arXiv 1908.08962)."""

_HEADS = ("classifier.weight", "classifier.out_proj.weight")
"""Names of the last layer in `_KINDS`."""

_TOKENIZER = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt", "vocab.json", "merges.txt"),
    *("sentencepiece.bpe.model", "added_tokens.json"),
)


@dataclass(frozen=True, kw_only=True)
class Student:
    """A student before its training.

    Args:
        name: Its shape or folder, as the user named it.
        base: Folder of the base.
        config: Its ``config.json``.
        layers: The base's layers that it keeps, from 0; ``None`` if it is the base itself, or all its weights are new.
        is_new: Whether it has to be written: it is not the base as it is.
        parameters: Number of its weights.
        matrices: Number of those in weight matrices and embeddings, which int8 stores in one byte.
    """

    name: str
    base: Path
    config: Mapping[str, Any]
    layers: tuple[int, ...] | None
    is_new: bool
    parameters: int
    matrices: int

    @property
    def random(self) -> bool:
        """Whether it starts from random weights, and uses only the tokenizer of its base."""
        return self.is_new and self.layers is None

    @property
    def has_new_head(self) -> bool:
        """Whether its head starts from random weights: because all do, or because the base has none for one logit.

        Raises:
            ModelLoadError: The base's weights cannot be read.
        """
        if not self.is_new:
            return False
        from safetensors import safe_open

        try:
            with safe_open(self.base / "model.safetensors", framework="pt") as stored:
                shapes = {name: stored.get_slice(name).get_shape() for name in stored.keys() if name in _HEADS}  # noqa: SIM118
        except Exception as error:  # a damaged file raises errors of any type
            raise ModelLoadError(f"{self.base}: model.safetensors cannot be read: {error}") from error
        return self.random or not any(shape[0] == 1 for shape in shapes.values())

    @property
    def megabytes(self) -> tuple[float, float]:
        """Millions of bytes of its weights: in fp32, and with matrices in int8."""
        return 4 * self.parameters / 1e6, (self.matrices + 4 * (self.parameters - self.matrices)) / 1e6

    def __str__(self) -> str:
        fp32, int8 = self.megabytes
        size = f"{self.parameters / 1e6:.3g} M parameters, {fp32:.3g} MB in fp32, {int8:.3g} MB in int8"
        if self.random:
            return f"{self.name}: {size}; its weights are random, only the tokenizer is that of {self.base}"
        if self.layers is None:
            return f"{self.name}: {size}"
        return f"{self.name}: {size}; layers {', '.join(map(str, self.layers))} of {self.base}"

    def write(self, folder: Path, *, seed: int = 0) -> Path:
        """Write it as a checkpoint, unless it is the base as it is, and return its folder.

        Weights that the base does not have, those of a head with one logit or all, are random by the seed.

        Raises:
            ConfigError: The folder cannot be written.
            MissingExtraError: torch or transformers is not installed.
            ModelLoadError: The base's weights cannot be read or do not fit its config.
        """
        if not self.is_new:
            return self.base
        torch = need("torch", extra="train")
        safetensors = need("safetensors.torch", extra="train")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = model_from_config(self.config)
        if not self.random:
            _load_weights(model, self._weights(safetensors), self.base)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            weights = {name: value.contiguous() for name, value in model.state_dict().items()}
            safetensors.save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
            (folder / "config.json").write_text(json.dumps(self.config, indent=2) + "\n", encoding="utf-8")
            for file in (self.base / name for name in _TOKENIZER):
                if file.is_file():
                    (folder / file.name).write_bytes(file.read_bytes())
        except OSError as error:
            raise ConfigError(f"cannot write {folder}: {error.strerror or error}", path="out") from error
        return folder

    def _weights(self, safetensors: Any) -> dict[str, Any]:
        """Return the base's weights by the student's names."""
        try:
            stored = safetensors.load_file(self.base / "model.safetensors")
        except Exception as error:  # a damaged file raises errors of any type
            raise ModelLoadError(f"{self.base}: model.safetensors cannot be read: {error}") from error
        place = {layer: i for i, layer in enumerate(self.layers or ())}
        weights = {}
        for name, value in stored.items():
            layer = re.search(r"(?<=encoder\.layer\.)\d+", name)
            if layer is None:
                weights[name] = value
            elif int(layer[0]) in place:
                weights[f"{name[: layer.start()]}{place[int(layer[0])]}{name[layer.end() :]}"] = value
        return weights


def plan_student(shape: str, *, base: str | os.PathLike[str] | None = None) -> Student:
    """Plan a student, and count its parameters; nothing is written.

    Args:
        shape: ``"3x384"``: three layers of width 384. If the base has that width, layers of it are kept
            (`spread_layers`), otherwise all weights are random and only the tokenizer is the base's. Or the folder of a
            checkpoint, which is used as it is.
        base: Folder of a checkpoint with safetensors, of BERT's, RoBERTa's or XLM-RoBERTa's kind, with or without a
            head.

    Raises:
        ConfigError: The base does not allow the shape, or there is no base.
        MissingExtraError: torch or transformers is not installed.
        ModelLoadError: The folder is not a checkpoint.
    """
    match = _SHAPE.fullmatch(shape)
    if match is None:
        folder = Path(shape)
        if not folder.is_dir():
            raise ConfigError(
                f"{shape!r} is neither a folder nor a shape; a shape is layers x width, such as 3x384", path="student"
            )
        return _student(shape, folder, _config(folder), None, is_new=False)
    if base is None:
        raise ConfigError(f"{shape} is made from a base model; name its folder", path="base")
    folder = Path(base)
    config, layers, hidden = _config(folder), int(match["layers"]), int(match["hidden"])
    if config.get("model_type") not in _KINDS:
        raise ConfigError(
            f"{folder} is of the kind {config.get('model_type')!r}, whose layers cannot be removed here (those of "
            f"{', '.join(_KINDS)} can); name a finished student's folder",
            path="base",
        )
    available = int(config["num_hidden_layers"])
    if hidden != config["hidden_size"]:
        if hidden % _HEAD:
            raise ConfigError(f"the width must be a multiple of {_HEAD}, got {hidden}", path="student")
        new = {"hidden_size": hidden, "num_attention_heads": hidden // _HEAD, "intermediate_size": 4 * hidden}
        return _student(shape, folder, {**_one_logit(config), **new, "num_hidden_layers": layers}, None, is_new=True)
    if layers > available:
        raise ConfigError(f"{folder} has {available} layers, fewer than {layers}", path="student")
    positions = spread_layers(available, layers)
    return _student(shape, folder, {**_one_logit(config), "num_hidden_layers": layers}, positions, is_new=True)


def spread_layers(available: int, count: int) -> tuple[int, ...]:
    """Return the layers that a student keeps, from 0: evenly spread, the first and the last among them.

    DistilBERT starts from every other layer (Sanh et al. 2019, arXiv 1910.01108, section 3), which is near PKD's "skip"
    (Sun et al. 2019, arXiv 1908.09355); spread to both ends, 6 of 12 are 0, 2, 4, 7, 9, 11, as in Hugging Face's
    scripts for both DistilBERT and DistilBART.
    """
    if count == 1:
        return (0,)
    return tuple((2 * i * (available - 1) + count - 1) // (2 * (count - 1)) for i in range(count))


def _config(folder: Path) -> dict[str, Any]:
    if not ((folder / "config.json").is_file() and (folder / "model.safetensors").is_file()):
        raise ModelLoadError(f"{folder} is not a checkpoint: it needs config.json and model.safetensors")
    try:
        config = parse_json((folder / "config.json").read_text(encoding="utf-8"))
        if not isinstance(config, dict):
            raise ValueError("it holds no JSON object")
    except (OSError, ValueError) as error:
        raise ModelLoadError(f"{folder}: config.json cannot be read: {error}") from error
    return config


def _one_logit(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the same config with a head of one logit."""
    architecture = {"bert": "Bert", "roberta": "Roberta", "xlm-roberta": "XLMRoberta"}[config["model_type"]]
    return {
        **{key: value for key, value in config.items() if key != "torch_dtype"},
        "architectures": [f"{architecture}ForSequenceClassification"],
        "id2label": {"0": "LABEL_0"},
        "label2id": {"LABEL_0": 0},
        "dtype": "float32",
    }


def _student(name: str, base: Path, config: dict[str, Any], layers: tuple[int, ...] | None, *, is_new: bool) -> Student:
    torch = need("torch", extra="train")
    with torch.device("meta"):
        sizes = [(value.dim(), value.numel()) for value in model_from_config(config).parameters()]
    return Student(
        name=name,
        base=base,
        config=config,
        layers=layers,
        is_new=is_new,
        parameters=sum(count for _, count in sizes),
        matrices=sum(count for dimensions, count in sizes if dimensions > 1),
    )


def _load_weights(model: Any, weights: Mapping[str, Any], base: Path) -> None:
    """Load a base's weights; only those of the head and of the pooler before it may be missing."""
    prefix = f"{model.base_model_prefix}."
    bare = not any(name.startswith(prefix) for name in weights)
    initial = model.state_dict()
    stored = {f"{prefix}{name}" if bare else name: value.float() for name, value in weights.items()}
    fitting = {name: value for name, value in stored.items() if name in initial and initial[name].shape == value.shape}
    missing = [name for name in initial if name not in fitting and re.search(r"\.(embeddings|encoder)\.", name)]
    missing = [name for name in missing if not name.endswith(("position_ids", "token_type_ids"))]
    if missing:
        raise ModelLoadError(f"{base} lacks weights that its config promises: {', '.join(missing[:5])}")
    model.load_state_dict({**initial, **fitting})
