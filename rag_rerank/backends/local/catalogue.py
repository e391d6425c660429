"""The catalogue of local models: their names, revisions, windows, languages and licences."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from rag_rerank._checks import path_text
from rag_rerank._files import ConfigPath, expand_user, path_from
from rag_rerank.errors import ConfigError, did_you_mean

__all__ = [
    "Model",
    "ModelName",
    "aliases",
    "find",
    "is_folder",
    "measures",
    "models",
    "parse_model",
    "row_of",
    "row_of_any_case",
]

HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
"""An owner and a name, as the hub writes its ids."""

_SHORTEST_COMMIT = 7
"""Digits of a commit that are enough to recognise the pinned one."""

_LARGE = 140
"""Millions of weights from which on a CPU is slow."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Model:
    """One row of the catalogue (``catalogue.json``).

    Args:
        id: Name on the Hugging Face hub, or of the folder inside the package when ``packaged``.
        revision: Commit that is loaded unless the user names another; ``None`` for packaged files, and where none is
            known, so that the main branch is read, with a note.
        architecture: ``model_type`` of the transformers config.
        parameters: Number of weights, in millions.
        max_length: Longest input in tokens: query, text, template and special tokens together.
        languages: Languages it was trained for, as its card says.
        licence: SPDX identifier, or the licence's name.
        backend: Which backend an alias means: ``"late_interaction"`` for models that read query and text apart, else
            ``"onnx"`` where the hub has an ONNX file, else ``"torch"``.
        alias: One-word name, or ``None``.
        template: Name of the prompt template of a causal model; ``None`` for cross-encoders.
        packaged: Whether the files ship inside this package, or inside ``package``.
        package: Import name of a package of its own that holds the files of a packaged model; empty for this one.
        former_ids: Names that redirect to ``id`` on the hub.
        note: Advice for users who consider it.
        sha256: Hexadecimal SHA-256 of each file of a packaged model that decides its scores, by name; empty for models
            of the hub, whose cache names files by their hashes.
    """

    id: str
    revision: str | None
    architecture: str
    parameters: float
    max_length: int
    languages: str
    licence: str
    backend: str
    alias: str | None = None
    template: str | None = None
    packaged: bool = False
    package: str = ""
    former_ids: tuple[str, ...] = ()
    note: str = ""
    sha256: Mapping[str, str] = field(default_factory=dict, hash=False)

    @property
    def extra(self) -> str:
        """The extra that installs ``package``; empty where nothing has to be installed."""
        return self.package.removeprefix("rag_rerank_")

    @property
    def kind(self) -> Literal["cross-encoder", "causal", "late"]:
        """How it reads query and text: together, together in a prompt for a causal language model, or apart."""
        if self.backend == "late_interaction" or self.architecture.startswith("late-interaction"):
            return "late"
        return "causal" if self.template else "cross-encoder"

    @property
    def gpu_advised(self) -> bool:
        """Whether it scores fewer than some 20 pairs of 512 tokens a second on a desktop CPU, by its size.

        Published on an i7-13700K are 31 pairs a second for 68 million weights, and 14 for 150 million (Hugging Face's
        blog on the ettin rerankers, 2026). Models that read texts apart encode each text only once.
        """
        return self.kind != "late" and self.parameters >= _LARGE

    @property
    def quality(self) -> Mapping[str, float]:
        """Published figures by the name of their measure, the most usual one first; see `measures`."""
        figures: Mapping[str, float] = _content()["quality"].get(self.id, {})
        return figures

    @property
    def commercial(self) -> bool:
        """Whether the licence allows commercial use, judged by its name."""
        return "-nc" not in self.licence.lower()


@cache
def _content() -> Mapping[str, Any]:
    content: dict[str, Any] = json.loads(Path(__file__).with_name("catalogue.json").read_text(encoding="utf-8"))
    return content


def measures() -> Mapping[str, Mapping[str, str]]:
    """Return the title and the source of each measure of published quality, by its name."""
    titles: Mapping[str, Mapping[str, str]] = _content()["measures"]
    return titles


