"""The names of rerankers and their classes, which are imported on first use.

Built-in names are the table below. Other distributions add names with an entry point::

    [project.entry-points."rag_rerank.rerankers"]
    my-reranker = "my_package.rerank:MyReranker"

An entry point cannot replace a built-in name or an alias; entry points are read only for an unknown name.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from rag_rerank.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from rag_rerank.base import Reranker

__all__ = ["BUILT_IN", "EXTRAS", "PLUGIN_GROUP", "aliases", "names", "resolve"]

BUILT_IN: Mapping[str, str] = MappingProxyType(
    {
        "cached": "rag_rerank.compose.cached:Cached",
        "calibrated": "rag_rerank.compose.calibrated:Calibrated",
        "cascade": "rag_rerank.compose.cascade:Cascade",
        "cohere": "rag_rerank.backends.cohere:CohereReranker",
        "deadline": "rag_rerank.compose.deadline:Deadline",
        "ensemble": "rag_rerank.compose.ensemble:Ensemble",
        "fallback": "rag_rerank.compose.fallback:Fallback",
        "hedge": "rag_rerank.compose.hedge:Hedge",
        "http": "rag_rerank.backends.http:HttpReranker",
        "lexical": "rag_rerank.backends.lexical:LexicalReranker",
        "onnx": "rag_rerank.backends.onnx:OnnxReranker",
        "recorded": "rag_rerank.compose.recorded:Recorded",
        "shadow": "rag_rerank.compose.shadow:Shadow",
        "torch": "rag_rerank.backends.torch:TorchReranker",
        "voyage": "rag_rerank.backends.voyage:VoyageReranker",
        "windows": "rag_rerank.compose.windows:Windows",
    }
)
"""``type`` in a config -> ``"module:Class"``."""

EXTRAS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "cohere": ("cohere", "cohere"),
        "http": ("httpx", "http"),
        "torch": ("sentence_transformers", "torch"),
        "voyage": ("voyageai", "voyage"),
    }
)
"""``type`` -> (the optional package that it imports, the extra that installs it)."""

PLUGIN_GROUP = "rag_rerank.rerankers"


def names() -> tuple[str, ...]:
    """Return every ``type`` that a config may name: built-in ones and installed plugins."""
    return tuple(sorted({*BUILT_IN, *_plugins()}))


def aliases() -> Mapping[str, str]:
    """Return the one-word names of well-known models: ``"minilm" -> "onnx:minilm"``."""
    catalogue = importlib.import_module("rag_rerank.backends.local.catalogue")
    by_name: Mapping[str, str] = catalogue.aliases()
    return by_name


def resolve(name: str) -> type[Reranker]:
    """Return the class that a ``type`` names.

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
        raise ConfigError(f"unknown type {name!r}{did_you_mean(name, {*names(), *aliases()})}")
    return _load(plugin)


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

    reserved = {*BUILT_IN, *aliases()}
    return {point.name: point for point in entry_points(group=PLUGIN_GROUP) if point.name not in reserved}
