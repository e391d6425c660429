"""Build rerankers from names, mappings and config files; write them back; the JSON Schema of config files.

The constructor of a reranker is its config schema. A node is ``{"type": NAME, **constructor arguments}``; an argument
that is a reranker is again a node. Two short forms exist: ``"cohere:rerank-v3.5"`` for
``{"type": "cohere", "model": "rerank-v3.5"}``, and aliases of the catalogue such as ``"minilm"``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeGuard, Union, get_args, get_origin, get_type_hints

from rag_rerank import registry
from rag_rerank._files import parse_json, parse_yaml
from rag_rerank.base import Reranker
from rag_rerank.errors import ConfigError, did_you_mean
from rag_rerank.secret import Secret

__all__ = ["Spec", "build", "json_schema", "load", "to_config"]

Spec = Union[str, "os.PathLike[str]", Mapping[str, Any], Reranker]
"""A reranker, or what `build` makes one from: a name, a config file or a config node."""

_SUFFIXES = (".yaml", ".yml", ".json")
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")

_NODE = {"$ref": "#/$defs/reranker"}
"""The JSON Schema of a node inside another."""


def build(spec: Spec, *, path: str = "") -> Reranker:
    """Build a reranker. Nothing is loaded and no connection is opened yet.

    Args:
        spec: A name (``"embedded"``, ``"cohere:rerank-v3.5"``), a config node, the path of a ``.yaml``, ``.yml``
            or ``.json`` file, or a reranker, which is returned as it is.
        path: The place of the node in a larger config; messages start with it.

    Raises:
        ConfigError: An unknown name or key (the message names the nearest known one), or a value of a wrong type or
            range.
    """
    if isinstance(spec, Reranker):
        return spec
    if isinstance(spec, os.PathLike) or (isinstance(spec, str) and spec.endswith(_SUFFIXES)):
        if path:
            raise ConfigError(
                f"a config cannot name a file inside itself, got {os.fspath(spec)!r}; write its content here", path=path
            )
        return load(spec)
    if isinstance(spec, str):
        return _build_node({"type": spec}, path)
    if isinstance(spec, Mapping):
        return _build_node(spec, path)
    raise ConfigError(f"expected a name, a mapping, a config file or a Reranker, got {type(spec).__name__}", path=path)


def load(path: str | os.PathLike[str]) -> Reranker:
    """Build a reranker from a YAML or JSON file that holds one node.

    Raises:
        ConfigError: The file cannot be read or parsed, or its content is wrong; the message names the file.
    """
    file = Path(path)
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {file}: {error}") from error
    if file.suffix not in _SUFFIXES:
        raise ConfigError(f"{file}: a config file ends in {', '.join(_SUFFIXES)}")
    try:
        return build(_checked_node(_parse_json(text) if file.suffix == ".json" else parse_yaml(text)))
    except ConfigError as error:
        raise ConfigError(str(error), path=str(file)) from error
    except RecursionError as error:
        raise ConfigError("nested too deeply, or within itself by a YAML alias", path=str(file)) from error


def _parse_json(text: str) -> Any:
    try:
        return parse_json(text, unique_keys=True)
    except ValueError as error:
        raise ConfigError(f"not valid JSON: {error}") from error


def _checked_node(content: Any) -> str | Mapping[str, Any]:
    """Return the content of a file if it is one node, and not the name of another file."""
    if isinstance(content, Mapping) or (isinstance(content, str) and not content.endswith(_SUFFIXES)):
        return content
    raise ConfigError(f"expected one reranker (a mapping with 'type', or a name), got {type(content).__name__}")


def to_config(reranker: Reranker) -> dict[str, Any]:
    """Return the node that builds an equal reranker: ``build(to_config(r)) == r``.

    Fields at their defaults are left out, except ``model``. A key given as ``"${VAR}"`` stays that reference; a key
    given as itself is left out, and the rebuilt reranker reads the usual environment variable.

    Raises:
        ConfigError: The reranker holds what no config can express (an injected client, or a ``${VAR}`` in a text that
            is no reference), or its class has no name in the registry.
    """
    return _node_of(reranker, "")


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of config files, with one definition for each name in the registry."""
    definitions = {name: _node_schema(name, registry.resolve(name)) for name in registry.names()}
    nodes: list[dict[str, Any]] = [{"type": "string", "description": "a name, such as cohere:rerank-v3.5 or minilm"}]
    nodes += [{"$ref": f"#/$defs/{name}"} for name in definitions]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "rag_rerank config",
        **_NODE,
        "$defs": {"reranker": {"anyOf": nodes}, **definitions},
    }


