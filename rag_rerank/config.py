"""Build rerankers from names, mappings and config files; write them back; the JSON Schema of config files.

The constructor of a reranker is its config schema. A node is ``{"type": NAME, **constructor arguments}``; an argument
that is a reranker is again a node. A name stands for a node (`rag_rerank.registry.parse_name`):
``"cohere:rerank-v3.5"`` for ``{"type": "cohere", "model": "rerank-v3.5"}``, and ``"minilm"`` for
``{"type": "onnx", "model": "minilm"}``.

In every text of a node ``${VAR}`` and ``${VAR:-default}`` stand for an environment variable, whose text becomes a value
of the field's type.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeGuard, Union, get_args, get_origin, get_type_hints

from rag_rerank import registry
from rag_rerank._checks import path_text
from rag_rerank._files import expand_user, parse_json, parse_yaml
from rag_rerank.base import Reranker
from rag_rerank.errors import ConfigError, did_you_mean
from rag_rerank.secret import Secret, escape, expand, expand_inside, has_reference, mask_values, parse_variable

__all__ = ["Spec", "build", "json_schema", "load", "to_config"]

Spec = Union[str, "os.PathLike[str]", Mapping[str, Any], Reranker]
"""A reranker, or what `build` makes one from: a name, a folder, a config file or a config node."""

_NODE = {"$ref": "#/$defs/reranker"}
"""The JSON Schema of a node inside another."""

_CUTOFF = "; the cutoff belongs to the call: rerank(..., top_k=5), or --top-k 5"

_VARIABLE = {"type": "string", "pattern": r"\$\{"}
"""The JSON Schema of a reference to an environment variable."""


def build(spec: Spec, /, **options: Any) -> Reranker:
    """Build a reranker. Nothing is loaded and no connection is opened yet.

    Args:
        spec: One of these:

            - A name: a type (``"lexical"``), with a model (``"cohere:rerank-v3.5"``), an alias (``"minilm"``), any hub
              id (``"BAAI/bge-reranker-v2-m3"``, also with ``@revision``), or what a trace names as step or model.
            - A folder with a model, as text or as a path object.
            - The path of a ``.yaml``, ``.yml`` or ``.json`` file.
            - A config node: a mapping with ``type``.
            - A reranker, which is returned as it is.
        options: Further fields of the node: ``build("onnx", model="./small")``. They replace those of the spec.

    Raises:
        ConfigError: An unknown name or key (the message names the nearest known one), a value of a wrong type or
            range, or a reference to an environment variable that is not set.
    """
    text = expand(spec) if isinstance(spec, str) and has_reference(spec) else spec
    if isinstance(text, (str, os.PathLike)) and _is_file(text):
        return _build_file(expand_user(text), options)
    if options and isinstance(spec, Reranker):
        raise ConfigError(f"{', '.join(options)}: a reranker is there already; use dataclasses.replace to change it")
    try:
        return _build({**_node_of_text(spec, ""), **options} if options else spec, "")
    except RecursionError as error:
        raise ConfigError("nested too deeply, or within itself") from error


def load(path: str | os.PathLike[str]) -> Reranker:
    """Build a reranker from a YAML or JSON file that holds one node.

    Raises:
        ConfigError: The file cannot be read or parsed, or its content is wrong; the message names the file.
    """
    if not isinstance(path, (str, os.PathLike)):
        raise ConfigError(f"expected the path of a config file, got {type(path).__name__}")
    return _build_file(expand_user(path), {})


def _is_file(spec: str | os.PathLike[str]) -> bool:
    """Whether a spec names a config file, existing or not."""
    text = os.fspath(spec)
    return text.endswith(registry.SUFFIXES) and not has_reference(text) and not os.path.isdir(text)  # noqa: PTH112


def _build_file(file: Path, options: Mapping[str, Any]) -> Reranker:
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {file}: {_read_error(file, error)}") from error
    if file.suffix not in registry.SUFFIXES:
        raise ConfigError(f"{file}: a config file ends in {', '.join(registry.SUFFIXES)}")
    try:
        content = _parse_json(text) if file.suffix == ".json" else parse_yaml(text)
        return _build({**_node_of_text(_checked_node(content), ""), **options}, "")
    except ConfigError as error:
        raise type(error)(str(error), path=str(file)) from error
    except RecursionError as error:
        raise ConfigError("nested too deeply, or within itself by a YAML alias", path=str(file)) from error


def _read_error(file: Path, error: OSError | UnicodeDecodeError) -> str:
    if isinstance(error, FileNotFoundError):
        return f"there is no such file{did_you_mean(str(file), registry.neighbours(str(file)), or_list=False)}"
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8 (Notepad and PowerShell may write UTF-16); save it as UTF-8"
    return error.strerror or str(error)


def _parse_json(text: str) -> Any:
    try:
        return parse_json(text, unique_keys=True)
    except ValueError as error:
        raise ConfigError(f"not valid JSON: {error}") from error


def _checked_node(content: Any) -> str | Mapping[str, Any]:
    """Return the content of a file if it is one node, and not the name of another file."""
    if isinstance(content, Mapping) or (isinstance(content, str) and not content.endswith(registry.SUFFIXES)):
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
    if not isinstance(reranker, Reranker):
        raise ConfigError(f"expected a reranker, got {type(reranker).__name__}; build() makes one of a config")
    return _node_of(reranker, "")


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


def _build(spec: Any, path: str) -> Reranker:
    """Build a reranker at its place in a config."""
    if isinstance(spec, Reranker):
        return spec
    node = _node_of_text(spec, path)
    if not isinstance(node.get("type"), str):
        raise ConfigError(f"a reranker needs a 'type'; known: {', '.join(registry.names())}", path=path)
    name = expand(node["type"], _child_path(path, "type"))
    try:
        short = registry.parse_name(name)
        arguments = {key: value for key, value in node.items() if key != "type"}
        if repeated := [key for key in short if key in arguments]:
            raise ConfigError(f"type {name!r} already names a {repeated[0]}; remove {repeated[0]!r}")
        kind = registry.resolve(short.pop("type"))
    except ConfigError as error:
        raise mask_values(error, {name: node["type"]} if name != node["type"] else {}).under(path) from error.__cause__
    arguments = {**{key: value.replace("$", "$$") for key, value in short.items()}, **arguments}
    if kind.kind == "auto":
        kind = _kind_with_fields(kind, arguments)
    reranker: Reranker = _make(kind, arguments, path)
    return reranker


def _node_of_text(spec: Any, path: str) -> Mapping[str, Any]:
    """Return the node that a name, a folder or a variable with JSON stands for; a node as it is."""
    if isinstance(spec, Mapping):
        return spec
    if isinstance(spec, os.PathLike):
        return {"type": path_text(spec).replace("$", "$$")}
    if not isinstance(spec, str):
        kind = type(spec).__name__
        raise ConfigError(f"expected a name, a mapping, a config file or a Reranker, got {kind}", path=path)
    text = expand(spec, path) if has_reference(spec) else spec
    if text is not spec and text.lstrip().startswith("{"):
        node: Mapping[str, Any] = parse_variable(text, spec, path)
        return node
    if _is_file(text):
        raise ConfigError(f"a config cannot name a file inside itself, got {spec!r}; write its content here", path=path)
    return {"type": spec}


def _kind_with_fields(kind: type[Any], arguments: Mapping[str, Any]) -> type[Any]:
    """Return ``auto``, or the first of its backends that has all these fields, where ``auto`` lacks one."""
    for candidate in map(registry.resolve, registry.MODEL_TYPES):
        if arguments.keys() <= {f.name for f in _config_fields(candidate)}:
            return candidate
    return kind


def _make(kind: type[Any], arguments: Mapping[str, Any], path: str) -> Any:
    """Construct a dataclass from a mapping of its fields; names and types are checked."""
    if not isinstance(arguments, Mapping):
        raise ConfigError(f"expected a mapping of {kind.__name__} fields, got {type(arguments).__name__}", path=path)
    by_name = {f.name: f for f in _config_fields(kind)}
    for key in arguments:
        if key not in by_name:
            hint = _CUTOFF if key in ("top_k", "topk", "top_n", "topn") else did_you_mean(str(key), by_name)
            raise ConfigError(f"unknown key {key!r} of {_title(kind)}{hint}", path=path)
    for name, f in by_name.items():
        if f.default is MISSING and f.default_factory is MISSING and name not in arguments:
            raise ConfigError(f"{_title(kind)} needs {name!r}", path=path)
    hints = get_type_hints(kind)
    values = {key: _convert(hints[key], value, _child_path(path, key)) for key, value in arguments.items()}
    try:
        return kind(**values)
    except ConfigError as error:
        texts = {values[key]: text for key, text in arguments.items() if isinstance(text, str) and has_reference(text)}
        raise mask_values(error, texts).under(path) from error.__cause__


def _convert(hint: Any, value: Any, path: str) -> Any:
    """Return the value of a field of this type for a config value."""
    if isinstance(value, os.PathLike):
        value = path_text(value)
    choices = get_args(hint) if get_origin(hint) is Union or type(hint).__name__ == "UnionType" else (hint,)
    if value is None and type(None) in choices:
        return None
    source, value = value, _value_of_variable(choices, value, path)
    for choice in choices:
        if get_origin(choice) in (tuple, Sequence):
            if isinstance(value, (list, tuple)):
                item = get_args(choice)[0]
                return tuple(_convert(item, v, f"{path}[{i}]") for i, v in enumerate(value))
            continue
        if _is_class_below(choice, Reranker):
            return _build(value, path)
        if _is_class_below(choice, Secret):
            if not isinstance(value, (str, Secret)):
                raise ConfigError(f"expected a key or a ${{VAR}} reference, got {type(value).__name__}", path=path)
            return Secret(value, path=path)
        if is_dataclass(choice) and _is_class_below(choice, object) and type(value) not in choices:
            return value if isinstance(value, choice) else _make(choice, value, path)
    if not isinstance(source, str):
        if type(value) in (bool, int) and type(value) in choices:
            return value  # as pydantic would, whose import takes longer than all else here
        return _validate(hint, expand_inside(value, path), value, path)
    if value == "" and has_reference(source) and type(None) in choices and str not in choices:
        return None
    return value if str in choices else _validate(hint, value, source, path, from_text=has_reference(source))


def _value_of_variable(choices: tuple[Any, ...], value: Any, path: str) -> Any:
    """Return a text with its references replaced, and the JSON of a variable that holds a list or a mapping."""
    if not isinstance(value, str) or any(_is_class_below(c, Secret) or _is_class_below(c, Reranker) for c in choices):
        return value  # a key is read at each use, and a name where its node is built
    text = expand(value, path)
    if not has_reference(value) or str in choices:
        return text
    if text.lstrip().startswith(("[", "{")):
        return parse_variable(text, value, path)
    if any(get_origin(choice) in (tuple, Sequence) for choice in choices):
        return [part.strip() for part in text.split(",")]
    return text


def _validate(hint: Any, value: Any, source: Any, path: str, *, from_text: bool = False) -> Any:
    """Return a value that fits a type; the text of a variable (``from_text``) becomes a number or a truth value."""
    from pydantic import ConfigDict, TypeAdapter, ValidationError

    # the value of a variable may be a key, so pydantic must not quote it; our message quotes the ${VAR} instead
    rules = ConfigDict(strict=not from_text, arbitrary_types_allowed=True, hide_input_in_errors=True)
    try:
        return TypeAdapter(hint, config=rules).validate_python(value)
    except ValidationError as error:
        reasons = "; ".join(dict.fromkeys(detail["msg"] for detail in error.errors()))
        raise ConfigError(f"{reasons}, got {source!r:.80}", path=path) from error


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
    return _escape_inside(value, path)


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


def _node_schema(name: str, kind: type[Any]) -> dict[str, Any]:
    """Return the schema of a node of one class; its ``type`` may also be an alias or a short form with the model."""
    aliases = [alias for alias, short in registry.aliases().items() if short.startswith(f"{name}:")]
    types: list[dict[str, Any]] = [{"enum": [name, *aliases]}]
    if "model" in (f.name for f in _config_fields(kind)):
        types.append({"type": "string", "pattern": f"^{re.escape(name)}:."})
    if name in registry.MODEL_TYPES:
        types.append({"type": "string", "pattern": "^[^:]*/[^:]*$", "description": "a hub id or a folder"})
    return _object_schema(kind, {"type": {"anyOf": types}})


def _object_schema(kind: type[Any], properties: dict[str, Any]) -> dict[str, Any]:
    hints = get_type_hints(kind)
    required = list(properties)
    properties = dict(properties)
    for f in _config_fields(kind):
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
