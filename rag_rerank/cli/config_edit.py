"""Write configs: new files, and fields of an existing one. YAML keeps its comments and layout."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from rag_rerank._files import check_folder, parse_json, write
from rag_rerank.base import Reranker
from rag_rerank.config import load, to_config
from rag_rerank.errors import ConfigError
from rag_rerank.secret import Secret

if TYPE_CHECKING:
    from yaml import MappingNode, Node

__all__ = ["Changes", "Place", "as_yaml", "check_new", "edit", "find_parts", "place_text", "put", "with_replaced"]

T = TypeVar("T")

Place = tuple[str | int, ...]
"""``("stages", 1, "reranker")``: names of fields and positions in tuples, as in the config; empty at the root."""


def find_parts(value: Any, kind: type[T], place: Place = ()) -> Iterator[tuple[Place, T]]:
    """Yield all of a kind that a reranker holds, itself included, each with its place."""
    if isinstance(value, kind):
        yield place, value
    elif isinstance(value, tuple):
        for i, item in enumerate(value):
            yield from find_parts(item, kind, (*place, i))
    elif is_dataclass(value) and not isinstance(value, type):
        for f in fields(value):
            yield from find_parts(getattr(value, f.name), kind, (*place, f.name))


def with_replaced(value: Any, place: Place, reranker: Reranker) -> Any:
    """Return a reranker with another one at a place."""
    if not place:
        return reranker
    first, *rest = place
    if isinstance(first, int):
        return (*value[:first], with_replaced(value[first], tuple(rest), reranker), *value[first + 1 :])
    return replace(value, **{first: with_replaced(getattr(value, first), tuple(rest), reranker)})


def place_text(place: Place) -> str:
    """Write a place as error messages do: ``stages[1].reranker``."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in place).removeprefix(".")


Changes = Mapping[Place, Mapping[str, int]]
"""Place of a node -> fields to set there."""


def edit(file: Path, changes: Changes) -> str:
    """Return what a config file should hold after the changes; the file is left alone.

    A node that is only a name becomes a mapping with that ``type``.

    Raises:
        ConfigError: The file cannot be read, uses YAML anchors, or is laid out in a way that cannot be edited.
    """
    try:
        text = file.read_bytes().decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {file}: {error}") from error
    return _json(text, changes, file) if file.suffix == ".json" else _yaml(text, changes, file)


def check_new(reranker: Reranker, spec: str, out: Path | None, *, instead: str = "") -> None:
    """Find out before the work, not after it, that a new config file could not be written or would lack something.

    Args:
        reranker: What will be written, but for what is yet to be found.
        spec: What the user calls it.
        out: The new file; ``None`` for the terminal.
        instead: What else can be done with a file that a new one would not replace.

    Raises:
        ConfigError: The file exists already, has no folder or an unknown ending, or the reranker cannot be expressed
            without loss.
    """
    to_config(reranker)
    if any(secret.reference is None for _, secret in find_parts(reranker, Secret)):
        raise ConfigError(
            f"{spec} holds a key that is written out, and a new config would lack it; write ${{VARIABLE}} in its "
            f"place{instead}"
        )
    if out is not None and out.suffix not in (".yaml", ".yml", ".json"):
        raise ConfigError(f"{out}: a config file ends in .yaml, .yml or .json")
    if out is not None and out.exists():
        raise ConfigError(f"{out} exists already; name a new file{instead}")
    if out is not None:
        check_folder(out)


def as_yaml(reranker: Reranker, file: Path) -> str:
    """Return a reranker as the text of a config file, JSON or YAML by the file's ending."""
    if file.suffix == ".json":
        return json.dumps(to_config(reranker), indent=2, ensure_ascii=False) + "\n"
    import yaml

    return yaml.safe_dump(to_config(reranker), sort_keys=False, allow_unicode=True)


def put(file: Path, content: str, expected: Reranker) -> None:
    """Write a config file in one step, after making sure that it describes what is expected.

    Raises:
        ConfigError: It would describe something else, or cannot be written; what was there stays.
    """
    write(file, content.encode(), check=lambda draft: _check(draft, file, expected))


