"""Read candidates from a file: JSON lines or plain lines. Errors name the line as ``file:line``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from rag_rerank._files import parse_json
from rag_rerank.diagnostics.sample_texts import SampleQuestion
from rag_rerank.errors import ConfigError, InputError, did_you_mean
from rag_rerank.types import Candidate

__all__ = ["Format", "read_candidates", "read_question"]

Format = Literal["auto", "jsonl", "lines"]

_KEYS = ("text", "id", "score", "metadata")


def read_candidates(file: str, layout: Format) -> list[Candidate]:
    """Read the candidates of a file, or of standard input for ``-``; blank lines are skipped.

    With ``auto`` the file is JSON lines if its first line that is not blank begins with ``{``, else plain lines.
    A candidate without an id gets its position, counted from 0.

    Raises:
        InputError: The file cannot be read, is not UTF-8, or a line is not a candidate.
    """
    lines = [(where, line) for where, line in _lines(file) if line.strip()]
    if layout == "auto":
        layout = "jsonl" if lines and lines[0][1].lstrip().startswith("{") else "lines"
    candidates: list[Candidate] = []
    places: dict[str, str] = {}  # id -> the line that has it
    for where, line in lines:
        fields = _fields(where, line) if layout == "jsonl" else {"text": line}
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


def _lines(file: str) -> Iterator[tuple[str, str]]:
    """Yield (``file:line``, text) for each line; only a line feed ends a line, with or without a carriage return."""
    name = "<stdin>" if file == "-" else file
    if file == "-" and sys.stdin is None:
        raise InputError("standard input is closed; name a file instead of -")
    try:
        content = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {name}: {error.strerror or error}") from error
    for number, line in enumerate(content.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        where = f"{name}:{number}"
        try:
            yield where, line.removesuffix(b"\r").decode("utf-8")
        except UnicodeDecodeError as error:
            raise InputError(
                f"{where}: not UTF-8 at byte {error.start + 1} of the line; save the file as UTF-8"
            ) from error


def _fields(where: str, line: str) -> dict[str, Any]:
    try:
        fields = parse_json(line)
    except ValueError as error:
        hint = "; for plain text that begins with '{', use --format lines" if where.endswith(":1") else ""
        raise InputError(f"{where}: not valid JSON: {error}{hint}") from error
    if not isinstance(fields, dict):
        raise InputError(f"{where}: expected a JSON object with 'text', got {type(fields).__name__}")
    for key in fields:
        if key not in _KEYS:
            raise InputError(f"{where}: unknown key {key!r}{did_you_mean(key, _KEYS)}; put other data into 'metadata'")
    if "text" not in fields:
        raise InputError(f"{where}: 'text' is missing; every candidate needs it")
    if isinstance(fields.get("id"), int) and not isinstance(fields["id"], bool):
        fields["id"] = str(fields["id"])
    return {key: value for key, value in fields.items() if value is not None or key == "text"}
