"""The JSON Schema of config files, derived from the rerankers' fields."""

from __future__ import annotations

import re
from dataclasses import MISSING, is_dataclass
from typing import Any, Union, get_args, get_origin, get_type_hints

from rag_rerank import registry
from rag_rerank.base import Reranker
from rag_rerank.config import config_fields, is_kind
from rag_rerank.secret import Secret

_NODE = {"$ref": "#/$defs/reranker"}


def schema() -> dict[str, Any]:
    """Return a JSON Schema (draft 2020-12) with one definition for each name in the registry."""
    definitions = {name: _definition(name, registry.resolve(name)) for name in registry.names()}
    nodes: list[dict[str, Any]] = [{"type": "string", "description": "a name, such as cohere:rerank-v3.5 or minilm"}]
    nodes += [{"$ref": f"#/$defs/{name}"} for name in definitions]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "rag_rerank config",
        **_NODE,
        "$defs": {"reranker": {"anyOf": nodes}, **definitions},
    }


def _definition(name: str, kind: type[Any]) -> dict[str, Any]:
    """Describe a node of one class; its ``type`` may also be an alias or, with the model, a short form."""
    aliases = [alias for alias, short in registry.aliases().items() if short.startswith(f"{name}:")]
    types: list[dict[str, Any]] = [{"enum": [name, *aliases]}]
    if "model" in (f.name for f in config_fields(kind)):
        types.append({"type": "string", "pattern": f"^{re.escape(name)}:."})
    return _object(kind, {"type": {"anyOf": types}})


def _object(kind: type[Any], properties: dict[str, Any]) -> dict[str, Any]:
    hints = get_type_hints(kind)
    required = list(properties)
    properties = dict(properties)
    for f in config_fields(kind):
        properties[f.name] = _value(hints[f.name])
        if f.default is not MISSING:
            if f.default is None or isinstance(f.default, (str, int, float, bool)):
                properties[f.name]["default"] = f.default
        elif f.default_factory is MISSING:
            required.append(f.name)
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _value(hint: Any) -> dict[str, Any]:
    if get_origin(hint) is Union or type(hint).__name__ == "UnionType":
        return {"anyOf": [_value(choice) for choice in get_args(hint)]}
    if get_origin(hint) is tuple:
        return {"type": "array", "items": _value(get_args(hint)[0])}
    if is_kind(hint, Reranker):
        return dict(_NODE)
    if is_kind(hint, Secret):
        return {"type": "string", "description": "${VAR}: the environment variable that holds the key"}
    if is_dataclass(hint) and is_kind(hint, object):
        return _object(hint, {})
    from pydantic import TypeAdapter

    return TypeAdapter(hint).json_schema()
