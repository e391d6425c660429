"""From the vectors of tokens to the vector of a text, as the modules of a sentence-transformers checkpoint say."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rag_rerank.backends.local.late_interaction.checkpoint import Conventions, is_late_interaction, read_projections
from rag_rerank.backends.local.late_interaction.signals import unit
from rag_rerank.backends.local.model_files import ModelFolder, read_json
from rag_rerank.errors import ModelLoadError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]

__all__ = ["MODULES", "Pipeline", "is_embedding_model", "read_pipeline"]

MODULES = "modules.json"

_LEGACY_MODES = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
"""Keys of sentence-transformers before 6 -> the mode, in the order in which several modes are joined."""

_SIMILARITIES = {None: "cosine", "cosine": "cosine", "dot": "dot"}

_HEADS = ("ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering")


def _mean(vectors: Floats) -> Floats:
    mean: Floats = vectors.mean(axis=0)
    return mean


def _sum_over_root(vectors: Floats) -> Floats:
    import numpy as np

    result: Floats = vectors.sum(axis=0) / np.sqrt(np.float32(len(vectors)))
    return result


def _largest(vectors: Floats) -> Floats:
    largest: Floats = vectors.max(axis=0)
    return largest


_POOLINGS: Mapping[str, Callable[[Floats], Floats]] = {
    "cls": lambda vectors: vectors[0],
    "lasttoken": lambda vectors: vectors[-1],
    "max": _largest,
    "mean": _mean,
    "mean_sqrt_len_tokens": _sum_over_root,
}
"""The modes of pooling that depend on no position; ``weightedmean`` is in `Pipeline.pool`."""


@dataclass(frozen=True)
class Pipeline:
    """What happens to the vectors of tokens.

    Args:
        encoder: Folder of the encoder within the checkpoint.
        modes: The modes of pooling, whose results are joined.
        pools_prompt: Whether the tokens of a prompt are pooled too.
        steps: What the pooled vector goes through: linear layers, and scaling to unit length.
        similarity: ``"cosine"`` or ``"dot"``.
        window: Most tokens that the checkpoint reads, if it says so.
        lower_case: Whether inputs are lower-cased.
        notes: Remarks for the trace.
    """

    encoder: str = "."
    modes: tuple[str, ...] = ("mean",)
    pools_prompt: bool = True
    steps: tuple[Callable[[Floats], Floats], ...] = ()
    similarity: str = "cosine"
    window: int | None = None
    lower_case: bool = False
    notes: tuple[str, ...] = ()

    def vector(self, tokens: Floats, prompt_tokens: int, dimensions: int | None) -> Floats:
        """Return the vector of a text as it is compared, of shape (width,).

        Args:
            tokens: The vectors of all its tokens, of shape (tokens, hidden).
            prompt_tokens: How many of them, from the first on, are of the prompt and the special tokens before it; 0
                without a prompt, as in sentence-transformers.
            dimensions: How many numbers are kept, from the first on; the rest is scaled to unit length again if the
                whole was. ``None`` for all.
        """
        vector = self.pool(tokens, 0 if self.pools_prompt else prompt_tokens)
        for step in self.steps:
            vector = step(vector[None])[0]
        if dimensions is not None:
            vector = vector[:dimensions]
        is_unit = self.similarity == "cosine" or (bool(self.steps) and self.steps[-1] is unit)
        return unit(vector) if is_unit else vector

    def pool(self, tokens: Floats, skipped: int) -> Floats:
        """Return the pooled vector; the first tokens may be skipped, which keeps the weights of the others."""
        import numpy as np

        pooled, rest = [], tokens[skipped:] if skipped < len(tokens) else tokens
        for mode in self.modes:
            if mode == "weightedmean":
                weights = np.arange(len(tokens) - len(rest) + 1, len(tokens) + 1, dtype=np.float32)
                pooled.append((rest * weights[:, None]).sum(axis=0) / weights.sum())
            else:
                pooled.append(_POOLINGS[mode](rest))
        return np.concatenate(pooled).astype(np.float32, copy=False)


def is_embedding_model(folder: Path) -> bool:
    """Whether a folder holds an embedding model, as its list of modules says; weights need not be there.

    Raises:
        ModelLoadError: The list cannot be read.
    """
    if not (folder / MODULES).is_file():
        return False
    kinds = [kind for kind, _ in _modules(folder, str(folder))]
    return "Pooling" in kinds and "Transformer" in kinds


def read_pipeline(folder: ModelFolder, settings: Mapping[str, Any]) -> Pipeline:
    """Read what a checkpoint does with the vectors of tokens.

    Args:
        folder: The checkpoint.
        settings: Content of its ``config_sentence_transformers.json``.

    Raises:
        ModelLoadError: It is no embedding model, or it does something that is not known here.
    """
    if is_late_interaction(folder.path):
        raise ModelLoadError(f"{folder.name} is no embedding model, but compares tokens; its type is late_interaction")
    similarity = settings.get("similarity_fn_name")
    if similarity not in _SIMILARITIES:
        raise ModelLoadError(f"{folder.name} compares by {similarity!r:.40}; only cosine and dot are known here")
    if not (folder.path / MODULES).is_file():
        return _of_encoder(folder, _SIMILARITIES[similarity])
    encoder, pooling = None, None
    steps: list[Callable[[Floats], Floats]] = []
    for kind, place in _modules(folder.path, folder.name):
        file = folder.path / place / "config.json"
        config = read_json(file, folder.name) if file.is_file() and kind != "Transformer" else {}
        if kind == "Transformer":
            encoder = place
        elif kind == "Pooling":
            pooling = config
        elif kind == "Dense":
            _check_place(config, folder.name, kind)
            steps += read_projections(folder, Conventions(projections=(place,)))
        elif kind == "Normalize":
            _check_place(config, folder.name, kind)
            steps.append(unit)
        elif kind != "Dropout":  # which does nothing outside training
            raise ModelLoadError(
                f"{folder.name} has a module {kind}, which is not known here; known are Transformer, Pooling, Dense, "
                "Normalize and Dropout"
            )
    if encoder is None or pooling is None:
        raise ModelLoadError(
            f"{folder.name} is no embedding model: its {MODULES} lists no Transformer with a Pooling behind it; "
            "a ColBERT model has the type late_interaction, and a cross-encoder onnx or torch"
        )
    settings_file = folder.path / encoder / "sentence_bert_config.json"
    of_encoder = read_json(settings_file, folder.name) if settings_file.is_file() else {}
    return Pipeline(
        encoder=encoder,
        modes=_modes(pooling, folder.name),
        pools_prompt=bool(pooling.get("include_prompt", True)),
        steps=tuple(steps),
        similarity=_SIMILARITIES[similarity],
        window=of_encoder.get("max_seq_length"),
        lower_case=bool(of_encoder.get("do_lower_case")),
    )


def _of_encoder(folder: ModelFolder, similarity: str) -> Pipeline:
    """Return the pipeline of an encoder without a list of modules: the mean, as in sentence-transformers.

    Raises:
        ModelLoadError: It has a head of another task.
    """
    for architecture in folder.config.get("architectures") or ():
        if str(architecture).endswith(_HEADS):
            raise ModelLoadError(
                f"{folder.name} is no embedding model: its config.json names {architecture}; for a cross-encoder use "
                "the type onnx or torch"
            )
    note = f"it has no {MODULES}, so a text's vector is the mean of its tokens' vectors"
    return Pipeline(similarity=similarity, notes=(note,))


def _modes(config: Mapping[str, Any], name: str) -> tuple[str, ...]:
    """Return the modes of pooling.

    Raises:
        ModelLoadError: One is not known here.
    """
    mode = config.get("pooling_mode")
    if mode is None:
        modes = tuple(mode for key, mode in _LEGACY_MODES.items() if config.get(key)) or ("mean",)
    else:
        modes = (mode,) if isinstance(mode, str) else tuple(mode)
    for mode in modes:
        if mode not in _LEGACY_MODES.values():
            raise ModelLoadError(f"{name} pools by {mode!r:.40}, which is not known here")
    return modes


def _check_place(config: Mapping[str, Any], name: str, kind: str) -> None:
    """Refuse a module that works on anything but the pooled vector.

    Raises:
        ModelLoadError: It does.
    """
    places = {config.get(key) or "sentence_embedding" for key in ("module_input_name", "module_output_name")}
    if places != {"sentence_embedding"}:
        raise ModelLoadError(f"{name} has a module {kind} on {', '.join(sorted(places))}, which is not known here")


def _modules(folder: Path, name: str) -> Sequence[tuple[str, str]]:
    """Return the class and the folder of each module.

    Raises:
        ModelLoadError: They cannot be read.
    """
    try:
        modules = json.loads((folder / MODULES).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelLoadError(f"{name}: cannot read {MODULES}: {error}") from error
    if not isinstance(modules, list) or not all(isinstance(module, dict) for module in modules):
        raise ModelLoadError(f"{name}: {MODULES} holds no list of modules")
    return [(str(module.get("type")).rpartition(".")[2], str(module.get("path") or ".")) for module in modules]
