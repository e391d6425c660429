"""What makes two readings the same data."""

from __future__ import annotations

import json
from collections.abc import Sequence
from hashlib import sha256
from typing import Any

from rag_rerank.evaluation.judged import JudgedQuery
from rag_rerank.records.record import digest

__all__ = ["fingerprint"]


def fingerprint(queries: Sequence[JudgedQuery], relevant: int) -> str:
    """Return the SHA-256 over all that decides a figure, in hexadecimal.

    Ids and texts of queries and candidates, the candidates' order, all grades, the threshold of relevance, and the
    metadata that make the slices. The order of the queries, of judgments and of keys means nothing; nor do the first
    stage's scores, beyond the order they gave.
    """
    whole = sha256(_plain(["rag_rerank.judged/1", relevant]))
    for query in sorted(queries, key=lambda query: query.id):
        candidates = [[c.id, digest(c.text), dict(c.metadata)] for c in query.candidates]
        whole.update(_plain([query.id, query.text, candidates, dict(query.grades), dict(query.metadata)]))
    return whole.hexdigest()


def _plain(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=str).encode("ascii") + b"\n"
