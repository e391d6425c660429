"""The JSON Schema of config files."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import MISSING, is_dataclass
from typing import Any, get_args, get_origin, get_type_hints

from rag_rerank import registry
from rag_rerank.base import Reranker
from rag_rerank.config.fields import choices_of, config_fields, is_class_below
from rag_rerank.secret import Secret

__all__ = ["json_schema"]

_NODE = {"$ref": "#/$defs/reranker"}
"""The JSON Schema of a node inside another."""

_VARIABLE = {"type": "string", "pattern": r"\$\{"}
"""The JSON Schema of a reference to an environment variable."""


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of config files, with one definition for each name in the registry."""
    definitions = {name: _node_schema(name, registry.resolve(name)) for name in registry.names()}
    nodes: list[dict[str, Any]] = [{"type": "string", "description": "a name, such as cohere:rerank-v3.5 or minilm"}]
    nodes.append({"type": "object", "properties": {"type": _VARIABLE}, "required": ["type"]})
    nodes += [{"$ref": f"#/$defs/{name}"} for name in definitions]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "rag_rerank config",
        **_NODE,
        "$defs": {"reranker": {"anyOf": nodes}, **definitions},
    }


def _node_schema(name: str, kind: type[Any]) -> dict[str, Any]:
    """Return the schema of a node of one class; its ``type`` may also be an alias or a short form with the model."""
    aliases = [alias for alias, short in registry.aliases().items() if short.startswith(f"{name}:")]
    types: list[dict[str, Any]] = [{"enum": [name, *aliases]}]
    if "model" in (f.name for f in config_fields(kind)):
        types.append({"type": "string", "pattern": f"^{re.escape(name)}:."})
    if name in registry.MODEL_TYPES:
        types.append({"type": "string", "pattern": "^[^:]*/[^:]*$", "description": "a hub id or a folder"})
    return _object_schema(kind, {"type": {"anyOf": types}})


def _object_schema(kind: type[Any], properties: dict[str, Any]) -> dict[str, Any]:
    hints = get_type_hints(kind)
    required = list(properties)
    properties = dict(properties)
    for f in config_fields(kind):
        properties[f.name] = _with_variable(_value_schema(hints[f.name]))
        if f.default is not MISSING:
            if f.default is None or isinstance(f.default, (str, int, float, bool)):
                properties[f.name]["default"] = f.default
        elif f.default_factory is MISSING:
            required.append(f.name)
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _with_variable(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a schema that also takes a reference to a variable."""
    return schema if schema.get("type") == "string" and "enum" not in schema else {"anyOf": [schema, _VARIABLE]}


def _value_schema(hint: Any) -> dict[str, Any]:
    if len(choices_of(hint)) > 1:
        return {"anyOf": [_value_schema(choice) for choice in choices_of(hint)]}
    if get_origin(hint) in (tuple, Sequence):
        return {"type": "array", "items": _value_schema(get_args(hint)[0])}
    if is_class_below(hint, Reranker):
        return dict(_NODE)
    if is_class_below(hint, Secret):
        return {"type": "string", "description": "${VAR}: the environment variable that holds the key"}
    if is_dataclass(hint) and is_class_below(hint, object):
        return _object_schema(hint, {})
    from pydantic import TypeAdapter

    return TypeAdapter(hint).json_schema()
