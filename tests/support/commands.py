"""The commands of ``rag-rerank`` by name."""

import click

from rag_rerank.cli import app

_CONTEXT = click.Context(app)
COMMANDS = {name: command for name in app.list_commands(_CONTEXT) if (command := app.get_command(_CONTEXT, name))}
