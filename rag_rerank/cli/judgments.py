"""What the commands have in common that read judged queries."""

from __future__ import annotations

from typing import get_args

import click

from rag_rerank.compose import Unjudged

__all__ = ["grade_option", "unjudged_option"]

grade_option = click.option(
    "--relevant",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    metavar="GRADE",
    help="Grade from which on a document is relevant.",
)
"""From which grade on a document is relevant; the command gets it as ``relevant``."""

unjudged_option = click.option(
    "--unjudged",
    type=click.Choice(get_args(Unjudged)),
    default="left out",
    show_default=True,
    help="What candidates without a judgment are to the map of scores.",
)
"""What is not judged; the command gets it as ``unjudged``."""
