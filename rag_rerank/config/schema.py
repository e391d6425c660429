"""The JSON Schema of config files; its descriptions are those of the docstrings."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, is_dataclass
from typing import Any, Literal, get_args, get_origin, get_type_hints

from rag_rerank import registry
from rag_rerank.base import Reranker
from rag_rerank.config.docstrings import describe, first_sentence, meanings_of
from rag_rerank.config.fields import choices_of, config_fields, is_class_below, page_of
from rag_rerank.documentation import TYPES, page_url
from rag_rerank.secret import Secret

__all__ = ["json_schema", "nested_classes"]

_NODE = {"$ref": "#/$defs/reranker"}
"""The JSON Schema of a node inside another."""

_PROVIDER = "provider"
_PRESET = "preset"
"""The definition of all nodes whose type is the name of a provider or server."""

_VARIABLE = {"type": "string", "pattern": r"\$\{", "description": "`${VAR}`: the value of an environment variable."}
"""The JSON Schema of a reference to an environment variable."""


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of config files, with one definition for each name in the registry.

    Types, keys and words carry the descriptions of their docstrings, so that an editor explains them.
    """
    kinds = {name: registry.resolve(name) for name in registry.names()}
    providers = registry.providers()
    name: dict[str, Any] = {
        "title": "a name",
        "type": "string",
        "description": "The name of a reranker: a type, a provider, an alias, `type:model`, a hub id, or a folder.",
        "examples": [
            *registry.aliases(),
            *registry.PRESETS,
            *kinds,
            *providers,
            "cohere:rerank-v3.5",
            "BAAI/bge-reranker-v2-m3",
            "./folder",
        ],
    }
    node_with_variable = {
        "title": "a type from a variable",
        "type": "object",
        "properties": {"type": _VARIABLE},
        "required": ["type"],
    }
    definitions = (*kinds, _PROVIDER, _PRESET)
    nested = {kind.__name__: kind for type_ in kinds.values() for kind in nested_classes(type_)}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "rag_rerank config",
        "description": f"A reranker: a name, or a mapping with `type`. All types and keys: {page_url(TYPES)}",
        **_NODE,
        "$defs": {
            "reranker": {"anyOf": [name, node_with_variable, *({"$ref": f"#/$defs/{name}"} for name in definitions)]},
            **{name: _node_schema(name, kind) for name, kind in kinds.items()},
            _PROVIDER: _provider_schema(providers, kinds["http"]),
            _PRESET: _preset_schema(),
            **{name: _object_schema(kind, {}) for name, kind in nested.items()},
        },
    }


def nested_classes(kind: type[Any]) -> list[type[Any]]:
    """Return the classes, other than rerankers, of the values of a class's keys, those inside them included."""
    hints, nested = get_type_hints(kind), list[type[Any]]()
    pending = [hints[f.name] for f in reversed(config_fields(kind))]
    while pending:
        hint = pending.pop()
        if get_origin(hint) in (tuple, Sequence) or len(choices_of(hint)) > 1:
            pending += reversed(get_args(hint))
        elif _is_nested(hint) and hint not in nested:
            nested += [hint, *nested_classes(hint)]
    return list(dict.fromkeys(nested))


def _is_nested(hint: Any) -> bool:
    return is_dataclass(hint) and is_class_below(hint, object) and not is_class_below(hint, (Reranker, Secret))


def _node_schema(name: str, kind: type[Any]) -> dict[str, Any]:
    """Return the schema of a node of one class; its ``type`` may also be an alias or a short form with the model."""
    aliases = [alias for alias, short in registry.aliases().items() if short.startswith(f"{name}:")]
    summary = describe(kind).summary
    types: list[dict[str, Any]] = [{"const": name, "description": first_sentence(summary)}]
    if aliases:
        types.append({"enum": aliases, "description": f"A model of the catalogue, run by `{name}`."})
    if "model" in (f.name for f in config_fields(kind)):
        types.append({"type": "string", "pattern": f"^{re.escape(name)}:.", "description": f"`{name}` with a model."})
    if name in registry.MODEL_TYPES:
        types.append({"type": "string", "pattern": "^[^:]*/[^:]*$", "description": "A hub id or a folder."})
    return _object_schema(kind, {"type": {"anyOf": types, "description": f"The type of the reranker: `{name}`."}})


