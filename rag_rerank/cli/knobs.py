"""The knobs of a training as options, with the defaults of `Settings`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from types import MappingProxyType
from typing import Any, get_args

import click

from rag_rerank.training.settings import Loss, Precision, Settings

__all__ = ["knobs", "settings_of"]

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
"""Type, metavar and help of each field of `Settings`."""


def knobs(command: Callable[..., None], fitted: Mapping[str, str] = MappingProxyType({})) -> Callable[..., None]:
    """Give a command an option for each field of `Settings`, in their order.

    Args:
        command: The command.
        fitted: Fields whose default the command works out itself, with how; it gets ``None`` where none is given.
    """
    for field in reversed(fields(Settings)):
        kind, metavar, words = _HELP[field.name]
        flag = f"--{field.name.replace('_', '-')}"
        default = None if field.name in fitted else field.default
        shown = fitted.get(field.name, True)
        command = click.option(flag, type=kind, metavar=metavar, default=default, show_default=shown, help=words)(
            command
        )
    return command


def settings_of(given: Mapping[str, Any]) -> Settings:
    """Return the settings that the options say; a patience of 0 is none."""
    return Settings(**{**given, "patience": given["patience"] or None})
