"""Options and arguments that several commands share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from types import MappingProxyType
from typing import Any, get_args

import click
from click.core import ParameterSource

from rag_rerank.cli.output import one_line
from rag_rerank.compose import Unjudged
from rag_rerank.training.settings import Loss, Precision, TrainingSettings

__all__ = [
    "command_line",
    "grade_option",
    "note",
    "resume_hint",
    "resume_option",
    "settings_of",
    "training_options",
    "unjudged_option",
]

_HELP: dict[str, tuple[Any, str | None, str]] = {
    "loss": (click.Choice(get_args(Loss)), None, "What is made small."),
    "epochs": (float, "N", "How often each query is seen."),
    "batch": (int, "N", "Queries in one step."),
    "learning_rate": (float, "RATE", "Step size at its peak."),
    "warmup": (float, "SHARE", "Share of the steps in which the step size rises."),
    "weight_decay": (float, "RATE", "AdamW's, on matrices."),
    "max_length": (int, "TOKENS", "Window of the model, query and passage together."),
    "passages": (int, "N", "Passages of a query in one step, at most."),
    "evaluate_every": (int, "STEPS", "Steps between two validations."),
    "patience": (int, "N", "Validations without a better one after which it stops; 0: never."),
    "checkpoint_every": (int, "STEPS", "Steps between two checkpoints."),
    "seed": (int, "N", "Of splitting, mining, order, dropout and a new head."),
    "freeze": (int, "LAYERS", "How many of the lowest layers stay as they are, embeddings included."),
    "device": (str, "NAME", "Where to train: auto, cpu, cuda."),
    "precision": (click.Choice(get_args(Precision)), None, "bf16 is faster on GPUs that have it."),
}
"""Type, metavar and help of each field of `TrainingSettings`."""


def training_options(
    command: Callable[..., None], fitted: Mapping[str, str] = MappingProxyType({})
) -> Callable[..., None]:
    """Give a command an option for each field of `TrainingSettings`, in their order.

    Args:
        command: The command.
        fitted: Fields whose default the command works out itself, with how; it gets ``None`` where none is given.
    """
    for field in reversed(fields(TrainingSettings)):
        kind, metavar, words = _HELP[field.name]
        flag = f"--{field.name.replace('_', '-')}"
        default = None if field.name in fitted else field.default
        shown = fitted.get(field.name, True)
        command = click.option(flag, type=kind, metavar=metavar, default=default, show_default=shown, help=words)(
            command
        )
    return command


def settings_of(given: Mapping[str, Any]) -> TrainingSettings:
    """Return the settings that the options say; a patience of 0 is none."""
    return TrainingSettings(**{**given, "patience": given["patience"] or None})


resume_option = click.option(
    "--resume/--no-resume", default=True, show_default=True, help="Go on from checkpoints that are there."
)
"""Whether to go on; the command gets it as ``resume``."""

_IDLE = ("resume", "as_json", "yes")
"""Options that change nothing of what comes out."""


def command_line(ctx: click.Context) -> tuple[str, ...]:
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
def resume_hint(out: object) -> Iterator[None]:
    """Say after Ctrl-C how to go on."""
    try:
        yield
    except KeyboardInterrupt:
        click.echo(f"\nstopped; the same command goes on where it was, from what is kept beside {out}", err=True)
        raise


def note(words: str) -> None:
    """Say on stderr what the user should know."""
    click.echo(f"Note: {one_line(words)}", err=True)


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
