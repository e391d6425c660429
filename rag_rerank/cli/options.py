"""Options that several commands share, and functions for their values."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from functools import wraps
from types import MappingProxyType
from typing import Any, get_args

import click
from click.core import ParameterSource

from rag_rerank.cli.output import one_line
from rag_rerank.compose import Unjudged
from rag_rerank.training.settings import Loss, Precision, TrainingSettings

__all__ = [
    "command_line",
    "depth_option",
    "grade_option",
    "print_note",
    "reranker_argument",
    "reranker_option",
    "rerankers_option",
    "resume_hint",
    "resume_option",
    "training_options",
    "training_settings",
    "unjudged_option",
]

_RERANKER = ("-r", "--reranker", "-c", "--config")
"""How every command takes a reranker: by name or by config file, which are interchangeable."""

_METAVAR = "NAME|FILE"
_NAMES = "a name (minilm, org/name, ./folder, cohere:rerank-v3.5) or a config file"

reranker_option = click.option(*_RERANKER, "spec", required=True, metavar=_METAVAR, help=f"The reranker: {_NAMES}.")
"""The reranker; the command gets it as ``spec``."""

rerankers_option = click.option(
    *_RERANKER,
    "specs",
    required=True,
    multiple=True,
    metavar=_METAVAR,
    help=f"The reranker: {_NAMES}; repeatable.",
)
"""One reranker or several; the command gets them as ``specs``."""

depth_option = click.option(
    "--depth",
    type=click.IntRange(min=1),
    default=100,
    show_default=True,
    help="Maximum number of candidates per query.",
)
"""How many candidates of a query are read; the command gets it as ``depth``."""

grade_option = click.option(
    "--relevant",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    metavar="GRADE",
    help="Smallest grade at which a document counts as relevant.",
)
"""The smallest grade of a relevant document; the command gets it as ``relevant``."""

unjudged_option = click.option(
    "--unjudged",
    type=click.Choice(get_args(Unjudged)),
    default="left out",
    show_default=True,
    help="How the calibration map treats candidates without a judgment.",
)
"""How candidates without a judgment are treated; the command gets it as ``unjudged``."""

resume_option = click.option(
    "--resume/--no-resume", default=True, show_default=True, help="Continue from existing checkpoints, or start again."
)
"""Whether to continue from checkpoints; the command gets it as ``resume``."""


def reranker_argument(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command a reranker, which it gets as ``spec``: as an argument, or by the option of all commands."""

    @wraps(command)
    def with_reranker(*args: Any, argument: str | None, option: str | None, **values: Any) -> None:
        if (argument is None) == (option is None):
            raise click.UsageError("name one reranker: as the argument, or with -r")
        command(*args, spec=argument or option, **values)

    help_text = f"The reranker, instead of the argument: {_NAMES}."
    with_option = click.option(*_RERANKER, "option", metavar=_METAVAR, help=help_text)(with_reranker)
    return click.argument("argument", metavar=_METAVAR, required=False)(with_option)


_TRAINING_HELP: dict[str, tuple[Any, str | None, str]] = {
    "loss": (click.Choice(get_args(Loss)), None, "The loss that training minimises."),
    "epochs": (float, "N", "Passes over the queries; may be a fraction."),
    "batch": (int, "N", "Queries in one step."),
    "learning_rate": (float, "RATE", "Peak learning rate."),
    "warmup": (float, "SHARE", "Share of the steps in which the learning rate rises."),
    "weight_decay": (float, "RATE", "Weight decay of AdamW, on matrices only."),
    "max_length": (int, "TOKENS", "Longest input of the model: query and passage together."),
    "passages": (int, "N", "Maximum number of passages per query in one step."),
    "evaluate_every": (int, "STEPS", "Steps between two validations."),
    "patience": (int, "N", "Stop after this many validations without a better one; 0: never stop early."),
    "checkpoint_every": (int, "STEPS", "Steps between two checkpoints."),
    "seed": (int, "N", "Random seed of splitting, mining, order, dropout and a new head."),
    "freeze": (int, "LAYERS", "Do not train this many of the lowest layers, nor the embeddings; 0: train all."),
    "device": (str, "NAME", "Where to train: auto, cpu, cuda."),
    "precision": (click.Choice(get_args(Precision)), None, "bf16 is faster on GPUs that support it."),
}
"""Type, metavar and help of each field of `TrainingSettings`."""

_WITHOUT_EFFECT = ("resume", "as_json", "yes")
"""Options that change nothing in the result."""


def training_options(
    command: Callable[..., None], computed_defaults: Mapping[str, str] = MappingProxyType({})
) -> Callable[..., None]:
    """Give a command an option for each field of `TrainingSettings`, in their order.

    Args:
        command: The command.
        computed_defaults: Fields whose default the command computes, with the help text for it. The command gets
            ``None`` for them unless the user gives a value.
    """
    for field in reversed(fields(TrainingSettings)):
        value_type, metavar, text = _TRAINING_HELP[field.name]
        command = click.option(
            f"--{field.name.replace('_', '-')}",
            type=value_type,
            metavar=metavar,
            default=None if field.name in computed_defaults else field.default,
            show_default=computed_defaults.get(field.name, True),
            help=text,
        )(command)
    return command


def training_settings(options: Mapping[str, Any]) -> TrainingSettings:
    """Return the settings for the values of `training_options`; a patience of 0 becomes ``None``."""
    return TrainingSettings(**{**options, "patience": options["patience"] or None})


def command_line(ctx: click.Context) -> tuple[str, ...]:
    """Return the words of a command, arguments first, without options that change nothing in the result."""
    arguments, options = list[str](), list[str]()
    for parameter in ctx.command.params:
        name, value = parameter.name or "", ctx.params.get(parameter.name or "")
        if ctx.get_parameter_source(name) != ParameterSource.COMMANDLINE or name in _WITHOUT_EFFECT:
            continue
        for item in value if isinstance(value, tuple) else (value,):
            if isinstance(parameter, click.Argument):
                arguments.append(str(item))
            else:
                options += [parameter.opts[0]] if item is True else [parameter.opts[0], str(item)]
    return ("rag-rerank", str(ctx.command.name), *arguments, *options)


@contextmanager
def resume_hint(out: object) -> Iterator[None]:
    """Print after Ctrl-C how to continue."""
    try:
        yield
    except KeyboardInterrupt:
        click.echo(f"\nstopped; run the same command again to continue from what is stored beside {out}", err=True)
        raise


def print_note(text: str) -> None:
    """Print a note for the user on stderr."""
    click.echo(f"Note: {one_line(text)}", err=True)
