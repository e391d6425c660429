"""The command line as it was given, for model cards."""

from __future__ import annotations

import click
from click.core import ParameterSource

__all__ = ["as_given"]

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