@cache
def models() -> tuple[Model, ...]:
    """Return all rows, in the order of the file."""
    rows: list[dict[str, Any]] = _content()["models"]
    return tuple(Model(**{**row, "former_ids": tuple(row.get("former_ids", ()))}) for row in rows)


@cache
def _by_name() -> Mapping[str, Model]:
    rows = {name: row for row in models() for name in (row.id, *row.former_ids)}
    return rows | {row.alias: row for row in models() if row.alias}


def aliases() -> dict[str, str]:
    """Return the spec that each one-word name stands for: ``"minilm" -> "onnx:minilm"``."""
    return {row.alias: f"{row.backend}:{row.alias}" for row in models() if row.alias}


def row_of(name: str) -> Model | None:
    """Return the row of an alias, an id or a former id; ``None`` for a model that is not in the catalogue."""
    return _by_name().get(name)


def row_of_any_case(name: str) -> Model | None:
    """Return what `row_of` returns, however the name is written: ``"MiniLM"``."""
    rows = {key.casefold(): row for key, row in _by_name().items()}
    return row_of(name) or rows.get(name.casefold())


def parse_model(model: str | os.PathLike[str], revision: str | None) -> tuple[str, str | None]:
    """Return the model and the revision that a user's words mean.

    A path object is a folder (``"./small"``), ``"org/name@commit"`` names a revision, and a name of the catalogue may
    be written in any case, unless a folder has that very name.

    Raises:
        ConfigError: Two different revisions are named.
    """
    if not isinstance(model, str):
        return path_text(model), revision
    if row_of(model) or is_folder(model):
        return model, revision
    name, _, commit = model.partition("@")
    row = row_of_any_case(name)
    if row is not None and name not in (row.id, row.alias, *row.former_ids):
        name = row.alias if row.alias and name.casefold() == row.alias.casefold() else row.id
    if commit and (row or HUB_ID.fullmatch(name)):
        if revision not in (None, commit):
            raise ConfigError(f"the model names the revision {commit}, and revision is {revision}", path="revision")
        pinned = row is not None and (row.revision or "").startswith(commit) and len(commit) >= _SHORTEST_COMMIT
        return name, None if pinned else commit
    return (model, revision) if row is None or commit else (name, revision)


def is_folder(name: str) -> bool:
    """Whether a name is that of a folder on this machine."""
    return bool(name) and expand_user(name).is_dir()


def means_folder(name: str, folder: str) -> bool:
    """Whether a model in a config file in this folder is a folder, and no name of the catalogue or of the hub.

    Raises:
        ConfigError: It could be a name of the hub, and is a folder in the working directory, but not beside the file.
    """
    if row_of(name):
        return False
    model = name.partition("@")[0]
    is_path = name.startswith((".", "~", os.sep)) or ("/" in name and not HUB_ID.fullmatch(model))
    if is_path or is_folder(path_from(folder, name)):
        return True
    if row_of_any_case(model) is None and is_folder(name):
        raise ConfigError(
            f"{name!r} is a folder in the working directory; paths in a config file are relative to the file, and "
            f"{path_from(folder, name)} is no folder. Name the folder as seen from there, or in full; name a model of "
            f"the hub with its revision: {name}@main"
        )
    return False


ModelName = Annotated[str, ConfigPath(means_folder)]
"""The type of a config field that is a model: an alias, a hub id, or a folder."""


def find(name: str) -> Model | None:
    """Return what `row_of` returns, and refuse a name that cannot be a model's.

    Raises:
        ConfigError: The name is empty, or a single word that is neither an alias nor a folder: hub ids have an owner.
    """
    row = row_of(name)
    if row is None and not any(sign in name for sign in "/\\.") and not (name and Path(name).exists()):
        raise ConfigError(f"unknown model {name!r}{did_you_mean(name, aliases())}", path="model")
    return row
