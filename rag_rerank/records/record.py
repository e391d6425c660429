"""One call as a record: what was asked, what every step said of every candidate, and what came of it.

A record is what a `Ranking` knows, laid out for reading afterwards: one JSON object a call, one entry a candidate with
its whole way through the steps. `schema.json`, beside this file, is its JSON Schema.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from rag_rerank._run import describe
from rag_rerank._watching import Asked
from rag_rerank.errors import RerankError
from rag_rerank.trace import Coverage, Trace, Usage, Visit
from rag_rerank.types import Candidate, Hit, Ranking, present

__all__ = ["BELOW", "SCHEMA", "Entry", "Record", "digest"]

SCHEMA = "rag_rerank.record/1"
"""Name and version of the layout, down to its keys. A reader refuses other versions."""

BELOW = "below top_k"
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
    visits: tuple[Visit, ...] = ()

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

    @classmethod
    def of(
        cls,
        asked: Asked,
        ranking: Ranking | None,
        error: BaseException | None,
        *,
        id: str,
        time: str,
        seconds: float,
        texts: bool = False,
    ) -> Record:
        """Return the record of a call that ended with a ranking over all its candidates, or with an error."""
        from rag_rerank import __version__

        trace = ranking.trace if ranking else getattr(error, "trace", None) or _untold(asked, error, seconds)
        record = cls(
            id=id,
            time=time,
            version=__version__,
            reranker=asked.reranker.label,
            query=asked.query if texts else None,
            query_sha256=digest(asked.query),
            tags=dict(asked.tags),
            top_k=asked.top_k,
            seconds=seconds,
            usage=trace.usage,
            candidates=tuple(_entries(asked, ranking, trace, texts)),
            trace=_bare(trace, {candidate.id for candidate in asked.candidates}),
        )
        if ranking is None:
            return replace(record, error=_told(error))
        return replace(
            record,
            scale=ranking.scale,
            usage=ranking.usage,
            degraded=ranking.degraded,
            substituted=ranking.substituted,
        )

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


def _entries(asked: Asked, ranking: Ranking | None, trace: Trace, texts: bool) -> Iterator[Entry]:
    places = {candidate.id: i for i, candidate in enumerate(asked.candidates, start=1)}
    paths = trace.paths()

    def entry(candidate: Candidate, **facts: Any) -> Entry:
        return Entry(
            id=candidate.id,
            sha256=digest(candidate.text),
            text=candidate.text if texts else None,
            metadata=_plain(candidate.metadata) if texts else None,
            first_rank=places[candidate.id],
            first_score=candidate.score,
            visits=paths.get(candidate.id, ()),
            **facts,
        )

    if ranking is None:
        yield from map(entry, asked.candidates)
        return
    for hit in ranking:
        yield entry(
            hit.candidate,
            rank=hit.rank,
            score=hit.score,
            raw_score=hit.raw_score,
            coverage=hit.coverage,
            window=hit.window,
            dropped=_dropped(hit, asked.top_k),
        )


def _dropped(hit: Hit, top_k: int | None) -> str | None:
    return hit.unscored or (BELOW if top_k is not None and hit.rank > top_k else None)


def _bare(trace: Trace, told: Collection[str]) -> Trace:
    """Return a trace without what it says of each candidate, which the entries say.

    A step that met windows of long texts, whose ids no entry has, stays whole, so that their places are told.
    """
    children = tuple(_bare(child, told) for child in trace.children)
    if all(id in told for id in (*trace.scores, *trace.unscored)):
        return replace(trace, scores={}, unscored={}, coverage={}, cached=(), children=children)
    return replace(trace, children=children)


def _untold(asked: Asked, error: BaseException | None, seconds: float) -> Trace:
    return Trace(step=asked.reranker.label, kind=asked.reranker.kind, seconds=seconds, error=_told(error))


def _told(error: BaseException | None) -> str:
    """Say what was raised; the words of an error that is not ours may hold anything, so only its name."""
    return describe(error) if isinstance(error, RerankError) else type(error).__name__


def _plain(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of a candidate's metadata is plain JSON, and say of the rest what it was."""
    import json

    kept = {}
    for key, value in list(metadata.items()):
        try:
            json.dumps(value, allow_nan=False)
            kept[str(key)] = value
        except (TypeError, ValueError, RecursionError):
            kept[str(key)] = f"<{type(value).__name__}>"
    return kept


def _visit(visit: Visit) -> dict[str, Any]:
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


def _visited(data: Mapping[str, Any]) -> Visit:
    coverage = data["coverage"]
    return Visit(
        step=data["step"],
        rank=data["rank"],
        raw_score=data["raw_score"],
        unscored=data["unscored"],
        scale=data["scale"],
        coverage=None if coverage is None else Coverage.from_dict(coverage),
        cached=data["cached"],
    )
