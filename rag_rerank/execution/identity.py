"""One hash of all that decides a score besides the query and the text: of a release, or of whatever release."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any

from rag_rerank.errors import ConfigError

if TYPE_CHECKING:
    from rag_rerank.base import Reranker

__all__ = ["fingerprint", "identity"]


def fingerprint(reranker: Reranker, facts: Mapping[str, Any]) -> str:
    """Return the SHA-256 of the facts, the class, the scale and this package's version, in hexadecimal.

    The version is part of it because a release may read texts differently, or score them better.

    Raises:
        ConfigError: A fact is no plain value.
    """
    from rag_rerank import __version__

    return _hash(reranker, {"facts": dict(facts), "version": __version__})


def identity(reranker: Reranker, facts: Mapping[str, Any]) -> str:
    """Return the SHA-256 of the facts, the class and the scale; rerankers among the facts go in by their own.

    Raises:
        ConfigError: A fact is no plain value.
    """
    return _hash(reranker, {"facts": dict(facts)})


def _hash(reranker: Reranker, whole: Mapping[str, Any]) -> str:
    from hashlib import sha256

    kind = type(reranker)
    named = {"class": f"{kind.__module__}.{kind.__qualname__}", "scale": reranker.scale, **whole}
    try:
        text = json.dumps(named, sort_keys=True, default=_plain)
    except TypeError as error:
        raise ConfigError(f"{reranker.label} cannot be told from others: {error}") from error
    return sha256(text.encode()).hexdigest()


def _plain(value: object) -> Any:
    from rag_rerank.base import Reranker

    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Reranker):
        return value.identity
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: getattr(value, f.name) for f in fields(value)}
    raise TypeError(f"a fingerprint is made of plain values, and {type(value).__name__} is none")
