"""The identity of a reranker: one hash of everything that decides a score besides the query and the text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from rag_rerank.types import Scale

__all__ = ["identity_hash"]


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