def _provider_schema(names: Mapping[str, str], http: type[Any]) -> dict[str, Any]:
    """Return the schema of a node whose ``type`` is a dialect of ``http``, which it need not name again."""
    meanings = meanings_of(describe(http).keys["dialect"])
    words = "|".join(names)
    types: list[dict[str, Any]] = [
        *({"const": name, "description": meanings.get(name, name)} for name in names),
        {"type": "string", "pattern": f"^({words}):.", "description": "A provider or server with a model."},
    ]
    schema = _object_schema(http, {"type": {"anyOf": types, "description": "The name of a provider or server."}})
    del schema["properties"]["dialect"]
    required = [key for key in schema["required"] if key != "dialect"]
    return {**schema, "title": _PROVIDER, "required": required}


def _preset_schema() -> dict[str, Any]:
    """Return the schema of a node that names a composite of the package and nothing else."""
    words = {"enum": list(registry.PRESETS), "description": "A composite that ships with the package."}
    name = {"title": "name", "type": "string", "description": "The name of the reranker in traces."}
    return {
        "title": _PRESET,
        "description": f"A composite that ships with the package, by its name alone.\n\n{page_url(TYPES)}",
        "type": "object",
        "properties": {"type": words, "name": name},
        "required": ["type"],
        "additionalProperties": False,
    }


def _object_schema(kind: type[Any], properties: dict[str, Any]) -> dict[str, Any]:
    hints, description = get_type_hints(kind), describe(kind)
    required = list(properties)
    properties = dict(properties)
    for f in config_fields(kind):
        text = description.keys.get(f.name, "")
        properties[f.name] = {**_field_schema(f, hints[f.name], text), **({"description": text} if text else {})}
        if f.default is MISSING and f.default_factory is MISSING:
            required.append(f.name)
    page = f"\n\n{page_url(page_of(kind))}" if page_of(kind) else ""
    return {
        "title": properties["type"]["anyOf"][0]["const"] if "type" in properties else kind.__name__,
        "description": description.summary + page,
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }


def _field_schema(f: Field[Any], hint: Any, description: str) -> dict[str, Any]:
    schema = _with_variable(_value_schema(hint, meanings_of(description)))
    if f.default is None or isinstance(f.default, (str, int, float, bool)):
        schema["default"] = f.default
    elif isinstance(f.default, tuple):
        schema["default"] = list(f.default)
    return {"title": f.name, **schema}


def _with_variable(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a schema that also takes a reference to a variable."""
    if schema.get("type") == "string" and "enum" not in schema:
        return schema
    return {"anyOf": [*schema.get("anyOf", [schema]), _VARIABLE]}


def _value_schema(hint: Any, meanings: dict[str, str]) -> dict[str, Any]:
    if len(choices_of(hint)) > 1:
        choices = (_value_schema(choice, meanings) for choice in choices_of(hint))
        return {"anyOf": [part for choice in choices for part in choice.get("anyOf", [choice])]}
    if get_origin(hint) in (tuple, Sequence):
        return {"type": "array", "items": _value_schema(get_args(hint)[0], meanings)}
    if get_origin(hint) is Literal and set(get_args(hint)) <= set(meanings):
        return {"anyOf": [{"const": word, "description": meanings[word]} for word in get_args(hint)]}
    if is_class_below(hint, Reranker):
        return dict(_NODE)
    if is_class_below(hint, Secret):
        return {"type": "string", "description": "`${VAR}`: the environment variable that holds the key."}
    if _is_nested(hint):
        return {"$ref": f"#/$defs/{hint.__name__}"}
    from pydantic import TypeAdapter

    return TypeAdapter(hint).json_schema()
