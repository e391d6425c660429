"""Commands that are given again: as they were given, for model cards, and to go on where they stopped."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import click
from click.core import ParameterSource

from rag_rerank.cli.table import line

__all__ = ["as_given", "note", "resume_option", "stoppable"]

resume_option = click.option(
    "--resume/--no-resume", default=True, show_default=True, help="Go on from checkpoints that are there."
)
"""Whether to go on; the command gets it as ``resume``."""

_IDLE = ("resume", "as_json", "yes")
"""Options that change nothing of what comes out."""


def as_given(ctx: click.Context) -> tuple[str, ...]:
    """Return a command's words, arguments first, without those that change nothing of what comes out."""
    arguments, options = list[str](), list[str]()
    for parameter in ctx.command.params:
        name, value = parameter.name or "", ctx.params.get(parameter.name or "")
        if ctx.get_parameter_source(name) != ParameterSource.COMMANDLINE or name in _IDLE:
            continue
        for one in value if isinstance(value, tuple) else (value,):
            if isinstance(parameter, click.Argument):
                arguments.append(str(one))
            else:
                options += [parameter.opts[0]] if one is True else [parameter.opts[0], str(one)]
    return ("rag-rerank", str(ctx.command.name), *arguments, *options)


@contextmanager
def stoppable(out: object) -> Iterator[None]:
    """Say after Ctrl-C how to go on."""
    try:
        yield
    except KeyboardInterrupt:
        click.echo(f"\nstopped; the same command goes on where it was, from what is kept beside {out}", err=True)
        raise


def note(words: str) -> None:
    """Say on stderr what the user should know."""
    click.echo(f"Note: {line(words)}", err=True)
