"""Options that several commands share, functions for their values, and the group that holds commands."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from functools import wraps
from pathlib import Path
from types import MappingProxyType
from typing import Any, get_args

import click
from click.core import ParameterSource

from rag_rerank.cli.candidates import Format
from rag_rerank.cli.output import one_line
from rag_rerank.compose import Unjudged
from rag_rerank.errors import did_you_mean
from rag_rerank.training.settings import Loss, Precision, TrainingSettings

__all__ = [
    "COUNT",
    "PATH",
    "RERANKER",
    "CommandGroup",
    "command_line",
    "depth_option",
    "format_option",
    "grade_option",
    "instruction_option",
    "json_option",
    "max_queries_option",
    "optional_reranker_option",
    "print_note",
    "qrels_option",
    "reranker_argument",
    "reranker_option",
    "rerankers_option",
    "resume_hint",
    "resume_option",
    "run_option",
    "texts_options",
    "training_options",
    "training_settings",
    "unjudged_option",
    "workers_option",
]

_RERANKER = ("-r", "--reranker", "-c", "--config")
"""How every command takes a reranker: by name or by config file, which are interchangeable."""

RERANKER = "RERANKER"
"""Metavar of a value that names a reranker."""

_NAMES = "a name (embedded, minilm, org/model, ./folder, cohere:rerank-v3.5) or a config file (.yaml, .yml, .json)"

COUNT = click.IntRange(min=1)
"""A whole number from 1."""

PATH = click.Path(path_type=Path)
"""A path that a command writes to."""


class CommandGroup(click.Group):
    """A group of commands that suggests the nearest name for a misspelt one."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command for the first word.

        Raises:
            click.UsageError: There is no such command.
        """
        if self.get_command(ctx, args[0]) is None and not args[0].startswith("-"):
            ctx.fail(f"no command {args[0]!r}{did_you_mean(args[0], self.list_commands(ctx))}")
        return super().resolve_command(ctx, args)


reranker_option = click.option(*_RERANKER, "spec", required=True, metavar=RERANKER, help=f"The reranker: {_NAMES}.")
"""The reranker; the command gets it as ``spec``."""


def optional_reranker_option(default: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return the option for a command that has a reranker of its own; the command gets it as ``spec``."""
    return click.option(
        *_RERANKER, "spec", default=default, show_default=True, metavar=RERANKER, help=f"The reranker: {_NAMES}."
    )


rerankers_option = click.option(
    *_RERANKER,
    "specs",
    required=True,
    multiple=True,
    metavar=RERANKER,
    help=f"The reranker: {_NAMES}. Repeat the option to compare several.",
)
"""One reranker or several; the command gets them as ``specs``."""

run_option = click.option(
    "--run", metavar="FILE", help="Take the candidates from this TREC run file. Only for a folder or ir_datasets:NAME."
)
"""The ranking of the first stage; the command gets it as ``run``."""

qrels_option = click.option(
    "--qrels", metavar="FILE", help="Take the judgments from this qrels file (TREC or BEIR), not from SOURCE."
)
"""The judgments; the command gets them as ``qrels``."""

depth_option = click.option(
    "--depth",
    type=COUNT,
    metavar="N",
    default=100,
    show_default=True,
    help="Use at most N candidates for each query: the best of the first stage.",
)
"""How many candidates of a query are read; the command gets it as ``depth``."""

max_queries_option = click.option(
    "--max-queries",
    "queries",
    type=COUNT,
    metavar="N",
    show_default="all",
    help="Use only the first N judged queries of each SOURCE.",
)
"""How many queries are read; the command gets it as ``queries``."""

grade_option = click.option(
    "--relevant",
    type=COUNT,
    default=1,
    show_default=True,
    metavar="GRADE",
    help="Lowest grade that counts as relevant.",
)
"""The smallest grade of a relevant document; the command gets it as ``relevant``."""

