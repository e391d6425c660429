"""What the commands have in common that read judged queries."""

from __future__ import annotations

import click

__all__ = ["grade_option"]

grade_option = click.option(
    "--relevant",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    metavar="GRADE",
    help="Grade from which on a document is relevant.",
)
"""From which grade on a document is relevant; the command gets it as ``relevant``."""
