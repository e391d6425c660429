"""The first bytes of a row: facts about its text, which every kind of vectors keeps beside them."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from rag_rerank.backends.local.readability import Readability
from rag_rerank.trace import Coverage

__all__ = ["HEADER_BYTES", "ROW_VERSION", "RowFacts", "header_bytes", "read_header"]

ROW_VERSION = 1
"""Part of every key: raise it when a row has another layout or other content."""

_HEADER = struct.Struct("<BBHIIIf4x")
"""Version, bytes of the language's code, flags, vectors kept, tokens of the text, tokens read, share of letters read;
24 bytes, so that what follows begins at a multiple of four."""

_READABLE = 1
_LANGUAGE_BYTES = 16
"""Bytes for the code of a language; the longest in use has 9."""

HEADER_BYTES = _HEADER.size + _LANGUAGE_BYTES
"""Bytes of a header."""


@dataclass(frozen=True)
class RowFacts:
    """The facts about a text in its row.

    Args:
        coverage: How much of the text is read.
        readability: How well the model reads it.
        count: How many things of equal size follow: token vectors, numbers, or terms.
    """

    coverage: Coverage
    readability: Readability
    count: int


def header_bytes(facts: RowFacts) -> bytes:
    """Return the header of a row."""
    share, language, readable = facts.readability
    code = (language or "").encode()[:_LANGUAGE_BYTES]
    header = _HEADER.pack(
        ROW_VERSION,
        len(code),
        _READABLE if readable else 0,
        facts.count,
        facts.coverage.total,
        facts.coverage.seen,
        share,
    )
    return header + code.ljust(_LANGUAGE_BYTES, b"\0")


def read_header(row: bytes | memoryview) -> RowFacts | None:
    """Return what the header of a row says, or ``None`` for bytes that are no row of this version."""
    if len(row) < HEADER_BYTES:
        return None
    version, language_bytes, flags, count, total, length, share = _HEADER.unpack_from(row)
    if version != ROW_VERSION:
        return None
    code = str(row[_HEADER.size : _HEADER.size + language_bytes], "ascii", "replace")
    return RowFacts(Coverage(total, length), Readability(share, code or None, bool(flags & _READABLE)), count)
