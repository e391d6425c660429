"""What a learned sparse model does with queries and texts, read from its files as sentence-transformers 6 reads them.

Three layouts are in use. A plain `SparseEncoder` has one masked language model for both sides (SPLADE). One with a
``Router`` has a side for queries and a side for texts; in an inference-free model, that of queries is a table of
weights. And the query side of OpenSearch's inference-free models alone is a tokenizer and ``idf.json``.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from rag_rerank.backends.local.model_files import ModelFolder, read_json
from rag_rerank.errors import ModelLoadError

__all__ = [
    "IDF_FILE",
    "Side",
    "Similarity",
    "SparseConventions",
    "is_complete",
    "is_sparse",
    "may_be_sparse",
    "module_places",
    "read_conventions",
]

_SETTINGS, _MODULES, _ROUTER = "config_sentence_transformers.json", "modules.json", "router_config.json"
IDF_FILE = "idf.json"
"""The weight of each token of a vocabulary, by the token."""

Similarity = Literal["dot", "cosine", "euclidean", "manhattan"]
"""The names of sentence-transformers; a distance is turned into a similarity by its sign."""

Kind = Literal["model", "table", "frequency"]
"""What makes the weights of a side: a model, a table of weights, or a table and how often a token occurs."""

_SPARSE_MODULES = ("SpladePooling", "SparseStaticEmbedding", "SparseAutoEncoder", "MLMTransformer")
"""Modules that only sparse models have."""

_KNOWN_MODULES = ("MLMTransformer", "Transformer", "SpladePooling", "SparseStaticEmbedding", "Router")
"""Those whose numbers stand for tokens. The latent dimensions of a ``SparseAutoEncoder`` do not."""


@dataclass(frozen=True)
class Side:
    """One side of a model: queries, or texts.

    Args:
        kind: What makes its weights.
        place: Folder of its tokenizer and its config within the checkpoint.
        prompt: What goes before its inputs.
        window: The most tokens of an input that the checkpoint sets, if it does.
        lower_case: Whether inputs are lower-cased.
        weights: The file of a table; ``None`` for ``model.safetensors``.
    """

    kind: Kind
    place: str = ""
    prompt: str = ""
    window: int | None = None
    lower_case: bool = False
    weights: str | None = None


@dataclass(frozen=True)
class SparseConventions:
    """What a checkpoint does with queries and texts.

    Args:
        query: The side of queries.
        text: The side of texts.
        is_shared: Whether one model reads both, so that a query can be in a batch of texts.
        similarity: How weights are compared.
        max_active_dims: The most terms of a query and of a text; ``None`` for all.
    """

    query: Side
    text: Side
    is_shared: bool
    similarity: Similarity = "dot"
    max_active_dims: int | None = None

    @property
    def needs_model(self) -> bool:
        """Whether a model has to be run, and not only tables."""
        return "model" in (self.query.kind, self.text.kind)


def is_sparse(folder: Path) -> bool:
    """Whether a folder holds a learned sparse model, as its settings say; weights need not be there.

    Raises:
        ModelLoadError: Its settings cannot be read.
    """
    if _is_query_table(folder):
        return True
    settings = read_json(file, str(folder)) if (file := folder / _SETTINGS).is_file() else {}
    if settings.get("model_type") == "SparseEncoder":
        return True
    kinds = {_kind_of(module) for module in _module_list(folder, str(folder))}
    if "Router" in kinds:
        kinds |= {name.rpartition(".")[2] for name in _router(folder, str(folder))["types"].values()}
    return not kinds.isdisjoint(_SPARSE_MODULES)


def may_be_sparse(names: Collection[str]) -> bool:
    """Whether a repository with these files may hold a learned sparse model; its settings decide."""
    return any(name in names for name in (_SETTINGS, _MODULES))


def is_complete(folder: Path) -> bool:
    """Whether a folder holds tokenizer and weights of a sparse model; which others it needs, its settings say."""
    has_weights = (folder / IDF_FILE).is_file() or any(folder.rglob("*.safetensors"))
    return has_weights and any(folder.rglob("tokenizer.json")) and (_is_query_table(folder) or _has_settings(folder))


def _has_settings(folder: Path) -> bool:
    return any((folder / name).is_file() for name in (_MODULES, "config.json"))


def _is_query_table(folder: Path) -> bool:
    """Whether a folder holds the query side of an inference-free model alone."""
    return (folder / IDF_FILE).is_file() and (folder / "tokenizer.json").is_file() and not _has_settings(folder)


def read_conventions(folder: ModelFolder) -> SparseConventions:
    """Read the conventions of a checkpoint.

    Raises:
        ModelLoadError: It is no learned sparse model, or it does something that is not known here.
    """
    if _is_query_table(folder.path):
        table = Side("table", weights=IDF_FILE)
        return SparseConventions(table, replace(table, kind="frequency"), is_shared=False)
    file = folder.path / _SETTINGS
    settings = read_json(file, folder.name) if file.is_file() else {}
    modules = _module_list(folder.path, folder.name)
    if not modules:
        return _plain(folder)
    kinds = [_kind_of(module) for module in modules]
    _check_known(kinds, folder)
    if kinds[0] == "Router":
        router = _router(folder.path, folder.name)
        _check_known([name.rpartition(".")[2] for name in router["types"].values()], folder)
        query, text = (_side_of_router(router, folder, task) for task in ("query", "document"))
        is_shared = query == text and query.kind == "model"
    else:
        query = text = _side(folder, str(modules[0].get("path") or ""), kinds[0])
        is_shared = query.kind == "model"
    if set(kinds).isdisjoint(_SPARSE_MODULES) and kinds[0] != "Router":
        raise ModelLoadError(
            f"{folder.name} is no learned sparse model: its modules are {', '.join(kinds)}; for token vectors use the "
            "type late_interaction"
        )
    return SparseConventions(
        replace(query, prompt=_prompt(settings, "query")),
        replace(text, prompt=_prompt(settings, "document")),
        is_shared,
        _similarity(settings, folder),
        settings.get("max_active_dims"),
    )


def _plain(folder: ModelFolder) -> SparseConventions:
    """Return the conventions of a masked language model without a list of modules, which the library reads as SPLADE.

    Raises:
        ModelLoadError: It is none, or a table of weights beside it leaves open how they go together.
    """
    names = folder.config.get("architectures") or ()
    if not any(str(name).endswith("ForMaskedLM") for name in names):
        raise ModelLoadError(
            f"{folder.name} is no learned sparse model: it has no {_MODULES}, and its config.json names no masked "
            "language model"
        )
    if (folder.path / IDF_FILE).is_file():
        raise ModelLoadError(
            f"{folder.name} has a model and {IDF_FILE}, but no {_MODULES} that says how they go together; take a "
            f"revision that has {_MODULES}"
        )
    side = Side("model")
    return SparseConventions(side, side, is_shared=True)


def _side_of_router(router: Mapping[str, Any], folder: ModelFolder, task: str) -> Side:
    """Return the side that a router has for a task.

    Raises:
        ModelLoadError: It has none, or chooses it by more than the task.
    """
    parameters = router.get("parameters") or {}
    if parameters.get("route_mappings"):
        raise ModelLoadError(f"{folder.name} chooses its sides by route_mappings, which are not known here")
    route = router["structure"].get(task)
    if not route:
        raise ModelLoadError(f"{folder.name}: its router has no side for the task {task}")
    kind = str(router["types"].get(route[0])).rpartition(".")[2]
    return _side(folder, str(Path(_router_place(folder.path, folder.name)) / route[0]), kind)


def _side(folder: ModelFolder, place: str, kind: str) -> Side:
    """Return the side whose first module is of a kind and in a folder of the checkpoint."""
    path = folder.path / place
    if kind == "SparseStaticEmbedding":
        file = path / "config.json"
        config = read_json(file, folder.name) if file.is_file() else {}
        weights = config.get("path")
        if weights is None:
            return Side("table", place)
        return Side("table", place, weights=_table_file(str(weights), folder))
    file = path / "sentence_bert_config.json"
    config = read_json(file, folder.name) if file.is_file() else {}
    return Side("model", place, window=config.get("max_seq_length"), lower_case=bool(config.get("do_lower_case")))


def _table_file(name: str, folder: ModelFolder) -> str:
    """Return the place of a table within the checkpoint; the library looks for it in the whole checkpoint's folder.

    Raises:
        ModelLoadError: It is outside, or not there.
    """
    file = (folder.path / name).resolve()
    for place in (file, folder.path.resolve() / IDF_FILE):
        if place.is_file() and place.is_relative_to(folder.path.resolve()):
            return place.relative_to(folder.path.resolve()).as_posix()
    raise ModelLoadError(f"{folder.name} has no file {name} with the weights of its queries")


def _prompt(settings: Mapping[str, Any], name: str) -> str:
    """Return a prompt; a text never gets one of another name, because the library always has one for documents."""
    return (settings.get("prompts") or {}).get(name) or ""


def _similarity(settings: Mapping[str, Any], folder: ModelFolder) -> Similarity:
    name: Any = settings.get("similarity_fn_name") or "dot"
    if name not in get_args(Similarity):
        raise ModelLoadError(f"{folder.name} compares by {name!r:.40}, which is not known here")
    similarity: Similarity = name
    return similarity


def _check_known(kinds: Collection[str], folder: ModelFolder) -> None:
    for kind in kinds:
        if kind not in _KNOWN_MODULES:
            raise ModelLoadError(f"{folder.name} has a module {kind}, which is not known here")


def _kind_of(module: Mapping[str, Any]) -> str:
    return str(module.get("type")).rpartition(".")[2]


def _module_list(folder: Path, name: str) -> Sequence[Mapping[str, Any]]:
    """Return the modules of a checkpoint; none where it has no list of them.

    Raises:
        ModelLoadError: The list cannot be read.
    """
    file = folder / _MODULES
    if not file.is_file():
        return ()
    try:
        modules = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelLoadError(f"{name}: cannot read {_MODULES}: {error}") from error
    if not isinstance(modules, list) or not modules or not all(isinstance(module, dict) for module in modules):
        raise ModelLoadError(f"{name}: {_MODULES} holds no list of modules")
    return modules


def _router(folder: Path, name: str) -> Mapping[str, Any]:
    """Return what the router of a checkpoint says.

    Raises:
        ModelLoadError: It is absent or cannot be read.
    """
    files = [folder / _router_place(folder, name) / file for file in (_ROUTER, "config.json")]
    file = next((file for file in files if file.is_file()), files[0])
    router = read_json(file, name)
    if not all(isinstance(router.get(key), dict) for key in ("types", "structure")):
        raise ModelLoadError(f"{name}: {file.name} names no sides of its router")
    return router


def _router_place(folder: Path, name: str) -> str:
    return next((str(m.get("path") or "") for m in _module_list(folder, name) if _kind_of(m) == "Router"), "")


def module_places(folder: ModelFolder) -> Iterator[str]:
    """Yield the folders of the modules of a checkpoint; those of a router's sides among them."""
    modules = _module_list(folder.path, folder.name)
    for module in modules:
        if _kind_of(module) == "Router":
            base = str(module.get("path") or "")
            yield from (str(Path(base) / place) for place in _router(folder.path, folder.name)["types"])
        else:
            yield str(module.get("path") or "")
    if not modules:
        yield ""
