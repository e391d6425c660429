"""``rag-rerank trace report``: recorded calls as one page of HTML."""

from __future__ import annotations

from pathlib import Path

import click

from rag_rerank.cli.ranking import warnings_on_stderr
from rag_rerank.errors import InputError
from rag_rerank.pages.page import trace_page
from rag_rerank.records.reading import read

__all__ = ["report"]


@click.command(short_help="Write a page that shows recorded calls.")
@click.argument("file", metavar="FILE")
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), metavar="PAGE", help="The page to write.")
def report(file: str, out: Path) -> None:
    """Write a page that shows the recorded calls of FILE: rank moves, scores, and every candidate's way.

    The page is one HTML file that loads nothing from elsewhere. It holds the texts if the recording does. Of a long
    recording it holds the last calls, and says how many it left out.
    """
    with warnings_on_stderr():  # of a line that a killed writer left
        page = trace_page(record.to_dict() for record in read(file))
    try:
        out.write_text(page, encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot write {out}: {error.strerror or error}") from error
    click.echo(f"{out}: written")
