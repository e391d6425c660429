"""Reading YAML and JSON strictly: a key that stands twice is an error, and no message quotes the file."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from rag_rerank.errors import ConfigError

if TYPE_CHECKING:
    from yaml import MappingNode

__all__ = ["parse_json", "parse_yaml"]


def parse_json(text: str) -> Any:
    """Read JSON.

    Raises:
        ConfigError: It is not JSON, or a key stands twice in one object.
    """
    try:
        return json.loads(text, object_pairs_hook=_object)
    except json.JSONDecodeError as error:
        raise ConfigError(f"not valid JSON: {error}") from error


def parse_yaml(text: str) -> Any:
    """Read one YAML document of plain values.

    Raises:
        ConfigError: It is not YAML, holds more than plain values, or a key stands twice in one mapping.
    """
    import yaml

    class Loader(yaml.SafeLoader):
        def compose_mapping_node(self, anchor: Any) -> MappingNode:
            node = super().compose_mapping_node(anchor)
            _refuse_repeated(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
            return node

    try:
        return yaml.load(text, Loader)  # a SafeLoader: plain values only
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f" in line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        what = " ".join(filter(None, (error.context, error.problem)))
        raise ConfigError(f"not valid YAML{where}: {what}") from None  # its own message quotes the line, key and all
    except (yaml.YAMLError, ValueError, AttributeError) as error:  # PyYAML lets a date like 2024-99-99 through
        raise ConfigError(f"not valid YAML: {' '.join(str(error).split())}") from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    _refuse_repeated(key for key, _ in pairs)
    return dict(pairs)


def _refuse_repeated(keys: Iterable[str]) -> None:
    seen = set()
    for key in keys:
        if key in seen:
            raise ConfigError(f"the key {key!r} stands twice in one mapping; the first would be lost")
        seen.add(key)
