"""The commands of ``rag-rerank`` by name, and the examples in their help."""

import re
import shlex
from collections.abc import Iterator

import click

from rag_rerank.cli import app

_CONTEXT = click.Context(app)
COMMANDS = {name: command for name in app.list_commands(_CONTEXT) if (command := app.get_command(_CONTEXT, name))}
"""The commands of ``rag-rerank`` by name."""


def leaves(name: str) -> Iterator[tuple[str, click.Command]]:
    """Yield a command, or the commands of a group, with the words that call it."""
    command = COMMANDS[name]
    if isinstance(command, click.Group):
        yield from ((f"{name} {inner}", child) for inner, child in command.commands.items())
    else:
        yield name, command


def examples(command: click.Command) -> list[list[str]]:
    """Return the words of each example in a command's help, without what follows a ``>``."""
    lines = re.sub(r"\\\n\s*", "", command.epilog or "").splitlines()
    return [shlex.split(line.partition(" > ")[0]) for line in lines if line.startswith("  rag-rerank ")]
