"""The names of rerankers, what they stand for, and their classes, which are imported on first use.

Built-in names are the table below. Other distributions add names with an entry point::

    [project.entry-points."rag_rerank.rerankers"]
    my-reranker = "my_package.rerank:MyReranker"

An entry point cannot replace a built-in name, an alias or the name of a provider; entry points are read only for an
unknown name.
"""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

from rag_rerank._files import expand_user, path_from
from rag_rerank.documentation import TYPES
from rag_rerank.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from rag_rerank.base import Reranker

__all__ = [
    "BUILT_IN",
    "EXTRAS",
    "MODEL_TYPES",
    "PLUGIN_GROUP",
    "PRESETS",
    "SUFFIXES",
    "aliases",
    "names",
    "neighbours",
    "parse_name",
    "providers",
    "resolve",
]

BUILT_IN: Mapping[str, str] = MappingProxyType(
    {
        "answerable": "rag_rerank.compose.calibration.answerable:Answerable",
        "auto": "rag_rerank.backends.auto:AutoReranker",
        "bedrock": "rag_rerank.backends.bedrock:BedrockReranker",
        "cached": "rag_rerank.compose.cache.cached:Cached",
        "calibrated": "rag_rerank.compose.calibration.calibrated:Calibrated",
        "cascade": "rag_rerank.compose.cascade:Cascade",
        "cohere": "rag_rerank.backends.cohere:CohereReranker",
        "deadline": "rag_rerank.compose.deadline:Deadline",
        "decay": "rag_rerank.compose.metadata.decay:Decay",
        "decisions": "rag_rerank.backends.decisions:DecisionsReranker",
        "embedding": "rag_rerank.backends.embedding:EmbeddingReranker",
        "ensemble": "rag_rerank.compose.ensemble:Ensemble",
        "fallback": "rag_rerank.compose.fallback:Fallback",
        "first_stage": "rag_rerank.backends.first_stage:FirstStageReranker",
        "guarded": "rag_rerank.compose.guarded:Guarded",
        "hedge": "rag_rerank.compose.hedge:Hedge",
        "http": "rag_rerank.backends.http:HttpReranker",
        "late_interaction": "rag_rerank.backends.late_interaction:LateInteractionReranker",
        "lexical": "rag_rerank.backends.lexical:LexicalReranker",
        "llm": "rag_rerank.backends.llm:LlmReranker",
        "ltr": "rag_rerank.compose.ltr.learning_to_rank:LearningToRank",
        "onnx": "rag_rerank.backends.onnx:OnnxReranker",
        "recorded": "rag_rerank.compose.recorded:Recorded",
        "shadow": "rag_rerank.compose.shadow:Shadow",
        "sparse": "rag_rerank.backends.sparse:SparseReranker",
        "spans": "rag_rerank.compose.relevant_spans:RelevantSpans",
        "template": "rag_rerank.compose.metadata.template:Template",
        "torch": "rag_rerank.backends.torch:TorchReranker",
        "voyage": "rag_rerank.backends.voyage:VoyageReranker",
        "windows": "rag_rerank.compose.windows:Windows",
    }
)
"""``type`` in a config -> ``"module:Class"``."""

EXTRAS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "bedrock": ("boto3", "bedrock"),
        "cohere": ("cohere", "cohere"),
        "decisions": ("httpx", "http"),
        "http": ("httpx", "http"),
        "llm": ("openai", "llm"),
        "ltr": ("lightgbm", "ltr"),
        "torch": ("sentence_transformers", "torch"),
        "voyage": ("voyageai", "voyage"),
    }
)
"""``type`` -> (the optional package that it imports, the extra that installs it)."""

PRESETS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "embedded-tiny": {
            "type": "cascade",
            "stages": [
                {"reranker": {"type": "ensemble", "members": ["first_stage", "embedded-static"]}},
                {"depth": 15, "reranker": "embedded"},
            ],
        }
    }
)
"""The names of composites that ship with the package -> the config node that each stands for."""

PLUGIN_GROUP = "rag_rerank.rerankers"

MODEL_TYPES = ("auto", "onnx", "torch", "late_interaction", "sparse", "embedding")
"""The types that run a model by its hub id or folder. The first that has all the fields of a node is meant, and of a
folder with a model that reads query and text apart its own type before those of cross-encoders."""

SUFFIXES = (".yaml", ".yml", ".json")
"""Endings of config files."""

_MODELS_OF_PROVIDERS = {
    r"rerank-(v\d|english-|multilingual-).*": "cohere",
    r"rerank-(\d|lite-).*": "voyage",
    r"jina-reranker-.*": "jina",
    r"ctxl-rerank-.*": "contextual",
    r"semantic-ranker-.*": "google",
    r"(amazon|cohere)\.rerank-.*": "bedrock",
}
"""How providers name their models -> the name that such a model stands for, without the model."""

_WRAPPER = re.compile(r"([\w-]+)\((.*)\)", re.DOTALL)
"""A composite around one reranker, as its label shows it: ``cached(onnx:minilm)``."""

