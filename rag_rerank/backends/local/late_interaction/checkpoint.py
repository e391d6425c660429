"""The conventions of a ColBERT checkpoint, read from its files as sentence-transformers 6 reads them.

Three formats are in use: that of sentence-transformers (``MultiVectorEncoder``), that of PyLate, and that of Stanford's
ColBERT. All say which marker goes before a query and a text, how queries are expanded, how long both may be, which
tokens are not compared, and which linear layers the encoder's vectors go through.
"""

from __future__ import annotations

import string
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rag_rerank.backends.local.late_interaction.products import products
from rag_rerank.backends.local.model_files import ModelFolder, read_json
from rag_rerank.backends.local.onnx_graphs.safetensors_weights import read_tensors
from rag_rerank.backends.local.onnx_graphs.weights import UnsupportedGraph
from rag_rerank.backends.local.torch_models.late_interaction import MODEL_TYPE
from rag_rerank.errors import ModelLoadError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]

__all__ = [
    "Conventions",
    "Expansion",
    "Projection",
    "is_late_interaction",
    "may_be_late_interaction",
    "read_conventions",
    "read_projections",
    "signal_conventions",
]

_SETTINGS, _MODULES = "config_sentence_transformers.json", "modules.json"
_METADATA = "artifact.metadata"
_STANFORD = "HF_ColBERT"
_EXPORT = "rag_rerank.json"
"""A file that ``rag-rerank export`` and ``rag-rerank train`` write beside a model."""

_PYLATE_KEYS = (
    *("query_length", "document_length", "query_expansion", "do_query_expansion", "attend_to_expansion_tokens"),
    *("attend_to_mask_tokens", "query_prefix", "document_prefix", "skiplist_words"),
)
"""Keys of ``config_sentence_transformers.json`` that PyLate alone writes."""

_EXPANSION_LENGTH = 32
"""Tokens of an expanded query where no file says it, as in ColBERT."""

_ACTIVATIONS = ("Identity", "Tanh", "ReLU")
"""Activations of a projection that are known here."""


@dataclass(frozen=True)
class Expansion:
    """How queries are filled up with tokens that have no text, and that are compared too.

    Args:
        length: Tokens of a query that is filled up, marker and special tokens included.
        is_fixed: Whether a longer query is cut to this length.
        attends: Whether the query's tokens read the tokens that fill it up.
        token: The token that fills up; ``None`` for the tokenizer's mask token.
    """

    length: int
    is_fixed: bool = True
    attends: bool = False
    token: str | None = None


@dataclass(frozen=True)
class Conventions:
    """What a checkpoint does with queries and texts.

    Args:
        encoder: Folder of the encoder within the checkpoint.
        query_prompt: What goes before a query.
        text_prompt: What goes before a text.
        markers: Prompts of which the first word is one token, whatever the tokenizer would make of it.
        query_length: Most tokens of a query; ``None`` for the window.
        text_length: Most tokens of a text; ``None`` for the window.
        window: The window that the checkpoint sets for its tokenizer, if it does.
        expansion: How queries are filled up; ``None`` for not at all.
        skipped: Words of the vocabulary that are not compared.
        skips_in_queries: Whether they are not compared in queries either.
        skips_in_texts: Whether they are not compared in texts.
        projections: Folders of the linear layers within the checkpoint; empty where there are none.
        projects_inline: Whether the linear layer is among the encoder's weights, as ``linear.weight``.
        normalizes: Whether vectors have unit length.
        lower_case: Whether inputs are lower-cased.
        mean: Whether MaxSim is divided by the number of the query's vectors.
    """

    encoder: str = "."
    query_prompt: str = ""
    text_prompt: str = ""
    markers: tuple[str, ...] = ()
    query_length: int | None = None
    text_length: int | None = None
    window: int | None = None
    expansion: Expansion | None = None
    skipped: tuple[str, ...] = ()
    skips_in_queries: bool = False
    skips_in_texts: bool = True
    projections: tuple[str, ...] = ()
    projects_inline: bool = False
    normalizes: bool = True
    lower_case: bool = False
    mean: bool = False


def is_late_interaction(folder: Path) -> bool:
    """Whether a folder holds a late-interaction model, as its settings say; weights need not be there.

    Raises:
        ModelLoadError: Its settings cannot be read.
    """
    config, settings = (
        read_json(file, str(folder)) if (file := folder / name).is_file() else {} for name in ("config.json", _SETTINGS)
    )
    return (
        config.get("model_type") == MODEL_TYPE
        or _STANFORD in (config.get("architectures") or ())
        or settings.get("model_type") in ("MultiVectorEncoder", "ColBERT")
        or any(key in settings for key in _PYLATE_KEYS)
    )


def may_be_late_interaction(names: Collection[str]) -> bool:
    """Whether a repository with these files may hold a late-interaction model; its settings decide."""
    return any(name in names for name in (_METADATA, _SETTINGS, _EXPORT))