def _node_of_name(name: str) -> dict[str, Any]:
    """Return the node that a name stands for: its type, and the model of a short form."""
    if ":" not in name and name not in registry.BUILT_IN:
        name = registry.aliases().get(name, name)
    kind, colon, model = name.partition(":")
    return {"type": kind, "model": model} if colon else {"type": kind}


def _build_node(node: Mapping[str, Any], path: str) -> Reranker:
    if not isinstance(node.get("type"), str):
        raise ConfigError(f"a reranker needs a 'type'; known: {', '.join(registry.names())}", path=path)
    try:
        short = _node_of_name(node["type"])
        kind = registry.resolve(short["type"])
    except ConfigError as error:
        raise error.under(path) from error.__cause__
    arguments = {key: value for key, value in node.items() if key != "type"}
    if "model" in short:
        if "model" in arguments:
            raise ConfigError(f"type {node['type']!r} already names a model; remove 'model'", path=path)
        arguments["model"] = short["model"]
    reranker: Reranker = _make(kind, arguments, path)
    return reranker


def _make(kind: type[Any], arguments: Mapping[str, Any], path: str) -> Any:
    """Construct a dataclass from a mapping of its fields; names and types are checked."""
    if not isinstance(arguments, Mapping):
        raise ConfigError(f"expected a mapping of {kind.__name__} fields, got {type(arguments).__name__}", path=path)
    by_name = {f.name: f for f in _config_fields(kind)}
    for key in arguments:
        if key not in by_name:
            raise ConfigError(f"unknown key {key!r} of {_title(kind)}{did_you_mean(str(key), by_name)}", path=path)
    for name, f in by_name.items():
        if f.default is MISSING and f.default_factory is MISSING and name not in arguments:
            raise ConfigError(f"{_title(kind)} needs {name!r}", path=path)
    hints = get_type_hints(kind)
    values = {key: _convert(hints[key], value, _child_path(path, key)) for key, value in arguments.items()}
    try:
        return kind(**values)
    except ConfigError as error:
        raise error.under(path) from error.__cause__


def _convert(hint: Any, value: Any, path: str) -> Any:
    """Return the value of a field of this type for a config value."""
    choices = get_args(hint) if get_origin(hint) is Union or type(hint).__name__ == "UnionType" else (hint,)
    if value is None and type(None) in choices:
        return None
    for choice in choices:
        if get_origin(choice) in (tuple, Sequence):
            if isinstance(value, (list, tuple)):
                item = get_args(choice)[0]
                return tuple(_convert(item, v, f"{path}[{i}]") for i, v in enumerate(value))
            continue
        if _is_class_below(choice, Reranker):
            return build(value, path=path)
        if _is_class_below(choice, Secret):
            if not isinstance(value, (str, Secret)):
                raise ConfigError(f"expected a key or a ${{VAR}} reference, got {type(value).__name__}", path=path)
            secret = Secret(value)
            if isinstance(value, str) and _VARIABLE.search(value) and not secret.reference:
                raise ConfigError("a ${VAR} reference to a key must be the whole value", path=path)
            return secret
        if is_dataclass(choice) and _is_class_below(choice, object) and type(value) not in choices:
            return value if isinstance(value, choice) else _make(choice, value, path)
    if type(value) in (bool, int, str) and type(value) in choices:
        return _with_variables(value, path)  # as pydantic would, whose import takes longer than all else here
    return _validate(hint, value, path)


def _with_variables(value: Any, path: str) -> Any:
    """Return a string with each ``${VAR}`` replaced by the environment variable; any other value as it is."""
    if not isinstance(value, str):
        return value

    def variable(match: re.Match[str]) -> str:
        if match[1] not in os.environ:
            raise ConfigError(f"${{{match[1]}}} is not set in the environment; set it, or write the value", path=path)
        return os.environ[match[1]]

    return _VARIABLE.sub(variable, value)


def _validate(hint: Any, value: Any, path: str) -> Any:
    from pydantic import ConfigDict, TypeAdapter, ValidationError

    # the value of a variable may be a key, so pydantic must not quote it; our message quotes the ${VAR} instead
    rules = ConfigDict(strict=True, arbitrary_types_allowed=True, hide_input_in_errors=True)
    try:
        return TypeAdapter(hint, config=rules).validate_python(_with_variables(value, path))
    except ValidationError as error:
        reasons = "; ".join(dict.fromkeys(detail["msg"] for detail in error.errors()))
        raise ConfigError(f"{reasons}, got {value!r:.80}", path=path) from error