_MOST_NEIGHBOURS = 1000
"""Most entries of a folder to compare a misspelt name with."""


def names() -> tuple[str, ...]:
    """Return every ``type`` that a config may name: built-in ones and installed plugins."""
    return tuple(sorted({*BUILT_IN, *_plugins()}))


def aliases() -> Mapping[str, str]:
    """Return the one-word names of well-known models: ``"minilm" -> "onnx:minilm"``."""
    by_name: Mapping[str, str] = _catalogue().aliases()
    return by_name


def providers() -> Mapping[str, str]:
    """Return the one-word names of providers and servers without a type of their own: ``"jina" -> "http:jina"``.

    They are the dialects of ``http``, and the providers of ``decisions`` that offer nothing else.
    """
    dialects = importlib.import_module("rag_rerank.backends.api.dialects").DIALECTS
    of_decisions = importlib.import_module("rag_rerank.backends.api.decisions.providers").PROVIDERS
    words = {name: f"decisions:{name}" for name, row in of_decisions.items() if row.is_word}
    return words | {name: f"http:{name}" for name in dialects if name not in BUILT_IN}


def parse_name(name: str, folder: str = "") -> dict[str, Any]:
    """Return the config node that a name stands for.

    A name is one of these, the first that fits; its case does not matter, unless it is a folder's:

    - a type: ``lexical``; with a model, ``onnx:minilm`` or ``cohere:rerank-v3.5``; for ``http``, a dialect and a model,
      for ``decisions``, a provider and a model;
    - a provider or server without a type of its own: ``tei``, ``ollama``; with a model, ``jina:jina-reranker-v3``;
    - a composite that ships with the package: ``embedded-tiny``;
    - an alias, an id or a former id of the catalogue, also with ``@revision``: the catalogue names the backend;
    - a folder, or any other hub id (``org/name``, ``org/name@revision``): ``auto`` chooses the backend by the files;
    - a model of Cohere, Voyage or Jina, as its provider writes it: ``rerank-v3.5``;
    - a composite around one reranker as its label shows it: ``cached(lexical)``.

    Args:
        name: The name.
        folder: The folder that relative paths start from: that of the config file. By default the working directory.

    Raises:
        ConfigError: It is none of these, and no single word, of which `resolve` says the same; the message names the
            nearest type, alias, model, folder or config file.
    """
    catalogue = _catalogue()
    kind, colon, rest = name.partition(":")
    type_name = _find_type(kind)
    if type_name is None and (word := kind.casefold()) in providers():
        if colon and not rest.strip():
            raise ConfigError(f"unknown model '': {name!r} ends after the colon; write {word}:MODEL")
        kind, _, choice = providers()[word].partition(":")
        return {"type": kind, resolve(kind).label_fields[0]: choice, **({"model": rest} if colon else {})}
    if type_name is not None:
        if not colon:
            return {"type": type_name}
        fields = _fields_after(type_name, rest)
        if not rest.strip():
            raise ConfigError(f"unknown {fields[0]} '': {name!r} ends after the colon; write {type_name}:MODEL")
        return {"type": type_name, **dict(zip(fields, rest.split(":", len(fields) - 1), strict=False))}
    if name.casefold() in PRESETS:
        return dict(PRESETS[name.casefold()])
    if catalogue.row_of(name) is None and catalogue.is_folder(path_from(folder, name)):
        return {"type": "auto", "model": name}
    row = catalogue.row_of_any_case(name.partition("@")[0])
    if row is not None:
        return {"type": row.backend, "model": name}
    if _is_hub_id(name) and not Path(path_from(folder, name)).is_file():
        return {"type": "auto", "model": name}
    for pattern, prefix in _MODELS_OF_PROVIDERS.items():
        if re.fullmatch(pattern, name):
            return parse_name(f"{prefix}:{name}", folder)
    wrapper = _WRAPPER.fullmatch(name)
    if wrapper and (type_name := _find_type(wrapper[1])):
        return {"type": type_name, "reranker": wrapper[2]}
    if re.fullmatch(r"[\w-]+", name):
        return {"type": name}  # `resolve` says what it is like
    raise ConfigError(_unknown(name, folder), page=TYPES)


def resolve(name: str, folder: str = "") -> type[Reranker]:
    """Return the class that a ``type`` names; ``folder`` is that of the config file, for the message.

    Raises:
        ConfigError: The name is unknown (the message names the nearest one), or a plugin cannot be loaded.
    """
    target = BUILT_IN.get(name)
    if target is not None:
        module, _, attribute = target.partition(":")
        built_in: type[Reranker] = getattr(importlib.import_module(module), attribute)
        return built_in
    plugin = _plugins().get(name)
    if plugin is None:
        raise ConfigError(_unknown(name, folder), page=TYPES)
    return _load(plugin)


def _catalogue() -> Any:
    return importlib.import_module("rag_rerank.backends.local.catalogue")


