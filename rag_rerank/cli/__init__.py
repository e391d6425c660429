"""The command line, ``rag-rerank``: rank, evaluate, calibrate, probe, train, show records, manage models and configs.

Results go to stdout; warnings, traces and errors go to stderr. An error of the library prints one line and exits with
code 2, as does a wrong option; Ctrl-C exits with code 130.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import click

from rag_rerank._version import __version__
from rag_rerank.errors import CalibrationWarning, RerankError, TruncationWarning

__all__ = ["app", "main"]

_COMMANDS = {
    "calibrate": "calibrate:calibrate",
    "config": "config:config",
    "distil": "distil:distil",
    "eval": "evaluate:evaluate_configs",
    "export": "models:export",
    "index": "index:index",
    "models": "models:models",
    "probe": "probe:probe",
    "pull": "models:pull",
    "rank": "rank:rank",
    "trace": "trace:trace",
    "train": "train:train",
    "tune": "tune:tune",
}
"""Name of a command -> ``"module:function"`` in this package, imported on first use."""


class _Failure(click.ClickException):
    """An error of the library, printed as one line."""

    exit_code = 2


class _App(click.Group):
    """A group that turns the library's errors and Ctrl-C into exit codes, and warnings into lines on stderr."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, _, function = _COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(importlib.import_module(f"{__name__}.{module}"), function)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            with _warnings_as_lines():
                return super().invoke(ctx)
        except RerankError as error:
            raise _Failure(" ".join(str(error).split())) from error
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
        for category in (CalibrationWarning, TruncationWarning):
            warnings.simplefilter("always", category)
        warnings.showwarning = print_once  # type: ignore[assignment]
        yield


@click.group(cls=_App, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="rag-rerank")
def app() -> None:
    """Order candidate texts by their relevance to a query, with local models or rerank APIs."""


def main() -> None:
    """Run the command line; characters that the terminal cannot encode are printed as ``?``."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, io.UnsupportedOperation):
            stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    app(prog_name="rag-rerank")
