"""Making the record of a call, from what was asked and what came of it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from typing import Any

from rag_rerank._version import __version__
from rag_rerank.execution.calls import redacted_error_text
from rag_rerank.execution.observers import trace_of
from rag_rerank.execution.protocols import CallStarted
from rag_rerank.records.record import BELOW_TOP_K, Entry, Record, digest
from rag_rerank.trace import Trace
from rag_rerank.types import Candidate, Hit, Ranking

__all__ = ["record_of"]


def record_of(
    asked: CallStarted,
    ranking: Ranking | None,
    error: BaseException | None,
    *,
    id: str,
    time: str,
    seconds: float,
    texts: bool = False,
) -> Record:
    """Return the record of a call that ended with a ranking over all its candidates, or with an error.

    Args:
        asked: What was asked.
        ranking: What came of it; ``None`` where it failed.
        error: Why it failed.
        id: A unique id.
        time: When it began, ISO 8601 in UTC.
        seconds: How long it took.
        texts: Whether the query, the texts and the metadata go in.
    """
    trace = trace_of(ranking, error) or _bare_trace(asked, error, seconds)
    record = Record(
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
        trace=_without_scores(trace, {candidate.id for candidate in asked.candidates}),
    )
    if ranking is None:
        return replace(record, error=redacted_error_text(error))
    return replace(
        record,
        scale=ranking.scale,
        usage=ranking.usage,
        degraded=ranking.degraded,
        substituted=ranking.substituted,
    )


def _entries(asked: CallStarted, ranking: Ranking | None, trace: Trace, texts: bool) -> Iterator[Entry]:
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
    return hit.unscored or (BELOW_TOP_K if top_k is not None and hit.rank > top_k else None)


def _without_scores(trace: Trace, told: Collection[str]) -> Trace:
    """Return a trace without what it says of each candidate, which the entries say.

    A step that met windows of long texts, whose ids no entry has, stays whole, so that their places are told.
    """
    children = tuple(_without_scores(child, told) for child in trace.children)
    if all(id in told for id in (*trace.scores, *trace.unscored)):
        return replace(trace, scores={}, unscored={}, coverage={}, cached=(), children=children)
    return replace(trace, children=children)


def _bare_trace(asked: CallStarted, error: BaseException | None, seconds: float) -> Trace:
    return Trace(step=asked.reranker.label, kind=asked.reranker.kind, seconds=seconds, error=redacted_error_text(error))


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
