"""Rerankers under evaluation, each with a name of its own."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from rag_rerank.base import Reranker
from rag_rerank.config import Spec, build
from rag_rerank.errors import InputError
from rag_rerank.evaluation.report import FIRST_STAGE

__all__ = ["Configs", "named"]

Configs = Mapping[str, Spec] | Sequence[Spec]
"""What to evaluate: configs by the names that reports call them, or configs alone."""


def named(configs: Configs) -> dict[str, Reranker]:
    """Return the rerankers by name; nothing is loaded yet.

    Without names, a config file is called by its stem and another string by itself, a node or a reranker by its label;
    where two would have the same name, the later one gets a number.

    Raises:
        ConfigError: A config is wrong.
        InputError: There is no config, or a name is empty or the first stage's.
    """
    if isinstance(configs, (str, os.PathLike, Reranker)):
        raise InputError("configs is a sequence of configs, or a mapping from names to configs")
    if isinstance(configs, Mapping):
        found = {name: build(spec) for name, spec in configs.items()}
    else:
        found = {}
        for spec in configs:
            reranker = build(spec)
            wanted = name = _name(spec, reranker)
            number = 1
            while name in found or name == FIRST_STAGE:
                number += 1
                name = f"{wanted} ({number})"
            found[name] = reranker
    if not found:
        raise InputError("there is no config to evaluate")
    for name in found:
        if not name or name == FIRST_STAGE:
            raise InputError(f"a config cannot be called {name!r}; give it another name")
    return found


def _name(spec: Spec, reranker: Reranker) -> str:
    if isinstance(spec, str) and not spec.endswith((".yaml", ".yml", ".json")):
        return spec
    return Path(spec).stem if isinstance(spec, (str, os.PathLike)) else reranker.label
