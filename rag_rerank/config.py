"""From a name, a mapping or a file to a reranker, and back.

A reranker's constructor is its config schema: a node is ``{"type": NAME, **constructor arguments}``, where an
argument that is a reranker is again a node. Two short forms exist: ``"cohere:rerank-v3.5"`` for
``{"type": "cohere", "model": "rerank-v3.5"}``, and aliases of the catalogue such as ``"minilm"``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
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
"""What names a reranker anywhere in the library: a name, a config file, a config node, or a reranker itself."""

_SUFFIXES = (".yaml", ".yml", ".json")
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


def build(spec: Spec, *, path: str = "") -> Reranker:
    """Make a reranker. Nothing is loaded and no connection is made yet.

    Args:
        spec: A name (``"embedded"``, ``"cohere:rerank-v3.5"``), a config node, the path of a ``.yaml``, ``.yml``
            or ``.json`` file, or a reranker, which is returned as it is.
        path: Where in a larger config this stands; messages start with it.

    Raises:
        ConfigError: An unknown name or key (with the nearest known one), or a value of a wrong type or range.
    """
    if isinstance(spec, Reranker):
        return spec
    if isinstance(spec, os.PathLike) or (isinstance(spec, str) and spec.endswith(_SUFFIXES)):
        if path:
            raise ConfigError(f"a config cannot name a file inside itself, got {os.fspath(spec)!r}", path=path)
        return load(spec)
    if isinstance(spec, str):
        return _construct({"type": spec}, path)
    if isinstance(spec, Mapping):
        return _construct(spec, path)
    raise ConfigError(f"expected a name, a mapping, a config file or a Reranker, got {type(spec).__name__}", path=path)


def load(path: str | os.PathLike[str]) -> Reranker:
    """Make a reranker from a YAML or JSON file that holds one node.

    Raises:
        ConfigError: The file cannot be read or parsed, or its content is wrong; the message starts with the file.
    """
    file = Path(path)
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {file}: {error}") from error
    if file.suffix not in _SUFFIXES:
        raise ConfigError(f"{file}: a config file ends in {', '.join(_SUFFIXES)}")
    try:
        return build(_node(parse_json(text) if file.suffix == ".json" else parse_yaml(text)))
    except ConfigError as error:
        raise ConfigError(str(error), path=str(file)) from error
    except RecursionError as error:
        raise ConfigError("nested too deeply, or within itself by a YAML alias", path=str(file)) from error


def to_config(reranker: Reranker) -> dict[str, Any]:
    """Return the node that builds an equal reranker: ``build(to_config(r)) == r``.

    Fields at their defaults are left out, except a named ``model``. A key given as ``"${VAR}"`` stays that reference;
    a key given as itself is left out, and the rebuilt reranker reads the usual environment variable.

    Raises:
        ConfigError: The reranker holds what no config can express (an injected client, or a ``${VAR}`` that is
            meant as it stands), or its class has no name in the registry.
    """
    return _node_of(reranker, "")


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of config files, for editors: one definition for each name in the registry."""
    return schema()


def _node(content: Any) -> str | Mapping[str, Any]:
    """Check what a file holds: one node, and not the name of another file."""
    if isinstance(content, Mapping) or (isinstance(content, str) and not content.endswith(_SUFFIXES)):
        return content
    raise ConfigError(f"expected one reranker (a mapping with 'type', or a name), got {type(content).__name__}")


def _expand(name: str) -> dict[str, Any]:
    """Turn a short form into a node."""
    if ":" not in name and name not in registry.BUILT_IN:
        name = registry.aliases().get(name, name)
    kind, colon, model = name.partition(":")
    return {"type": kind, "model": model} if colon else {"type": kind}


def _construct(node: Mapping[str, Any], path: str) -> Reranker:
    if not isinstance(node.get("type"), str):
        raise ConfigError(f"a reranker needs a 'type'; known: {', '.join(registry.names())}", path=path)
    try:
        short = _expand(node["type"])
        kind = registry.resolve(short["type"])
    except ConfigError as error:
        raise error.under(path) from error.__cause__
    arguments = {key: value for key, value in node.items() if key != "type"}
    if "model" in short:
        if "model" in arguments:
            raise ConfigError(f"type {node['type']!r} already names a model; remove 'model'", path=path)
        arguments["model"] = short["model"]
    made: Reranker = make(kind, arguments, path)
    return made


def make(kind: type[Any], arguments: Mapping[str, Any], path: str) -> Any:
    """Construct a dataclass from a mapping of its fields, checking names and types."""
    if not isinstance(arguments, Mapping):
        raise ConfigError(f"expected a mapping of {kind.__name__} fields, got {type(arguments).__name__}", path=path)
    known = {f.name: f for f in config_fields(kind)}
    for key in arguments:
        if key not in known:
            raise ConfigError(f"unknown key {key!r} of {_title(kind)}{did_you_mean(str(key), known)}", path=path)
    for name, f in known.items():
        if f.default is MISSING and f.default_factory is MISSING and name not in arguments:
            raise ConfigError(f"{_title(kind)} needs {name!r}", path=path)
    hints = get_type_hints(kind)
    values = {key: convert(hints[key], value, _below(path, key)) for key, value in arguments.items()}
    try:
        return kind(**values)
    except ConfigError as error:
        raise error.under(path) from error.__cause__


