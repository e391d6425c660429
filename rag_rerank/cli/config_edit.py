"""Write configs: new files, and fields of existing ones. YAML keeps its comments, its order and its quotes."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from rag_rerank._files import check_folder, parse_json, write
from rag_rerank.base import Reranker
from rag_rerank.config import to_config
from rag_rerank.config.build import build_text
from rag_rerank.config.dump import file_config, with_absolute_paths
from rag_rerank.errors import ConfigError
from rag_rerank.secret import Secret

__all__ = [
    "Changes",
    "Place",
    "check_new_config",
    "config_text",
    "edit",
    "find_parts",
    "place_text",
    "with_replaced",
    "write_config",
]

T = TypeVar("T")

Place = tuple[str | int, ...]
"""``("stages", 1, "reranker")``: names of fields and positions in tuples, as in the config; empty at the root."""

Changes = Mapping[Place, Mapping[str, int]]
"""Place of a node -> fields to set there."""


def check_new_config(reranker: Reranker, spec: str, out: Path | None, *, instead: str = "") -> None:
    """Check, before long work starts, that a new config file can be written and will be complete.

    Args:
        reranker: The reranker to write, still without the values that the work will find.
        spec: The name or file by which the user named it.
        out: The new file; ``None`` for the terminal.
        instead: End of the message: what the user can do instead.

    Raises:
        ConfigError: The file exists already, has no folder or an unknown ending, or the reranker cannot be written
            without loss.
    """
    to_config(reranker)
    if any(secret.reference is None for _, secret in find_parts(reranker, Secret)):
        raise ConfigError(
            f"{spec} holds a key that is written out, and a new config would lack it; write ${{VARIABLE}} in its "
            f"place{instead}"
        )
    if out is None:
        return
    if out.suffix not in (".yaml", ".yml", ".json"):
        raise ConfigError(f"{out}: a config file ends in .yaml, .yml or .json")
    if out.exists():
        raise ConfigError(f"{out} exists already; name a new file{instead}")
    check_folder(out)


def config_text(reranker: Reranker, file: Path | None = None) -> str:
    """Return the text of a config: for a new file, or YAML for the terminal.

    Paths in the folder of the file, or in the working directory for the terminal, are relative to it.
    """
    node = file_config(reranker, file or Path("terminal.yaml"))
    if file is not None and file.suffix == ".json":
        return json.dumps(node, indent=2, ensure_ascii=False) + "\n"
    import yaml

    return yaml.safe_dump(node, sort_keys=False, allow_unicode=True)


def write_config(file: Path, content: str, expected: Reranker) -> None:
    """Write a config file in one step, after checking that it describes the expected reranker.

    Raises:
        ConfigError: It would describe another reranker, or cannot be written; an existing file stays as it was.
    """
    write(file, content.encode(), check=lambda draft: _check_draft(draft, file, expected))


def _check_draft(draft: Path, file: Path, expected: Reranker) -> None:
    try:
        draft_reranker = build_text(draft.read_text(encoding="utf-8-sig"), file)
        same = with_absolute_paths(draft_reranker) == with_absolute_paths(expected)
    except ConfigError as error:
        raise ConfigError(f"{file} is left as it is: the edited file could not be read ({error.message})") from error
    if not same:
        raise ConfigError(
            f"{file} is left as it is: edited, it would describe another reranker than the one that was measured. "
            "Either it was changed meanwhile, or a YAML anchor shares the edited part with another place; run the "
            "command again, or write the anchors out"
        )


def edit(file: Path, changes: Changes) -> str:
    """Return the text of a config file after the changes; the file itself stays as it is.

    A node that is only a name becomes a mapping with that ``type``. In YAML, comments, order and quotes stay; spaces
    may change.

    Raises:
        ConfigError: The file cannot be read, lacks a part that must be changed, or would lose a comment.
    """
    try:
        text = file.read_bytes().decode("utf-8-sig")
        return _edit_json(text, changes, file) if file.suffix == ".json" else _edit_yaml(text, changes, file)
    except ConfigError:
        raise
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read {file}: {error}") from error


def _edit_json(text: str, changes: Changes, file: Path) -> str:
    def with_fields(node: Any, values: Mapping[str, int]) -> Any:
        return {**(node if isinstance(node, dict) else {"type": node}), **values}

    content = _apply(parse_json(text, unique_keys=True), changes, file, with_fields)
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def _edit_yaml(text: str, changes: Changes, file: Path) -> str:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError
    from ruamel.yaml.util import load_yaml_guess_indent

    newline = "\r\n" if "\r\n" in text else "\n"
    text = text.replace("\r\n", "\n")
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.explicit_start = text.startswith("---")
    yaml.width = 2**20  # never breaks a line
    null = {type(None): lambda representer, _: representer.represent_scalar("tag:yaml.org,2002:null", "null")}
    yaml.representer.yaml_representers = yaml.representer.yaml_representers | null  # else null is left empty
    output = io.StringIO()
    try:
        content, indent, offset = load_yaml_guess_indent(text, yaml=yaml)
        if isinstance(content, str):  # a name alone; ruamel.yaml keeps comments in mappings and lists only
            name = rf"^(['\"]?){re.escape(content)}\1"
            content = yaml.load(re.sub(name, r"type: \g<0>", text, count=1, flags=re.MULTILINE))
        yaml.indent(mapping=offset or indent or 2, sequence=indent or 2, offset=offset or 0)
        yaml.dump(_apply(content, changes, file, _with_yaml_fields), output)
    except YAMLError:  # quotes the line, which may hold a key of a provider
        raise ConfigError(f"{file} is left as it is: it is not valid YAML 1.2; write a new file with -o") from None
    for number, line in enumerate(text.split("\n"), start=1):
        comment = re.search(r"(?:^|\s)(#.*\S)", line)
        if comment and comment[1] not in output.getvalue():
            raise ConfigError(
                f"{file} is left as it is: the comment in line {number} would be lost; put it above a key or at the "
                "end of a line, or write a new file with -o"
            )
    return output.getvalue().replace("\n", newline)


def _with_yaml_fields(node: Any, values: Mapping[str, int]) -> Any:
    """Set fields of a node of ruamel.yaml: existing ones in their places, new ones after the last plain value."""
    from ruamel.yaml.comments import CommentedMap
    from ruamel.yaml.error import CommentMark
    from ruamel.yaml.tokens import CommentToken

    if not isinstance(node, CommentedMap):
        node = CommentedMap({"type": node})
        node.fa.set_flow_style()
    last = [key for key, value in node.items() if not isinstance(value, (dict, list))][-1]
    for name, value in values.items():
        if name not in node:
            node.insert(list(node).index(last) + 1, name, value)
            # ruamel.yaml stores the comment after an entry together with the lines below it, which must stay below
            comments = node.ca.items.get(last, [None, None, None, None])
            if comments[2] is not None:
                end_of_line, _, below = comments[2].value.partition("\n")
                comments[2].value = f"{end_of_line}\n"
                node.ca.items[name] = [None, None, CommentToken(f"\n{below}", CommentMark(0)), None]
            last = name
        node[name] = value
    return node


def _apply(content: Any, changes: Changes, file: Path, with_fields: Callable[[Any, Mapping[str, int]], Any]) -> Any:
    """Apply the changes to the content of a file, in place, and return it."""
    whole = {"": content}
    for place, values in changes.items():
        parent: Any = whole
        *steps, last = ("", *place)
        try:
            for step in steps:
                parent = parent[step]
            node = parent[last]
        except (KeyError, TypeError):  # a part that comes from a default, or from a node that is only a name
            raise ConfigError(
                f"{file} is left as it is: it does not spell out {place_text(place)}; write that part out, or write a "
                "new file with -o"
            ) from None
        parent[last] = with_fields(node, values)
    return whole[""]


def find_parts(value: Any, kind: type[T], place: Place = ()) -> Iterator[tuple[Place, T]]:
    """Yield all instances of a class inside a reranker, itself included, each with its place."""
    if isinstance(value, kind):
        yield place, value
    elif isinstance(value, tuple):
        for i, item in enumerate(value):
            yield from find_parts(item, kind, (*place, i))
    elif is_dataclass(value) and not isinstance(value, type):
        for f in fields(value):
            yield from find_parts(getattr(value, f.name), kind, (*place, f.name))


def with_replaced(value: Any, place: Place, reranker: Reranker) -> Any:
    """Return a copy of a reranker in which another one is at this place."""
    if not place:
        return reranker
    first, *rest = place
    if isinstance(first, int):
        return (*value[:first], with_replaced(value[first], tuple(rest), reranker), *value[first + 1 :])
    return replace(value, **{first: with_replaced(getattr(value, first), tuple(rest), reranker)})


def place_text(place: Place) -> str:
    """Return a place as error messages write it: ``stages[1].reranker``."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in place).removeprefix(".")