def read_conventions(folder: ModelFolder) -> Conventions:
    """Read the conventions of a checkpoint.

    Raises:
        ModelLoadError: It is no ColBERT checkpoint, or it does something that is not known here.
    """
    file = folder.path / _SETTINGS
    settings = read_json(file, folder.name) if file.is_file() else {}
    if (folder.path / _MODULES).is_file():
        return _of_modules(folder, settings)
    if _STANFORD in (folder.config.get("architectures") or ()):
        return _of_stanford(folder)
    raise ModelLoadError(
        f"{folder.name} is no late-interaction model: it has no {_MODULES}, and its config.json does not name "
        f"{_STANFORD}; for a cross-encoder use the type onnx or torch"
    )


def signal_conventions(folder: ModelFolder) -> Conventions:
    """Return the conventions of a model with signals: what its tokenizer puts before the two parts of a pair.

    Raises:
        ModelLoadError: Its config cannot be read.
    """
    config = folder.config
    return Conventions(
        query_prompt=str(config.get("query_prompt") or ""), text_prompt=str(config.get("text_prompt") or "")
    )


def _of_stanford(folder: ModelFolder) -> Conventions:
    """Return the conventions of a checkpoint of Stanford's ColBERT; defaults are those of its ``ColBERTConfig``."""
    file = folder.path / _METADATA
    metadata = read_json(file, folder.name) if file.is_file() else {}
    query_marker = f"{metadata.get('query_token_id') or '[unused0]'} "
    text_marker = f"{metadata.get('doc_token_id') or '[unused1]'} "
    return Conventions(
        query_prompt=query_marker,
        text_prompt=text_marker,
        markers=(query_marker, text_marker),
        text_length=metadata.get("doc_maxlen"),
        expansion=Expansion(
            metadata.get("query_maxlen") or _EXPANSION_LENGTH, attends=bool(metadata.get("attend_to_mask_tokens"))
        ),
        skipped=tuple(string.punctuation) if metadata.get("mask_punctuation", True) else (),
        projects_inline=True,
    )


@dataclass
class _Parts:
    """The modules of a checkpoint, by what they do."""

    encoder: str | None = None
    projections: list[str] = field(default_factory=list)
    mask: Mapping[str, Any] | None = None
    normalizes: bool = False


def _of_modules(folder: ModelFolder, settings: Mapping[str, Any]) -> Conventions:
    """Return the conventions of a checkpoint with a list of modules."""
    parts = _parts(folder)
    if parts.encoder is None:
        raise ModelLoadError(f"{folder.name}: {_MODULES} names no transformer")
    is_native = settings.get("model_type") == "MultiVectorEncoder"
    marker_of = {key: settings[f"{key}_prefix"] or "" for key in ("query", "document") if f"{key}_prefix" in settings}
    if not (is_native or settings.get("model_type") == "ColBERT" or parts.projections):
        raise ModelLoadError(
            f"{folder.name} is a sentence encoder: its token vectors were not trained to be compared; choose a "
            "late-interaction model"
        )
    prompts = dict(settings.get("prompts") or {})
    for key, marker in marker_of.items():
        prompts[key] = marker + (prompts.get(key) or "").removeprefix(marker)
    text_prompt = next((prompts[key] for key in ("document", "passage", "corpus") if prompts.get(key)), "")
    place = folder.path / parts.encoder / "sentence_bert_config.json"
    encoder = {**_legacy_lengths(settings), **(read_json(place, folder.name) if place.is_file() else {})}
    mask = parts.mask or {}
    if mask.get("keep_only_token_ids"):
        raise ModelLoadError(f"{folder.name} compares tokens of images only, and its texts would have none")
    skipped = mask.get("skiplist_words", settings.get("skiplist_words"))
    if skipped is None:
        skipped = list(string.punctuation) if parts.mask is None and (marker_of or not is_native) else []
    tasks = mask.get("skiplist_tasks") or ["document"]
    return Conventions(
        encoder=parts.encoder,
        query_prompt=prompts.get("query") or "",
        text_prompt=text_prompt or "",
        markers=tuple(marker_of.values()),
        query_length=encoder.get("query_length"),
        text_length=encoder.get("document_length"),
        window=encoder.get("max_seq_length"),
        expansion=_expansion(encoder.get("query_expansion"), folder.name),
        skipped=tuple(skipped),
        skips_in_queries="query" in tasks,
        skips_in_texts="document" in tasks,
        projections=tuple(parts.projections),
        normalizes=parts.normalizes or not is_native,
        lower_case=bool(encoder.get("do_lower_case")),
        mean=settings.get("similarity_fn_name") == "meanmaxsim",
    )