def _find_type(word: str) -> str | None:
    """Return the type that a word names, in any case; plugins are read only for a word that could be one of theirs."""
    for name in (word, word.casefold()):
        if name in BUILT_IN:
            return name
    if not re.fullmatch(r"[\w.-]+", word) or word.casefold() in {*aliases(), *PRESETS, *providers()}:
        return None
    by_case = {name.casefold(): name for name in _plugins()}
    return word if word in by_case.values() else by_case.get(word.casefold())


def _fields_after(type_name: str, rest: str) -> tuple[str, ...]:
    """Return the fields whose values may follow a type; one with a fixed set of values may be left out."""
    kind = resolve(type_name)
    choices = _choices_after(type_name)
    return kind.label_fields if not choices or rest.partition(":")[0] in choices else kind.label_fields[1:]


def _choices_after(type_name: str) -> tuple[str, ...]:
    """Return the fixed set of values of the first field that may follow a type, if it has one: the dialects of http."""
    kind = resolve(type_name)
    first, *others = kind.label_fields
    return tuple(_words_of(get_type_hints(kind)[first])) if others else ()


def _words_of(hint: Any) -> Iterator[str]:
    """Yield the words that a field may hold, by its annotation; it may be optional."""
    for choice in get_args(hint):
        if isinstance(choice, str):
            yield choice
        else:
            yield from _words_of(choice)


def _is_hub_id(name: str) -> bool:
    model, _, revision = name.partition("@")
    return bool(_catalogue().HUB_ID.fullmatch(model)) and ("@" not in name or bool(revision))


def _unknown(name: str, folder: str) -> str:
    """Return the message about a name that stands for nothing: the nearest one, or all types and aliases."""
    if folder and not Path(path_from(folder, name)).exists() and Path(name).exists():
        return (
            f"{name!r} is in the working directory; paths in a config file are relative to the file, and there is no "
            f"{path_from(folder, name)}. Name it as seen from there, or in full"
        )
    if expand_user(path_from(folder, name)).is_file():
        return (
            f"{name!r} is no reranker: a config file ends in .yaml, .yml or .json, and a model is named by its folder, "
            f"{name.rpartition('/')[0] or '.'!r}"
        )
    if match := re.match(r"(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co)/([^/]+/[^/?#]+)", name):
        return f"{name!r} is an address; did you mean {match[1]!r}?"
    if name.startswith((".", "~", os.sep)) or name.endswith(SUFFIXES) or name.count("/") > 1 or name.endswith("/"):
        what = "config file" if name.endswith(SUFFIXES) else "folder or config file"
        where = f" in {folder}" if folder and path_from(folder, name) != name else ""
        return f"no such {what}: {name!r}{where}{did_you_mean(name, neighbours(name, folder), or_list=False)}"
    if name.partition(":")[0].casefold() in aliases():
        return f"{name.partition(':')[0]!r} is a model already, so nothing may follow it, got {name!r}"
    rows = _catalogue().models()
    ids = {short: row.id for row in rows for short in (row.id, row.id.rpartition("/")[2]) if not row.packaged}
    words = {*names(), *aliases(), *PRESETS, *providers(), *ids, *neighbours(name, folder)}
    hint = did_you_mean(name, words, or_list=False) or did_you_mean(name.partition(":")[0], words, or_list=False)
    for short, id in ids.items():
        hint = hint.replace(f"{short!r}", f"{id!r}")
    all_names = ", ".join(sorted({*names(), *aliases(), *PRESETS, *providers()}))
    ending = hint or f"; known: {all_names}, any org/name of the hub, and folders"
    return f"unknown type {name.partition(':')[0]!r}{ending}"


def neighbours(name: str, folder: str = "") -> Iterator[str]:
    """Yield the folders and config files beside a path, written as the path is."""
    parent = name.rpartition("/")[0]
    place = expand_user(path_from(folder, f"{parent}/" if "/" in name else "."))
    try:
        for entry in islice(os.scandir(place), _MOST_NEIGHBOURS):
            if entry.name.endswith(SUFFIXES) or entry.is_dir():
                yield f"{parent}/{entry.name}" if "/" in name else entry.name
    except OSError:
        return  # a suggestion is worth no error


def _load(plugin: EntryPoint) -> type[Reranker]:
    from rag_rerank.base import Reranker

    try:
        plugin_class = plugin.load()
    except Exception as error:  # the import of a plugin can raise anything
        raise ConfigError(
            f"the plugin {plugin.name!r} ({plugin.value}) cannot be loaded: {type(error).__name__}: {error}; "
            "repair or uninstall its package"
        ) from error
    if not (isinstance(plugin_class, type) and issubclass(plugin_class, Reranker)):
        raise ConfigError(
            f"the plugin {plugin.name!r} ({plugin.value}) is no Reranker class; its entry point must name one"
        )
    return plugin_class


def _plugins() -> dict[str, EntryPoint]:
    from importlib.metadata import entry_points

    reserved = {*BUILT_IN, *aliases(), *PRESETS, *providers()}
    return {point.name: point for point in entry_points(group=PLUGIN_GROUP) if point.name not in reserved}
