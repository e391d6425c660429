"""Write a reranker as the config that builds an equal one."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from pathlib import Path
from typing import Any, NamedTuple

from rag_rerank import registry
from rag_rerank._files import absolute_path
from rag_rerank.base import Reranker
from rag_rerank.config.build import build
from rag_rerank.config.fields import ROOT, Place, with_full_paths
from rag_rerank.errors import ConfigError
from rag_rerank.secret import Secret, escape

__all__ = ["file_config", "to_config", "with_absolute_paths"]


def to_config(reranker: Reranker) -> dict[str, Any]:
    """Return the node that builds an equal reranker: ``build(to_config(r)) == r``.

    Fields at their defaults are left out, except ``model``. A key given as ``"${VAR}"`` stays that reference; a key
    given as itself is left out, and the rebuilt reranker reads the usual environment variable. A path is written as the
    reranker has it: in full for one from a config file, else as it was given to Python.

    Raises:
        ConfigError: The reranker holds what no config can express (an injected client, or a ``${VAR}`` in a text that
            is no reference), or its class has no name in the registry.
    """
    if not isinstance(reranker, Reranker):
        raise ConfigError(f"expected a reranker, got {type(reranker).__name__}; build() makes one of a config")
    return _node_of(reranker, ROOT, _Paths())


def file_config(reranker: Reranker, file: Path) -> dict[str, Any]:
    """Return the node to write to a config file: paths in the file's folder are relative to it, others in full.

    Raises:
        ConfigError: As `to_config`.
    """
    return _node_of(reranker, ROOT, _Paths(str(absolute_path(".")), str(absolute_path(file).parent)))


def with_absolute_paths(reranker: Reranker) -> Reranker:
    """Return a reranker as a config file describes it: with paths in full, instead of from the working directory."""
    return build(_node_of(reranker, ROOT, _Paths(str(absolute_path(".")))))


class _Paths(NamedTuple):
    """How paths are written: as they are; in full, from a folder; or relative to the folder of a config file."""

    start: str = ""
    file_folder: str = ""

    def write(self, kind: type[Any], name: str, value: Any) -> Any:
        """Return the value of a field as it is written: only the paths in it change."""
        full = with_full_paths(kind, name, value, self.start)
        if self.file_folder and isinstance(full, str) and full.startswith(self.file_folder + os.sep):
            rest = full.removeprefix(self.file_folder + os.sep)
            short = rest if rest.startswith("..") else f".{os.sep}{rest}"
            if with_full_paths(kind, name, short, self.file_folder) == full:
                return short
        return full


def _node_of(reranker: Reranker, place: Place, paths: _Paths) -> dict[str, Any]:
    kind = type(reranker)
    try:
        registered = registry.resolve(kind.kind)
    except ConfigError as error:
        raise error.under(place.path) from error.__cause__
    if registered is not kind:
        raise ConfigError(
            f"the registry knows another class as {kind.kind!r}; {kind.__qualname__} needs its own name",
            path=place.path,
        )
    return {"type": kind.kind, **_dump_fields(reranker, place, paths)}


def _dump_fields(item: Any, place: Place, paths: _Paths) -> dict[str, Any]:
    node = {}
    for f in fields(item):
        value, here = getattr(item, f.name), place.field(f.name)
        if f.metadata.get("live"):
            if value is not None:
                raise ConfigError(
                    f"{f.name} is a live object, which no config can express; leave it out", path=here.path
                )
        elif isinstance(value, Secret):
            if value.reference:
                node[f.name] = value.reference
        elif (f.name == "model" and value) or not _is_default(f, value):
            node[f.name] = _dump_value(paths.write(type(item), f.name, value), here, paths)
    return node


def _dump_value(value: Any, place: Place, paths: _Paths) -> Any:
    if isinstance(value, Reranker):
        return _node_of(value, place, paths)
    if isinstance(value, (tuple, list)):
        return [_dump_value(item, place.item(i), paths) for i, item in enumerate(value)]
    if is_dataclass(value) and not isinstance(value, type):
        return _dump_fields(value, place, paths)
    return _escape_inside(value, place.path)


def _escape_inside(value: Any, path: str) -> Any:
    if isinstance(value, Mapping):
        return {key: _escape_inside(item, path) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_escape_inside(item, path) for item in value]
    return escape(value, path) if isinstance(value, str) else value


def _is_default(f: Field[Any], value: Any) -> bool:
    if f.default is not MISSING:
        return bool(value == f.default)
    return f.default_factory is not MISSING and bool(value == f.default_factory())