def _parts(folder: ModelFolder) -> _Parts:
    """Return the modules of a checkpoint.

    Raises:
        ModelLoadError: One does something that is not known here.
    """
    parts = _Parts()
    for module in _module_list(folder):
        kind, place = str(module.get("type")).rpartition(".")[2], str(module.get("path") or ".")
        file = folder.path / place / "config.json"
        config = read_json(file, folder.name) if file.is_file() and kind != "Transformer" else {}
        if kind == "Transformer":
            parts.encoder = place
        elif kind == "Dense":
            parts.projections.append(place)
        elif kind == "MultiVectorMask":
            parts.mask = config
        elif kind == "Normalize":
            parts.normalizes |= config.get("module_input_name") == "token_embeddings"
        elif kind != "Pooling":  # of a sentence encoder that became a ColBERT model
            raise ModelLoadError(f"{folder.name} has a module {kind}, which is not known here")
    return parts


def _module_list(folder: ModelFolder) -> Sequence[Mapping[str, Any]]:
    import json

    try:
        modules = json.loads((folder.path / _MODULES).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelLoadError(f"{folder.name}: cannot read {_MODULES}: {error}") from error
    if not isinstance(modules, list) or not all(isinstance(module, dict) for module in modules):
        raise ModelLoadError(f"{folder.name}: {_MODULES} holds no list of modules")
    return modules


def _legacy_lengths(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return lengths and expansion where PyLate wrote them among the settings of the whole model."""
    if not any(key in settings for key in _PYLATE_KEYS):
        return {}
    names = ("query_length", "document_length")
    lengths: dict[str, Any] = {name: settings[name] for name in names if settings.get(name) is not None}
    if "query_expansion" in settings:
        return {**lengths, "query_expansion": settings["query_expansion"]}
    if settings.get("do_query_expansion") is False:
        return {**lengths, "query_expansion": None}
    attends = settings.get("attend_to_expansion_tokens", settings.get("attend_to_mask_tokens"))
    length = lengths.pop("query_length", None) or _EXPANSION_LENGTH
    return {**lengths, "query_expansion": {"strategy": "fixed", "attend": bool(attends), "length": length}}


def _expansion(settings: Any, name: str) -> Expansion | None:
    if settings is None:
        return None
    length = settings.get("length") if isinstance(settings, Mapping) else None
    if not isinstance(length, int) or settings.get("strategy") not in ("fixed", "min"):
        raise ModelLoadError(f"{name}: its query_expansion is not known here: {settings!r:.80}")
    return Expansion(
        length, settings["strategy"] == "fixed", bool(settings.get("attend", False)), settings.get("token")
    )


@dataclass(frozen=True)
class Projection:
    """A linear layer that all token vectors go through.

    Args:
        weight: Of shape (outputs, inputs).
        bias: What is added; ``None`` for nothing.
        activation: ``"Identity"``, ``"Tanh"`` or ``"ReLU"``.
        residual: What the inputs are multiplied by before they are added to the result; ``None`` where they are not
            added, and ``"inputs"`` where they are added as they are.
    """

    weight: Floats
    bias: Floats | None
    activation: str = "Identity"
    residual: Floats | str | None = None

    def __call__(self, vectors: Floats) -> Floats:
        """Return the vectors that come out."""
        import numpy as np

        flat = vectors.reshape(-1, vectors.shape[-1])
        out = products(flat, self.weight)
        if self.bias is not None:
            out += self.bias
        if self.activation == "Tanh":
            out = np.tanh(out)
        elif self.activation == "ReLU":
            out = np.maximum(out, 0)
        if isinstance(self.residual, str):
            out = out + flat
        elif self.residual is not None:
            out = out + products(flat, self.residual)
        return out.reshape(*vectors.shape[:-1], len(self.weight))


def read_projections(folder: ModelFolder, conventions: Conventions) -> list[Projection]:
    """Read the linear layers of a checkpoint, in their order.

    Raises:
        ModelLoadError: A file is absent or cannot be read, or an activation is not known here.
    """
    try:
        if conventions.projects_inline:
            return [Projection(read_tensors(folder.path / "model.safetensors")["linear.weight"], None)]
        return [_projection(folder, folder.path / place) for place in conventions.projections]
    except KeyError as error:
        raise ModelLoadError(f"{folder.name} has no weight {error} for the vectors of its tokens") from None
    except UnsupportedGraph as error:
        raise ModelLoadError(f"{folder.name}: the layer for the vectors of its tokens: {error}") from error


def _projection(folder: ModelFolder, place: Path) -> Projection:
    config = read_json(place / "config.json", folder.name)
    tensors = read_tensors(place / "model.safetensors")
    name = str(config.get("activation_function", "torch.nn.modules.activation.Tanh"))
    activation = name.rpartition(".")[2] if name.startswith("torch.") else "Tanh"
    if activation not in _ACTIVATIONS:
        raise ModelLoadError(f"{folder.name}: the activation {name} of {place.name} is not known here")
    residual: Floats | str | None = None
    if config.get("use_residual"):
        residual = tensors.get("residual.weight", "inputs")
    return Projection(tensors["linear.weight"], tensors.get("linear.bias"), activation, residual)
