"""Importing optional packages on first use."""

from __future__ import annotations

import importlib
from typing import Any

from rag_rerank.errors import MissingExtraError


def need(module: str, *, extra: str) -> Any:
    """Import an optional package.

    Raises:
        MissingExtraError: It is not installed or cannot be imported; the message names the install command.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(
            f'{module} cannot be imported ({error}); install it with: pip install "rag-rerank[{extra}]"'
        ) from error
