"""The identity of a reranker: one hash of everything that decides a score besides the query and the text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from rag_rerank.types import Scale

__all__ = ["identity_hash", "plain_facts"]


def identity_hash(kind: type, scale: Scale, facts: Mapping[str, Any], *, version: str | None = None) -> str:
    """Return the SHA-256 of the facts with the class and the scale, in hexadecimal.

    Args:
        kind: The class of the reranker.
        scale: The scale of its scores.
        facts: Plain JSON values.
        version: A release of this package, if the hash must change with it: a release may read texts differently.

    Raises:
        TypeError: A fact is not a plain value.
    """
    from hashlib import sha256  # loads OpenSSL, which ranking does not need

    whole = {"class": f"{kind.__module__}.{kind.__qualname__}", "scale": scale, "facts": facts}
    if version is not None:
        whole["version"] = version
    return sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()


def plain_facts(value: object, reranker: type) -> Any:
    """Return a fact of an identity in plain JSON values.

    Args:
        value: The fact, or several.
        reranker: The class of rerankers, each of which is replaced by its own identity.

    Raises:
        TypeError: Something is not a plain value.
    """
    if value is None or isinstance(value, (str, int, float)):
        return value
    if isinstance(value, reranker):
        return value.identity  # type: ignore[attr-defined]
    if isinstance(value, Mapping):
        return {key: plain_facts(item, reranker) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain_facts(item, reranker) for item in value]
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain_facts(getattr(value, f.name), reranker) for f in fields(value)}
    raise TypeError(f"an identity consists of plain values, and {type(value).__name__} is not one")
