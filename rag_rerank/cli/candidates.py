"""Read candidates from a file: JSON, JSON lines or plain lines, also gzip. Errors name their place: ``file:line``."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from rag_rerank._files import parse_json, read_lines
from rag_rerank.diagnostics.sample_texts import SampleQuestion
from rag_rerank.errors import ConfigError, InputError, did_you_mean
from rag_rerank.types import Candidate

__all__ = ["Format", "read_candidates", "read_question"]

Format = Literal["auto", "json", "jsonl", "lines"]

_FIELDS: Mapping[str, tuple[str, ...]] = {
    "id": ("id", "_id", "doc_id"),
    "text": ("text", "contents", "content", "body", "page_content"),
    "title": ("title",),
    "score": ("score",),
    "metadata": ("metadata",),
}
"""Field of a candidate -> keys that hold it, the first that is there: those of BEIR, Pyserini, LangChain and others."""

_LISTS = ("candidates", "documents")
"""Keys of an object that holds all candidates."""

_TYPO = 0.8
"""How like an expected key (difflib's ratio) an unknown key must be to be a misspelt one: ``txt``, not ``source``."""


def read_candidates(file: str, layout: Format) -> list[Candidate]:
    """Read the candidates of a file, or of standard input for ``-``; blank lines are skipped.

    With ``auto`` the content decides: a JSON array is ``json``, a first line that begins with ``{`` makes it ``jsonl``
    (or ``json``, if an object takes several lines), anything else ``lines``. A candidate without an id gets its
    position, counted from 0.

    Raises:
        InputError: The file cannot be read, is not UTF-8, or something in it is not a candidate.
    """
    name = "<stdin>" if file == "-" else file
    lines = [(where, line) for where, line in _lines(None if file == "-" else Path(file), name) if line.strip()]
    candidates: list[Candidate] = []
    places: dict[str, str] = {}  # id -> where it stands
    for where, item in _items(lines, name, layout):
        fields = {"text": item} if isinstance(item, str) else _fields(where, item)
        try:
            candidate = Candidate(**{"id": str(len(candidates)), **fields})
        except InputError as error:
            raise InputError(f"{where}: {error}") from error
        if candidate.id in places:
            raise InputError(
                f"{where}: the id {candidate.id!r} is taken by {places[candidate.id]}; give each candidate its own id"
            )
        places[candidate.id] = where
        candidates.append(candidate)
    return candidates


def read_question(texts: str | None, query: str | None) -> SampleQuestion | None:
    """Read the texts of ``--texts`` for a ``--query``; ``None`` where the user gives neither.

    Raises:
        ConfigError: Only one of the two is given.
        InputError: The file cannot be read, or a line is not a candidate.
    """
    if (texts is None) != (query is None):
        raise ConfigError("--texts and --query go together; give both or neither")
    if texts is None or query is None:
        return None
    return SampleQuestion(query, tuple(candidate.text for candidate in read_candidates(texts, "auto")))


def _lines(file: Path | None, name: str) -> Iterator[tuple[str, str]]:
    """Yield (``file:line``, text) for each line."""
    for number, line in read_lines(file):
        where = f"{name}:{number}"
        try:
            yield where, line.decode("utf-8")
        except UnicodeDecodeError as error:
            raise InputError(
                f"{where}: not UTF-8 at byte {error.start + 1} of the line; save the file as UTF-8"
            ) from error


def _items(lines: list[tuple[str, str]], name: str, layout: Format) -> Iterator[tuple[str, Any]]:
    """Yield the candidates, as JSON values, each with its place."""
    if layout == "json" or (layout == "auto" and _is_one_value(lines)):
        for position, item in enumerate(_array(lines, name)):
            yield f"{name}[{position}]", item
        return
    if layout == "auto":
        layout = "jsonl" if lines and lines[0][1].lstrip().startswith("{") else "lines"
    for where, line in lines:
        yield where, _object(where, line) if layout == "jsonl" else line


def _is_one_value(lines: list[tuple[str, str]]) -> bool:
    """Whether a file is one JSON value: an array of texts or objects, or an object that is more than one candidate."""
    first = lines[0][1].lstrip() if lines else ""
    if first.startswith("["):
        # plain text begins with [1] or [sic], too
        return bool(re.match(r'\[\s*(["{\]]|$)', first)) and not (len(lines) > 1 and _is_json(first))
    if not first.startswith("{"):
        return False
    if len(lines) > 1:
        return not _is_json(first) and _is_json(_text(lines))
    return _is_json(first) and any(isinstance(parse_json(first).get(key), list) for key in _LISTS)


def _is_json(text: str) -> bool:
    try:
        parse_json(text)
    except ValueError:
        return False
    return True


def _array(lines: list[tuple[str, str]], name: str) -> list[Any]:
    """Return the items of a JSON array, or of the list in an object."""
    try:
        value = parse_json(_text(lines))
    except ValueError as error:
        raise InputError(f"{name}: not valid JSON: {error}; for plain text, use --format lines") from error
    if isinstance(value, dict):
        value = next((value[key] for key in _LISTS if isinstance(value.get(key), list)), [value])
    if not isinstance(value, list):
        raise InputError(f"{name}: expected a JSON array of candidates, got {type(value).__name__}")
    return value


def _text(lines: list[tuple[str, str]]) -> str:
    return "\n".join(line for _, line in lines)


def _object(where: str, line: str) -> dict[str, Any] | str:
    try:
        value = parse_json(line)
    except ValueError as error:
        hint = "; for plain text that begins with '{', use --format lines" if where.endswith(":1") else ""
        raise InputError(f"{where}: not valid JSON: {error}{hint}") from error
    if not isinstance(value, (dict, str)):
        raise InputError(f"{where}: expected a JSON object with 'text', got {type(value).__name__}")
    return value


def _fields(where: str, item: Any) -> dict[str, Any]:
    """Return the fields of a candidate for a JSON object; its other keys are metadata."""
    if not isinstance(item, dict):
        raise InputError(f"{where}: expected a text or a JSON object with 'text', got {type(item).__name__}")
    keys = {field: next((key for key in names if key in item), None) for field, names in _FIELDS.items()}
    others = {key: value for key, value in item.items() if key not in keys.values()}
    for key in others:
        _check_no_typo(where, key, [names[0] for field, names in _FIELDS.items() if keys[field] is None])
    if keys["text"] is None:
        raise InputError(f"{where}: 'text' is missing; every candidate needs it (or {', '.join(_FIELDS['text'][1:])})")
    fields = {field: item[key] for field, key in keys.items() if key is not None}
    title = fields.pop("title", None)
    if isinstance(title, str) and title.strip() and isinstance(fields["text"], str):
        fields["text"] = f"{title} {fields['text']}"  # as BEIR's own code joins them, and `eval` for its folders
    elif title is not None:
        others["title"] = title
    if isinstance(fields.get("id"), int) and not isinstance(fields["id"], bool):
        fields["id"] = str(fields["id"])
    if others and isinstance(fields.get("metadata") or {}, dict):
        fields["metadata"] = {**others, **(fields.get("metadata") or {})}
    return {key: value for key, value in fields.items() if value is not None or key == "text"}


def _check_no_typo(where: str, key: str, absent: list[str]) -> None:
    """Raise for a key that can only be a misspelt one of an absent field."""
    import difflib

    if difflib.get_close_matches(key.casefold(), absent, n=1, cutoff=_TYPO):
        raise InputError(f"{where}: unknown key {key!r}{did_you_mean(key, absent)}; put other data into 'metadata'")