def _check(draft: Path, file: Path, expected: Reranker) -> None:
    try:
        same = load(draft) == expected
    except ConfigError as error:
        raise ConfigError(f"{file} is left as it is: the edited file could not be read ({error.message})") from error
    if not same:
        raise ConfigError(
            f"{file} is left as it is: edited, it would describe another reranker than the one that was measured. It "
            "was changed meanwhile, or is laid out in a way not known here"
        )


def _json(text: str, changes: Changes, file: Path) -> str:
    whole = {"": parse_json(text)}
    for place, values in changes.items():
        parent: Any = whole
        *way, last = ("", *place)
        try:
            for step in way:
                parent = parent[step]
            node = parent[last]
        except (KeyError, TypeError):  # a part that is there by default, of a node that may be only a name
            raise _not_spelled_out(file, place) from None
        parent[last] = {**(node if isinstance(node, dict) else {"type": node}), **values}
    return json.dumps(whole[""], indent=2, ensure_ascii=False) + "\n"


def _yaml(text: str, changes: Changes, file: Path) -> str:
    import yaml

    if any(getattr(event, "anchor", None) is not None for event in yaml.parse(text, yaml.SafeLoader)):
        raise ConfigError(
            f"{file} is left as it is: it uses YAML anchors, so a change in one place would change others; write the "
            "anchors out, or write a new file with -o"
        )
    root = yaml.compose(text, yaml.SafeLoader)
    patches: list[tuple[int, int, str]] = []
    for place, values in changes.items():
        patches += _patches(text, _node(root, place, file), values)
    for start, end, new in sorted(patches, reverse=True):
        text = text[:start] + new + text[end:]
    return text


def _node(node: Node | None, place: Place, file: Path) -> Node:
    import yaml

    for step in place:
        if isinstance(node, yaml.SequenceNode) and isinstance(step, int):
            node = node.value[step]
        else:
            node = dict(_entries(node)).get(str(step)) if isinstance(node, yaml.MappingNode) else None
    if node is None:
        raise _not_spelled_out(file, place)
    return node


def _not_spelled_out(file: Path, place: Place) -> ConfigError:
    return ConfigError(f"{file} is left as it is: it does not spell out {place_text(place)}")


def _entries(node: Node) -> Iterator[tuple[str, Node]]:
    return ((key.value, value) for key, value in node.value)


def _patches(text: str, node: Node, fields: Mapping[str, int]) -> Iterator[tuple[int, int, str]]:
    """Yield start, end and new text of each change."""
    import yaml

    if isinstance(node, yaml.ScalarNode):
        mapping = yaml.safe_dump({"type": node.value, **fields}, default_flow_style=True, sort_keys=False, width=1000)
        yield node.start_mark.index, node.end_mark.index, mapping.rstrip("\n")
        return
    assert isinstance(node, yaml.MappingNode), "a reranker is a name or a mapping"
    there = dict(_entries(node))
    for name, value in fields.items():
        if name in there:
            yield there[name].start_mark.index, there[name].end_mark.index, str(value)
    new = [f"{name}: {value}" for name, value in fields.items() if name not in there]
    if new:
        at, lines = _insertion(text, node, new)
        yield at, at, lines


def _insertion(text: str, node: MappingNode, new: list[str]) -> tuple[int, str]:
    """Return where the new entries of a mapping go, and their text."""
    if node.flow_style:
        return node.value[-1][1].end_mark.index, "".join(f", {entry}" for entry in new)
    last = next((entry for entry in reversed(node.value) if _on_one_line(*entry)), None)
    if last is None:
        raise ConfigError(f"cannot add {', '.join(new)} in line {node.start_mark.line + 1}; put 'type' on one line")
    key, value = last
    newline = "\r\n" if "\r\n" in text else "\n"
    end = text.find("\n", value.end_mark.index)
    end = len(text) if end < 0 else end - (text[end - 1] == "\r")  # behind a comment on this line
    return end, "".join(f"{newline}{' ' * key.start_mark.column}{entry}" for entry in new)


def _on_one_line(key: Node, value: Node) -> bool:
    return bool(key.start_mark.line == value.end_mark.line)
