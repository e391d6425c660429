"""Build rerankers from names, mappings and config files."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import MISSING, is_dataclass
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

from rag_rerank import registry
from rag_rerank._checks import path_text
from rag_rerank._files import absolute_path, expand_user, parse_json, parse_yaml, path_from
from rag_rerank.base import Reranker
from rag_rerank.config.fields import (
    ROOT,
    Place,
    choices_of,
    config_fields,
    is_class_below,
    page_of,
    title_of,
    with_full_paths,
)
from rag_rerank.documentation import TYPES
from rag_rerank.errors import ConfigError, ModelLoadError, did_you_mean
from rag_rerank.secret import Secret, expand, expand_inside, has_reference, mask_values, parse_variable

__all__ = ["Spec", "build", "build_text", "load"]

Spec = Union[str, "os.PathLike[str]", Mapping[str, Any], Reranker]
"""A reranker, or what `build` makes one from: a name, a folder, a config file or a config node."""

_CUTOFF = "; the cutoff belongs to the call: rerank(..., top_k=5), or --top-k 5"


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

            Relative paths start from the working directory, but those inside a config file from the file's folder.
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
        return _build(spec, ROOT, options)
    except RecursionError as error:
        raise ConfigError("nested too deeply, or within itself") from error


def load(path: str | os.PathLike[str]) -> Reranker:
    """Build a reranker from a YAML or JSON file that holds one node.

    Relative paths in the file start from its folder; where the file is a link, from the folder of the link. The
    reranker has them in full, so that what `to_config` makes of it builds an equal one from any working directory.

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
    return build_text(text, file, options)


def build_text(text: str, file: Path, options: Mapping[str, Any] | None = None) -> Reranker:
    """Build a reranker from the text of a config file.

    Args:
        text: The text, which need not be in the file yet.
        file: The file; its ending tells the format, and relative paths start from its folder.
        options: Further fields of the node; their relative paths start from the working directory.

    Raises:
        ConfigError: The content is wrong; the message names the file.
    """
    place = Place(folder=str(absolute_path(file).parent))
    try:
        content = _parse_json(text) if file.suffix == ".json" else parse_yaml(text)
        return _build(_checked_node(content), place, options or {})
    except ConfigError as error:
        raise type(error)(str(error), path=str(file), page=error.page) from error
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


def _build(spec: Any, place: Place, options: Mapping[str, Any] | None = None) -> Reranker:
    """Build a reranker at its place in a config; ``options`` are further fields, which come from Python."""
    if isinstance(spec, Reranker):
        return spec
    own, options = _node_of_text(spec, place), options or {}
    node = {**own, **options}
    if not isinstance(node.get("type"), str):
        raise ConfigError(
            f"a reranker needs a 'type'; known: {', '.join(sorted({*registry.names(), *registry.providers()}))}",
            path=place.path,
            page=TYPES,
        )
    name = expand(node["type"], place.field("type").path)
    folder = "" if "type" in options else place.folder
    try:
        short = registry.parse_name(name, folder)
        arguments = {key: value for key, value in node.items() if key != "type"}
        if repeated := [key for key in short if key in arguments]:
            raise ConfigError(f"type {name!r} already names a {repeated[0]}; remove {repeated[0]!r}")
        kind = registry.resolve(short.pop("type"), folder)
    except ConfigError as error:
        texts = {name: node["type"]} if name != node["type"] else {}
        raise mask_values(error, texts).under(place.path) from error.__cause__
    escaped = {key: value.replace("$", "$$") if isinstance(value, str) else value for key, value in short.items()}
    arguments = {**escaped, **arguments}
    from_python = {*options, *(short if "type" in options else ())}
    if kind.kind == "auto":
        kind = _kind_with_fields(kind, arguments, "" if "model" in from_python else place.folder)
    reranker: Reranker = _make(kind, arguments, place, from_python)
    return reranker


def _node_of_text(spec: Any, place: Place) -> Mapping[str, Any]:
    """Return the node that a name, a folder or a variable with JSON stands for; a node as it is."""
    if isinstance(spec, Mapping):
        return spec
    if isinstance(spec, os.PathLike):
        return {"type": path_text(spec).replace("$", "$$")}
    if not isinstance(spec, str):
        kind = type(spec).__name__
        raise ConfigError(f"expected a name, a mapping, a config file or a Reranker, got {kind}", path=place.path)
    text = expand(spec, place.path) if has_reference(spec) else spec
    if text is not spec and text.lstrip().startswith("{"):
        node: Mapping[str, Any] = parse_variable(text, spec, place.path)
        return node
    if _is_file(text):
        raise ConfigError(
            f"a config cannot name a file inside itself, got {spec!r}; write its content here", path=place.path
        )
    return {"type": spec}


