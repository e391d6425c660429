"""The command line, ``rag-rerank``: rank, evaluate, calibrate, probe, train, show records, manage models and configs.

Results go to stdout; warnings, traces and errors go to stderr. An error of the library prints one line, with a link to
the page that says more below it, and exits with code 2, as does a wrong option; Ctrl-C exits with code 130.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import sys
import warnings
from collections.abc import Iterator
from typing import IO, Any

import click

from rag_rerank._version import __version__
from rag_rerank.cli.options import CommandGroup
from rag_rerank.cli.output import example
from rag_rerank.errors import RerankError, RerankWarning

__all__ = ["app", "main"]

_GROUPS = {
    "Use a reranker": {
        "rank": "rank:rank",
        "batch": "batch:batch",
        "serve": "serving.serve:serve",
        "mcp": "serving.mcp:mcp",
        "index": "late_interaction:index",
        "config": "config:config",
    },
    "Measure": {
        "eval": "evaluate:evaluate_configs",
        "calibrate": "calibrate:calibrate",
        "probe": "probe:probe",
        "tune": "diagnostics.tune:tune",
    },
    "See what happened": {
        "trace": "trace:trace",
        "explain": "late_interaction:explain",
        "doctor": "diagnostics.doctor:doctor",
    },
    "Manage models": {
        "models": "models.listing:models",
        "pull": "models.files:pull",
        "verify": "models.verify:verify",
        "export": "models.files:export",
    },
    "Train a model": {"train": "training.train:train", "distil": "training.distil:distil", "ltr": "training.ltr:ltr"},
}
"""Heading -> names of its commands, each with its ``"module:function"`` in this package, imported on first use."""

_COMMANDS = {name: target for commands in _GROUPS.values() for name, target in commands.items()}


_START = "rank -r embedded -q 'Who voices Po?' passages.jsonl"
"""The first command that a new user can run."""


class _Failure(click.ClickException):
    """An error of the library, printed as one line, and below it the page that says more."""

    exit_code = 2

    def __init__(self, error: RerankError) -> None:
        super().__init__(" ".join(str(error).split()))
        self.url = error.url

    def show(self, file: IO[Any] | None = None) -> None:
        super().show(file)
        if self.url:
            click.echo(f"More: {self.url}", file=file, err=file is None)


class _App(CommandGroup):
    """A group that turns the library's errors and Ctrl-C into exit codes, and warnings into lines on stderr."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, _, function = _COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(importlib.import_module(f"{__name__}.{module}"), function)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        width = max(map(len, _COMMANDS))
        for heading, names in _GROUPS.items():
            with formatter.section(heading):
                commands = ((name, self.get_command(ctx, name)) for name in names)
                rows = [(name.ljust(width), command.get_short_help_str(70)) for name, command in commands if command]
                formatter.write_dl(rows)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            with _warnings_as_lines():
                return super().invoke(ctx)
        except RerankError as error:
            raise _Failure(error) from error
        except KeyboardInterrupt:
            ctx.exit(130)


@contextlib.contextmanager
def _warnings_as_lines() -> Iterator[None]:
    """Print each warning of the library once, as one line."""
    printed = set()

    def print_once(message: Warning | str, *_: Any) -> None:
        if str(message) not in printed:
            printed.add(str(message))
            click.echo(f"Warning: {message}", err=True)

    with warnings.catch_warnings():
        warnings.simplefilter("always", RerankWarning)
        warnings.showwarning = print_once  # type: ignore[assignment]
        yield


@click.group(
    cls=_App,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=f"{example(_START)}\n\nrag-rerank COMMAND --help explains a command and shows how to call it.",
)
@click.version_option(__version__, prog_name="rag-rerank")
def app() -> None:
    """Rerank texts: order them by their relevance to a query, with local models or rerank APIs."""


def main() -> None:
    """Run the command line; characters that the terminal cannot encode are printed as ``?``."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, io.UnsupportedOperation):
            stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    app(prog_name="rag-rerank")
