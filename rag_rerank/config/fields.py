"""The fields of a class as a config sees them, and the place of a value in a config."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import Field, fields
from functools import cache
from typing import Annotated, Any, NamedTuple, TypeGuard, Union, get_args, get_origin, get_type_hints

from rag_rerank import registry
from rag_rerank._files import ConfigPath
from rag_rerank.base import Reranker
from rag_rerank.documentation import page_of_type

__all__ = ["ROOT", "Place", "choices_of", "config_fields", "is_class_below", "page_of", "title_of", "with_full_paths"]


class Place(NamedTuple):
    """The place of a value in a config.

    Args:
        path: Its path in messages: ``stages[1].reranker``; empty at the root.
        folder: The folder that relative paths start from: that of the config file. Empty for a config that is no file:
            then they start from the working directory.
    """

    path: str = ""
    folder: str = ""

    def field(self, name: str) -> Place:
        """Return the place of a field of this one."""
        return self._replace(path=f"{self.path}.{name}" if self.path else name)

    def item(self, position: int) -> Place:
        """Return the place of an item of this list."""
        return self._replace(path=f"{self.path}[{position}]")


ROOT = Place()


def config_fields(kind: type[Any]) -> tuple[Field[Any], ...]:
    """Return the fields that a config can set: all but live objects."""
    return tuple(f for f in fields(kind) if f.init and not f.metadata.get("live"))


def choices_of(hint: Any) -> tuple[Any, ...]:
    """Return the types of a union; a type that is none alone."""
    is_union = get_origin(hint) is Union or type(hint).__name__ == "UnionType"
    return get_args(hint) if is_union else (hint,)


def is_class_below(hint: Any, parent: type[Any] | tuple[type[Any], ...]) -> TypeGuard[type[Any]]:
    """Whether an annotation is a subclass; for Python 3.10 ``Mapping[str, Any]`` is a class, but not here."""
    return isinstance(hint, type) and get_origin(hint) is None and issubclass(hint, parent)


@cache
def _path_marks(kind: type[Any]) -> dict[str, ConfigPath]:
    hints = get_type_hints(kind, include_extras=True)
    return {name: mark for name, hint in hints.items() for mark in _marks_in(hint)}


def _marks_in(hint: Any) -> Iterator[ConfigPath]:
    for choice in choices_of(hint):
        if get_origin(choice) is Annotated:
            yield from (mark for mark in get_args(choice)[1:] if isinstance(mark, ConfigPath))
        elif get_origin(choice) in (tuple, Sequence):
            yield from _marks_in(get_args(choice)[0])


def with_full_paths(kind: type[Any], name: str, value: Any, folder: str) -> Any:
    """Return the value of a field, in which paths that are relative to a folder are in full.

    Args:
        kind: The class with the field.
        name: The field; if it is not marked as a path, its value is returned as it is.
        value: The value.
        folder: The folder; empty to return the value as it is.
    """
    mark = _path_marks(kind).get(name) if folder else None  # type: ignore[arg-type]
    if mark is None or value is None:
        return value
    if isinstance(value, (tuple, list)):
        return tuple(mark.resolve(item, folder) if isinstance(item, str) else item for item in value)
    return mark.resolve(value, folder) if isinstance(value, str) else value


def title_of(kind: type[Any]) -> str:
    """Return what messages call a class: ``type 'onnx'``, ``Stage``."""
    return f"type {kind.kind!r}" if issubclass(kind, Reranker) else kind.__name__


def page_of(kind: type[Any]) -> str:
    """Return the page about a class of a config; empty for a class of another distribution."""
    if kind.__module__.partition(".")[0] != registry.__name__.partition(".")[0]:
        return ""
    return page_of_type(kind.kind if issubclass(kind, Reranker) else kind.__name__)
