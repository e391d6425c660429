"""Setting fields in a config file: of YAML only the text of these fields is touched, comments and layout stay."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rag_rerank._parse import parse_json
from rag_rerank.base import Reranker
from rag_rerank.cli.places import Place, shown
from rag_rerank.config import load
from rag_rerank.errors import ConfigError

if TYPE_CHECKING:
    from yaml import MappingNode, Node

__all__ = ["Changes", "edited", "put"]

Changes = Mapping[Place, Mapping[str, int]]
"""Place of a node -> fields to set there."""


def edited(file: Path, changes: Changes) -> str:
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


def put(file: Path, content: str, expected: Reranker) -> None:
    """Write a config file in one step, after making sure that it describes what is expected.

    Raises:
        ConfigError: It would describe something else, or cannot be written; what was there stays.
    """
    target = file.resolve()  # what a link points to is replaced, not the link
    draft = target.with_name(f".{target.stem}-{os.urandom(4).hex()}{target.suffix}")
    try:
        try:
            with draft.open("xb") as stream:
                if target.exists():
                    shutil.copymode(target, draft)  # before it holds anything: a config may hold a key
                stream.write(content.encode())
                stream.flush()
                os.fsync(stream.fileno())
            _check(draft, file, expected)
            draft.replace(target)
        finally:
            draft.unlink(missing_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot write {file}: {error.strerror or error}") from error


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
    for place, fields in changes.items():
        parent: Any = whole
        *way, last = ("", *place)
        try:
            for step in way:
                parent = parent[step]
            node = parent[last]
        except (KeyError, TypeError):  # a part that is there by default, of a node that may be only a name
            raise _not_spelled_out(file, place) from None
        parent[last] = {**(node if isinstance(node, dict) else {"type": node}), **fields}
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
    for place, fields in changes.items():
        patches += _patches(text, _node(root, place, file), fields)
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
    return ConfigError(f"{file} is left as it is: it does not spell out {shown(place)}")


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