def _kind_with_fields(kind: type[Any], arguments: Mapping[str, Any], folder: str) -> type[Any]:
    """Return ``auto``, or one of its backends where ``auto`` lacks a field.

    It is the first that has all these fields; of several, the one that the files of a local folder choose.
    """
    fitting = [
        candidate
        for candidate in map(registry.resolve, registry.MODEL_TYPES)
        if arguments.keys() <= {f.name for f in config_fields(candidate)}
    ]
    if len(fitting) > 1 and kind not in fitting and isinstance(model := arguments.get("model"), str):
        path = expand_user(path_from(folder, expand(model)))
        with suppress(ModelLoadError):  # if something is wrong with the folder, its first use says what
            return next((c for c in fitting if path.is_dir() and c is kind.of_folder(path)), fitting[0])
    return next(iter(fitting), kind)


def _make(kind: type[Any], arguments: Any, place: Place, from_python: Collection[str] = ()) -> Any:
    """Construct a dataclass from a mapping of its fields; names and types are checked.

    Args:
        kind: The class.
        arguments: The fields.
        place: The place of the mapping.
        from_python: Fields that are not from the config file, so that their paths start from the working directory.
    """
    path, page = place.path, page_of(kind)
    if not isinstance(arguments, Mapping):
        got = type(arguments).__name__
        raise ConfigError(f"expected a mapping of {kind.__name__} fields, got {got}", path=path, page=page)
    by_name = {f.name: f for f in config_fields(kind)}
    for key in arguments:
        if key not in by_name:
            hint = _CUTOFF if key in ("top_k", "topk", "top_n", "topn") else did_you_mean(str(key), by_name)
            raise ConfigError(f"unknown key {key!r} of {title_of(kind)}{hint}", path=path, page=page)
    for name, f in by_name.items():
        if f.default is MISSING and f.default_factory is MISSING and name not in arguments:
            raise ConfigError(f"{title_of(kind)} needs {name!r}", path=path, page=page)
    hints = get_type_hints(kind)
    values = {}
    for key, value in arguments.items():
        here = place.field(key)._replace(folder="" if key in from_python else place.folder)
        try:
            values[key] = _convert(hints[key], value, here)
            values[key] = with_full_paths(kind, key, values[key], here.folder)
        except ConfigError as error:
            texts = {values.get(key): value} if isinstance(value, str) and has_reference(value) else {}
            masked = mask_values(error, texts)
            raise masked.under("" if error.path else here.path, page=page) from error.__cause__
    try:
        return kind(**values)
    except ConfigError as error:
        texts = {values[key]: text for key, text in arguments.items() if isinstance(text, str) and has_reference(text)}
        raise mask_values(error, texts).under(path, page=page) from error.__cause__


def _convert(hint: Any, value: Any, place: Place) -> Any:
    """Return the value of a field of this type for a config value."""
    if isinstance(value, os.PathLike):
        value = path_text(value)
    choices = choices_of(hint)
    if value is None and type(None) in choices:
        return None
    source, value = value, _value_of_variable(choices, value, place)
    for choice in choices:
        if get_origin(choice) in (tuple, Sequence):
            if isinstance(value, (list, tuple)):
                item = get_args(choice)[0]
                return tuple(_convert(item, v, place.item(i)) for i, v in enumerate(value))
            continue
        if is_class_below(choice, Reranker):
            return _build(value, place)
        if is_class_below(choice, Secret):
            if not isinstance(value, (str, Secret)):
                raise ConfigError(
                    f"expected a key or a ${{VAR}} reference, got {type(value).__name__}", path=place.path
                )
            return Secret(value, path=place.path)
        if is_dataclass(choice) and is_class_below(choice, object) and type(value) not in choices:
            return value if isinstance(value, choice) else _make(choice, value, place)
    if not isinstance(source, str):
        if type(value) in (bool, int) and type(value) in choices:
            return value  # as pydantic would, whose import takes longer than all else here
        return _validate(hint, expand_inside(value, place.path), value, place.path)
    if value == "" and has_reference(source) and type(None) in choices and str not in choices:
        return None
    return value if str in choices else _validate(hint, value, source, place.path, from_text=has_reference(source))


def _value_of_variable(choices: tuple[Any, ...], value: Any, place: Place) -> Any:
    """Return a text with its references replaced, and the JSON of a variable that holds a list or a mapping."""
    if not isinstance(value, str) or any(is_class_below(c, Secret) or is_class_below(c, Reranker) for c in choices):
        return value  # a key is read at each use, and a name where its node is built
    text = expand(value, place.path)
    if not has_reference(value) or str in choices:
        return text
    if text.lstrip().startswith(("[", "{")):
        return parse_variable(text, value, place.path)
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
