"""``rag-rerank trace report``: recorded calls as one page of HTML."""

from __future__ import annotations

from pathlib import Path

import click

from rag_rerank._writing import check_folder, write
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
    from rag_rerank.pages.page import trace_page  # which the other commands do not need

    check_folder(out)
    write(out, trace_page(record.to_dict() for record in read(file)).encode())
    click.echo(f"{out}: written")
