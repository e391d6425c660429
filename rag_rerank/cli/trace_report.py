"""``rag-rerank trace report``: recorded calls as one page of HTML."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from rag_rerank.errors import InputError
from rag_rerank.pages.page import trace_page
from rag_rerank.records.record import SCHEMA

__all__ = ["report"]


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), metavar="PAGE", help="The page to write.")
def report(file: Path, out: Path) -> None:
    """Write a page that shows the recorded calls of FILE: rank moves, scores, and every candidate's way.

    The page is one HTML file that loads nothing from elsewhere. It holds the texts if the recording does. Of a long
    recording it holds the last calls, and says how many it left out.
    """
    page = trace_page(_records(file))
    try:
        out.write_text(page, encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot write {out}: {error.strerror or error}") from error
    click.echo(f"{out}: written")


def _records(file: Path) -> Iterator[dict[str, Any]]:
    try:
        with file.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield _record(f"{file}:{number}", line)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {file}: {error}") from error


def _record(where: str, line: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except ValueError as error:
        raise InputError(f"{where}: not valid JSON: {error}") from error
    if not isinstance(record, dict) or record.get("schema") != SCHEMA:
        raise InputError(f"{where}: expected a record of the layout {SCHEMA}")
    return record
