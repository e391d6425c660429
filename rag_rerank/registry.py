"""Names of rerankers, and the classes behind them, imported on first use.

Built-in names are the table below. Other distributions add names with an entry point::

    [project.entry-points."rag_rerank.rerankers"]
    my-reranker = "my_package.rerank:MyReranker"

They cannot shadow a built-in name or an alias, and are looked up only when a name is unknown.
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
"""``type`` -> the optional package that it imports, and the extra that installs it."""

PLUGIN_GROUP = "rag_rerank.rerankers"


def names() -> tuple[str, ...]:
    """Return every ``type`` that a config may name: built-in ones and installed plugins."""
    return tuple(sorted({*BUILT_IN, *_plugins()}))


def aliases() -> Mapping[str, str]:
    """Return the one-word names of well-known models: ``"minilm" -> "onnx:minilm"``."""
    catalogue = importlib.import_module("rag_rerank.backends.local.catalogue")
    found: Mapping[str, str] = catalogue.aliases()
    return found


def resolve(name: str) -> type[Reranker]:
    """Return the class behind a name.

    Raises:
        ConfigError: No such name (the message names the nearest one), or a plugin that cannot be loaded.
    """
    target = BUILT_IN.get(name)
    if target is not None:
        module, _, attribute = target.partition(":")
        found: type[Reranker] = getattr(importlib.import_module(module), attribute)
        return found
    plugin = _plugins().get(name)
    if plugin is None:
        raise ConfigError(f"unknown type {name!r}{did_you_mean(name, {*names(), *aliases()})}")
    return _loaded(plugin)


def _loaded(plugin: EntryPoint) -> type[Reranker]:
    from rag_rerank.base import Reranker

    try:
        found = plugin.load()
    except Exception as error:  # a plugin raises at import whatever it likes
        raise ConfigError(
            f"the plugin {plugin.name!r} ({plugin.value}) cannot be loaded: {type(error).__name__}: {error}"
        ) from error
    if not (isinstance(found, type) and issubclass(found, Reranker)):
        raise ConfigError(f"the plugin {plugin.name!r} ({plugin.value}) is no Reranker class")
    return found


def _plugins() -> dict[str, EntryPoint]:
    from importlib.metadata import entry_points

    taken = {*BUILT_IN, *aliases()}
    return {point.name: point for point in entry_points(group=PLUGIN_GROUP) if point.name not in taken}
