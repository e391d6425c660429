"""One hash of all that decides a score besides the query and the text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from typing import TYPE_CHECKING, Any

from rag_rerank.errors import ConfigError

if TYPE_CHECKING:
    from rag_rerank.base import PointwiseReranker

__all__ = ["fingerprint"]


def fingerprint(reranker: PointwiseReranker, facts: Mapping[str, Any]) -> str:
    """Return the SHA-256 of the facts, the class, the scale and this package's version, in hexadecimal.

    The version is part of it because a release may read texts differently, or score them better.

    Raises:
        ConfigError: A fact is no plain value.
    """
    from hashlib import sha256

    from rag_rerank import __version__

    kind = type(reranker)
    whole = {
        "class": f"{kind.__module__}.{kind.__qualname__}",
        "version": __version__,
        "scale": reranker.scale,
        "facts": dict(facts),
    }
    try:
        text = json.dumps(whole, sort_keys=True, default=_plain)
    except TypeError as error:
        raise ConfigError(f"{reranker.label} cannot be cached: {error}") from error
    return sha256(text.encode()).hexdigest()


def _plain(value: object) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    raise TypeError(f"a fingerprint is made of plain values, and {type(value).__name__} is none")
