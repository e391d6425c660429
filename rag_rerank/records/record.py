"""One call as a record: the query, what every step said of every candidate, and its JSON Schema."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rag_rerank.trace import Coverage, StepScore, Trace, Usage
from rag_rerank.types import present

__all__ = ["BELOW_TOP_K", "SCHEMA", "Entry", "Record", "digest", "schema"]

SCHEMA = "rag_rerank.record/1"
"""Name and version of the layout, down to its keys. A reader refuses other versions."""

BELOW_TOP_K = "below top_k"
"""Why a ranked candidate was not returned."""


def digest(text: str) -> str:
    """Return the SHA-256 of a text in hexadecimal, lone surrogates included as they are."""
    from hashlib import sha256

    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One candidate of a recorded call.

    Args:
        id: Its id.
        sha256: SHA-256 of its text, in hexadecimal.
        text: The text, where it was asked to be recorded.
        metadata: The caller's metadata, where texts were asked to be recorded; only what is plain JSON.
        first_rank: Its place among the candidates as they came, from 1.
        first_score: The first stage's score, if any.
        rank: Its place in the ranking; ``None`` where the call failed.
        score: The number people use, on the record's ``scale``.
        raw_score: The number that was ranked by.
        coverage: How much of it was read.
        window: Where in the text the score comes from, ``(start, end)`` in characters.
        dropped: Why it was not returned, or stands without a score; ``None`` for a scored hit that was returned.
        visits: Its way through the steps, in the order they ran.
    """

    id: str
    sha256: str
    text: str | None = None
    metadata: Mapping[str, Any] | None = None
    first_rank: int
    first_score: float | None = None
    rank: int | None = None
    score: float | None = None
    raw_score: float | None = None
    coverage: Coverage | None = None
    window: tuple[int, int] | None = None
    dropped: str | None = None
    visits: tuple[StepScore, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON-ready values."""
        return {
            "id": self.id,
            "sha256": self.sha256,
            "text": self.text,
            "metadata": None if self.metadata is None else dict(self.metadata),
            "first_rank": self.first_rank,
            "first_score": self.first_score,
            "rank": self.rank,
            "score": self.score,
            "raw_score": self.raw_score,
            "coverage": None if self.coverage is None else self.coverage.to_dict(),
            "window": None if self.window is None else list(self.window),
            "dropped": self.dropped,
            "visits": [_visit(visit) for visit in self.visits],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Entry:
        """Rebuild what `to_dict` gave."""
        coverage, window = data["coverage"], data["window"]
        return cls(
            **{
                **data,
                "coverage": None if coverage is None else Coverage.from_dict(coverage),
                "window": None if window is None else tuple(window),
                "visits": tuple(_visited(visit) for visit in data["visits"]),
            }
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """One call of a reranker.

    Args:
        id: Unique, given when the call began.
        time: When it began, ISO 8601 in UTC.
        version: Version of this package.
        reranker: Label of who was asked.
        query: The query, where texts were asked to be recorded.
        query_sha256: SHA-256 of the query, in hexadecimal.
        tags: What the user said of the call; see `rag_rerank.tagged`.
        top_k: How many hits were asked for; ``None`` for all.
        scale: What ``score`` means in the entries; ``None`` where the call failed.
        seconds: Wall time of the call.
        usage: What it cost.
        degraded: Why it is not quite what was asked.
        substituted: Whether the scores are another reranker's.
        error: Why it failed, class and message; ``None`` where it did not.
        candidates: One entry a candidate: hits in their order, or as they came where the call failed.
        trace: The steps, without what the entries say of each candidate; steps that met windows stay whole.
    """

    id: str
    time: str
    version: str
    reranker: str
    query: str | None = None
    query_sha256: str
    tags: Mapping[str, Any] = field(default_factory=dict)
    top_k: int | None = None
    scale: str | None = None
    seconds: float
    usage: Usage
    degraded: tuple[str, ...] = ()
    substituted: bool = False
    error: str | None = None
    candidates: tuple[Entry, ...] = ()
    trace: Trace

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON-ready values; the first key tells the layout."""
        return {
            "schema": SCHEMA,
            "id": self.id,
            "time": self.time,
            "version": self.version,
            "reranker": self.reranker,
            "query": self.query,
            "query_sha256": self.query_sha256,
            "tags": dict(self.tags),
            "top_k": self.top_k,
            "scale": self.scale,
            "seconds": self.seconds,
            "usage": self.usage.to_dict(),
            "degraded": list(self.degraded),
            "substituted": self.substituted,
            "error": self.error,
            "candidates": [entry.to_dict() for entry in self.candidates],
            "trace": self.trace.to_dict(),
        }

    def to_line(self) -> bytes:
        """Return the line of a file that holds it, with its end."""
        import json

        return json.dumps(self.to_dict(), allow_nan=False).encode() + b"\n"

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Record:
        """Rebuild what `to_dict` gave; ``schema`` is for the reader to look at."""
        values = {key: value for key, value in data.items() if key != "schema"}
        return cls(
            **{
                **values,
                "usage": Usage.from_dict(data["usage"]),
                "degraded": tuple(data["degraded"]),
                "candidates": tuple(Entry.from_dict(entry) for entry in data["candidates"]),
                "trace": Trace.from_dict(data["trace"]),
            }
        )


def _visit(visit: StepScore) -> dict[str, Any]:
    raw, scale = visit.raw_score, visit.scale
    return {
        "step": visit.step,
        "rank": visit.rank,
        "score": None if raw is None or scale is None else present(raw, scale),  # type: ignore[arg-type]
        "raw_score": raw,
        "scale": scale,
        "unscored": visit.unscored,
        "coverage": None if visit.coverage is None else visit.coverage.to_dict(),
        "cached": visit.cached,
    }


def _visited(data: Mapping[str, Any]) -> StepScore:
    coverage = data["coverage"]
    return StepScore(
        step=data["step"],
        rank=data["rank"],
        raw_score=data["raw_score"],
        unscored=data["unscored"],
        scale=data["scale"],
        coverage=None if coverage is None else Coverage.from_dict(coverage),
        cached=data["cached"],
    )


def schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of one line of a file of records, for checks in other languages."""
    found: dict[str, Any] = json.loads(Path(__file__).with_name("schema.json").read_text(encoding="utf-8"))
    return found
