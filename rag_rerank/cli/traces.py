"""``rag-rerank trace``: look at recorded calls."""

from __future__ import annotations

import click

from rag_rerank.cli.trace_report import report
from rag_rerank.cli.trace_show import show

__all__ = ["trace"]


@click.group(short_help="Look at recorded calls, on the terminal or as a page.")
def trace() -> None:
    """Look at recorded calls: why a text was a candidate, why it got its score, why it stands where it stands."""


for command in (show, report):
    trace.add_command(command)