def _node_of(reranker: Reranker, path: str) -> dict[str, Any]:
    kind = type(reranker)
    try:
        registered = registry.resolve(kind.kind)
    except ConfigError as error:
        raise error.under(path) from error.__cause__
    if registered is not kind:
        raise ConfigError(
            f"the registry knows another class as {kind.kind!r}; {kind.__qualname__} needs its own name", path=path
        )
    return {"type": kind.kind, **_dump_fields(reranker, path)}


def _dump_fields(item: Any, path: str) -> dict[str, Any]:
    node = {}
    for f in fields(item):
        value, here = getattr(item, f.name), _child_path(path, f.name)
        if f.metadata.get("live"):
            if value is not None:
                raise ConfigError(f"{f.name} is a live object, which no config can express; leave it out", path=here)
        elif isinstance(value, Secret):
            if value.reference:
                node[f.name] = value.reference
        elif (f.name == "model" and value) or not _is_default(f, value):
            node[f.name] = _dump_value(value, here)
    return node


def _dump_value(value: Any, path: str) -> Any:
    if isinstance(value, Reranker):
        return _node_of(value, path)
    if isinstance(value, (tuple, list)):
        return [_dump_value(item, f"{path}[{i}]") for i, item in enumerate(value)]
    if is_dataclass(value) and not isinstance(value, type):
        return _dump_fields(value, path)
    if isinstance(value, str) and _VARIABLE.search(value):
        raise ConfigError("loading the config would replace the ${...} in this text; change the text", path=path)
    return value


def _is_default(f: Field[Any], value: Any) -> bool:
    if f.default is not MISSING:
        return bool(value == f.default)
    return f.default_factory is not MISSING and bool(value == f.default_factory())


def _node_schema(name: str, kind: type[Any]) -> dict[str, Any]:
    """Return the schema of a node of one class; its ``type`` may also be an alias or a short form with the model."""
    aliases = [alias for alias, short in registry.aliases().items() if short.startswith(f"{name}:")]
    types: list[dict[str, Any]] = [{"enum": [name, *aliases]}]
    if "model" in (f.name for f in _config_fields(kind)):
        types.append({"type": "string", "pattern": f"^{re.escape(name)}:."})
    return _object_schema(kind, {"type": {"anyOf": types}})


def _object_schema(kind: type[Any], properties: dict[str, Any]) -> dict[str, Any]:
    hints = get_type_hints(kind)
    required = list(properties)
    properties = dict(properties)
    for f in _config_fields(kind):
        properties[f.name] = _value_schema(hints[f.name])
        if f.default is not MISSING:
            if f.default is None or isinstance(f.default, (str, int, float, bool)):
                properties[f.name]["default"] = f.default
        elif f.default_factory is MISSING:
            required.append(f.name)
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _value_schema(hint: Any) -> dict[str, Any]:
    if get_origin(hint) is Union or type(hint).__name__ == "UnionType":
        return {"anyOf": [_value_schema(choice) for choice in get_args(hint)]}
    if get_origin(hint) in (tuple, Sequence):
        return {"type": "array", "items": _value_schema(get_args(hint)[0])}
    if _is_class_below(hint, Reranker):
        return dict(_NODE)
    if _is_class_below(hint, Secret):
        return {"type": "string", "description": "${VAR}: the environment variable that holds the key"}
    if is_dataclass(hint) and _is_class_below(hint, object):
        return _object_schema(hint, {})
    from pydantic import TypeAdapter

    return TypeAdapter(hint).json_schema()


def _config_fields(kind: type[Any]) -> tuple[Field[Any], ...]:
    """Return the fields that a config can set: all but live objects."""
    return tuple(f for f in fields(kind) if f.init and not f.metadata.get("live"))


def _is_class_below(hint: Any, parent: type[Any]) -> TypeGuard[type[Any]]:
    """Whether an annotation is a subclass; for Python 3.10 ``Mapping[str, Any]`` is a class, but not here."""
    return isinstance(hint, type) and get_origin(hint) is None and issubclass(hint, parent)


def _child_path(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _title(kind: type[Any]) -> str:
    return f"type {kind.kind!r}" if issubclass(kind, Reranker) else kind.__name__