def convert(hint: Any, value: Any, path: str) -> Any:
    """Turn a config value into what a field of this type holds."""
    choices = get_args(hint) if get_origin(hint) is Union or type(hint).__name__ == "UnionType" else (hint,)
    if value is None and type(None) in choices:
        return None
    for choice in choices:
        if get_origin(choice) is tuple:
            if isinstance(value, (list, tuple)):
                item = get_args(choice)[0]
                return tuple(convert(item, v, f"{path}[{i}]") for i, v in enumerate(value))
            continue
        if is_kind(choice, Reranker):
            return build(value, path=path)
        if is_kind(choice, Secret):
            if not isinstance(value, (str, Secret)):
                raise ConfigError(f"expected a key or a ${{VAR}} reference, got {type(value).__name__}", path=path)
            secret = Secret(value)
            if isinstance(value, str) and _VARIABLE.search(value) and not secret.reference:
                raise ConfigError("a ${VAR} reference to a key stands alone, with nothing around it", path=path)
            return secret
        if is_dataclass(choice) and is_kind(choice, object) and type(value) not in choices:
            return value if isinstance(value, choice) else make(choice, value, path)
    if type(value) in (bool, int, str) and type(value) in choices:
        return _substituted(value, path)  # as pydantic would, whose import takes longer than all else here
    return _plain(hint, value, path)


def _substituted(value: Any, path: str) -> Any:
    """Replace ``${VAR}`` in a string by the environment variable."""
    if not isinstance(value, str):
        return value

    def variable(match: re.Match[str]) -> str:
        if match[1] not in os.environ:
            raise ConfigError(f"${{{match[1]}}} is not set in the environment", path=path)
        return os.environ[match[1]]

    return _VARIABLE.sub(variable, value)


def _plain(hint: Any, value: Any, path: str) -> Any:
    from pydantic import ConfigDict, TypeAdapter, ValidationError

    # what a variable holds may be a key, so no message shows it: ours names the variable
    rules = ConfigDict(strict=True, arbitrary_types_allowed=True, hide_input_in_errors=True)
    try:
        return TypeAdapter(hint, config=rules).validate_python(_substituted(value, path))
    except ValidationError as error:
        reasons = "; ".join(dict.fromkeys(detail["msg"] for detail in error.errors()))
        raise ConfigError(f"{reasons}, got {value!r:.80}", path=path) from error


def _node_of(reranker: Reranker, path: str) -> dict[str, Any]:
    kind = type(reranker)
    try:
        known = registry.resolve(kind.kind)
    except ConfigError as error:
        raise error.under(path) from error.__cause__
    if known is not kind:
        raise ConfigError(
            f"the registry knows another class as {kind.kind!r}; {kind.__qualname__} needs its own name", path=path
        )
    return {"type": kind.kind, **_dump(reranker, path)}


def _dump(item: Any, path: str) -> dict[str, Any]:
    node = {}
    for f in fields(item):
        value, here = getattr(item, f.name), _below(path, f.name)
        if f.metadata.get("live"):
            if value is not None:
                raise ConfigError(f"{f.name} is a live object, which no config can express", path=here)
        elif isinstance(value, Secret):
            if value.reference:
                node[f.name] = value.reference
        elif (f.name == "model" and value) or not _is_default(f, value):
            node[f.name] = _dumped(value, here)
    return node


def _dumped(value: Any, path: str) -> Any:
    if isinstance(value, Reranker):
        return _node_of(value, path)
    if isinstance(value, (tuple, list)):
        return [_dumped(item, f"{path}[{i}]") for i, item in enumerate(value)]
    if is_dataclass(value) and not isinstance(value, type):
        return _dump(value, path)
    if isinstance(value, str) and _VARIABLE.search(value):
        raise ConfigError("a config would put the environment's value for the ${...} in this text", path=path)
    return value


def _is_default(f: Field[Any], value: Any) -> bool:
    if f.default is not MISSING:
        return bool(value == f.default)
    return f.default_factory is not MISSING and bool(value == f.default_factory())


def config_fields(kind: type[Any]) -> tuple[Field[Any], ...]:
    """Return the fields that a config may set: all but live objects."""
    return tuple(f for f in fields(kind) if f.init and not f.metadata.get("live"))


def is_kind(hint: Any, of: type[Any]) -> TypeGuard[type[Any]]:
    """Whether an annotation is a class below another; on Python 3.10, ``Mapping[str, Any]`` passes for a class."""
    return isinstance(hint, type) and get_origin(hint) is None and issubclass(hint, of)


def _below(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _title(kind: type[Any]) -> str:
    return f"type {kind.kind!r}" if issubclass(kind, Reranker) else kind.__name__


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