unjudged_option = click.option(
    "--unjudged",
    type=click.Choice(get_args(Unjudged)),
    default="left out",
    show_default=True,
    help="For calibration: leave candidates without a judgment out, or count them as not relevant.",
)
"""How candidates without a judgment are treated; the command gets it as ``unjudged``."""

instruction_option = click.option(
    "--instruction",
    metavar="TEXT",
    show_default="the one of the config",
    help="What relevance means here, in words, for a reranker that follows instructions.",
)
"""What relevance means for a call; the command gets it as ``instruction``."""

workers_option = click.option(
    "--workers",
    type=COUNT,
    metavar="N",
    default=1,
    show_default=True,
    help="Run N queries at the same time. More than 1 helps only with providers.",
)
"""How many queries run at the same time; the command gets it as ``workers``."""

resume_option = click.option(
    "--resume/--no-resume",
    default=True,
    show_default=True,
    help="Continue an interrupted training from its checkpoints, or start again.",
)
"""Whether to continue from checkpoints; the command gets it as ``resume``."""

format_option = click.option(
    "--format",
    "layout",
    type=click.Choice(get_args(Format)),
    default="auto",
    show_default=True,
    help="Format of FILE: a JSON array, JSON lines, or one text per line. auto decides by the content.",
)
"""How candidates stand in a file; the command gets it as ``layout``."""

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")
"""Whether to print JSON; the command gets it as ``as_json``."""

_TEXTS = (
    click.option(
        "--texts",
        metavar="FILE|-",
        show_default="texts of the package",
        help="Use your own texts, from a file as for `rank`. Needs --query.",
    ),
    click.option("-q", "--query", metavar="TEXT", help="The query for --texts."),
)


def texts_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the texts that it measures on, which it gets as ``texts`` and ``query``."""
    for option in reversed(_TEXTS):
        command = option(command)
    return command


def reranker_argument(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command a reranker, which it gets as ``spec``: as an argument, or by the option of all commands."""

    @wraps(command)
    def with_reranker(*args: Any, argument: str | None, option: str | None, **values: Any) -> None:
        if (argument is None) == (option is None):
            raise click.UsageError("name one reranker: as the argument, or with -r")
        command(*args, spec=argument or option, **values)

    help_text = f"The reranker, if it is not the argument: {_NAMES}."
    with_option = click.option(*_RERANKER, "option", metavar=RERANKER, help=help_text)(with_reranker)
    return click.argument("argument", metavar=f"[{RERANKER}]", required=False)(with_option)


_TRAINING_HELP: dict[str, tuple[Any, str | None, str]] = {
    "loss": (
        click.Choice(get_args(Loss)),
        None,
        "Loss to minimise. bce and lambda learn from grades, margin-mse from a teacher, the others from either.",
    ),
    "epochs": (float, "N", "Use each query N times; 2.5 ends in the middle of the third pass."),
    "batch": (int, "N", "Queries in one training step."),
    "learning_rate": (float, "RATE", "Highest learning rate of AdamW."),
    "warmup": (float, "SHARE", "Share of the steps, from 0 to 1, in which the learning rate rises from 0."),
    "weight_decay": (float, "RATE", "Weight decay of AdamW, applied to matrices only."),
    "max_length": (int, "TOKENS", "Maximum length of query and passage together, in tokens."),
    "passages": (int, "N", "Maximum number of passages for each query in one step."),
    "evaluate_every": (int, "STEPS", "Validate after every STEPS steps."),
    "patience": (int, "N", "Stop after N validations in a row without a better result; 0 never stops early."),
    "checkpoint_every": (int, "STEPS", "Store a checkpoint after every STEPS steps."),
    "seed": (int, "N", "Random seed. On a CPU, the same seed and data give the same model."),
    "freeze": (int, "LAYERS", "Keep the embeddings and the lowest LAYERS layers as they are; 0 trains everything."),
    "device": (str, "NAME", "Device to train on: auto, cpu, cuda, mps."),
    "precision": (click.Choice(get_args(Precision)), None, "Number format; bf16 is faster on GPUs that support it."),
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
