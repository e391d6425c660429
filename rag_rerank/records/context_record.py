"""The record of a context: which candidates of a recorded call went to the LLM, and why the others did not."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from rag_rerank._version import __version__
from rag_rerank.context.result import Context
from rag_rerank.text.short_repr import short_repr

__all__ = ["CONTEXT_SCHEMA", "ContextRecord", "context_record_of"]

CONTEXT_SCHEMA = "rag_rerank.context/1"
"""Name and version of the layout of a line. It is no part of the record's: a context is packed after its call."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ContextRecord:
    """One context that was packed from the ranking of a recorded call.

    Args:
        call: Id of the call's record.
        time: The time of the packing, ISO 8601 in UTC.
        version: Version of this package.
        tokens: Tokens of the context; ``None`` where nothing was counted.
        tokens_before: Tokens of all hits that were packed.
        tokens_estimated: Whether both are estimates.
        notes: The notes of the context.
        pieces: The pieces in the order of reading: ``ids`` of the hits in it, ``tokens``, ``trimmed`` (the characters
            that are left, ``None`` for all), ``parts`` (the parts of them that are left, where something between them
            is not) and ``text`` (``None`` where texts are not recorded).
        dropped: The other hits that were packed: ``id``, ``rank``, ``reason``, ``detail`` and ``duplicate_of``.
    """

    call: str
    time: str
    version: str
    tokens: int | None = None
    tokens_before: int | None = None
    tokens_estimated: bool = False
    notes: tuple[str, ...] = ()
    pieces: tuple[Mapping[str, Any], ...] = ()
    dropped: tuple[Mapping[str, Any], ...] = ()

    __repr__ = short_repr

    def outcome(self, id: str) -> str | None:
        """Say in words what became of a candidate; ``None`` if it is not among the hits that were packed."""
        for place, piece in enumerate(self.pieces, start=1):
            if id in piece["ids"]:
                others = [other for other in piece["ids"] if other != id]
                trimmed = piece["trimmed"]
                return (
                    f"piece {place} of {len(self.pieces)}"
                    + (f", merged with {', '.join(others)}" if others else "")
                    + (f", trimmed to characters {_places(piece['parts'] or [trimmed])}" if trimmed is not None else "")
                )
        for drop in self.dropped:
            if drop["id"] == id:
                return f"dropped by {drop['reason']}: {drop['detail']}"
        return None

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON-ready values; the first key names the layout."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        lists = {"notes": list(self.notes), "pieces": list(self.pieces), "dropped": list(self.dropped)}
        return {"schema": CONTEXT_SCHEMA, **values, **lists}

    def to_line(self) -> bytes:
        """Return the record as a line of a file, with its line feed."""
        return json.dumps(self.to_dict(), allow_nan=False).encode() + b"\n"

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ContextRecord:
        """Rebuild a record from `to_dict`; ``schema`` is not checked here."""
        values = {key: value for key, value in data.items() if key != "schema"}
        pieces = tuple({"text": p["text"], "ids": list(p["ids"]), **_rest(p)} for p in data["pieces"])
        dropped = tuple({key: d[key] for key in _DROPPED_KEYS} for d in data["dropped"])
        return cls(**{**values, "notes": tuple(data["notes"]), "pieces": pieces, "dropped": dropped})


_DROPPED_KEYS = ("id", "rank", "reason", "detail", "duplicate_of")


def _rest(piece: Mapping[str, Any]) -> dict[str, Any]:
    return {"tokens": piece["tokens"], "trimmed": piece["trimmed"], "parts": list(piece.get("parts", ()))}


def _places(parts: Iterable[Sequence[int]]) -> str:
    return ", ".join(f"{first} to {end}" for first, end in parts)


def context_record_of(context: Context, *, call: str, time: str, texts: bool = False) -> ContextRecord:
    """Return the record of a context.

    Args:
        context: The context.
        call: Id of the record of the call whose ranking was packed.
        time: The time, ISO 8601 in UTC.
        texts: Whether the record has the texts of the pieces.
    """
    pieces = (piece.to_dict() for piece in context.pieces)
    return ContextRecord(
        call=call,
        time=time,
        version=__version__,
        tokens=context.tokens,
        tokens_before=context.tokens_before,
        tokens_estimated=context.tokens_estimated,
        notes=context.notes,
        pieces=tuple(piece if texts else {**piece, "text": None} for piece in pieces),
        dropped=tuple(drop.to_dict() for drop in context.dropped),
    )
