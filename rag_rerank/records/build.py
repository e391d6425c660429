"""Build the record of a call from the call and its outcome."""

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
    call: CallStarted,
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
        call: The call.
        ranking: Its ranking; ``None`` if it failed.
        error: The exception that ended it; ``None`` if it did not fail.
        id: A unique id.
        time: The time of its start, ISO 8601 in UTC.
        seconds: Its wall time.
        texts: Whether the record has the query, the instruction, the texts and the metadata.
    """
    trace = trace_of(ranking, error) or _bare_trace(call, error, seconds)
    record = Record(
        id=id,
        time=time,
        version=__version__,
        reranker=call.reranker.label,
        query=call.query if texts else None,
        query_sha256=digest(call.query),
        instruction=call.instruction if texts else None,
        instruction_sha256=None if call.instruction is None else digest(call.instruction),
        tags=dict(call.tags),
        top_k=call.top_k,
        seconds=seconds,
        usage=trace.usage,
        candidates=tuple(_entries(call, ranking, trace, texts)),
        trace=_without_scores(trace, {candidate.id for candidate in call.candidates}),
    )
    if ranking is None:
        return replace(record, error=redacted_error_text(error))
    return replace(
        record,
        scale=ranking.scale,
        usage=ranking.usage,
        degraded=ranking.degraded,
        substituted=ranking.substituted,
        answerable=ranking.answerable,
    )


def _entries(call: CallStarted, ranking: Ranking | None, trace: Trace, texts: bool) -> Iterator[Entry]:
    places = {candidate.id: i for i, candidate in enumerate(call.candidates, start=1)}
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
        yield from map(entry, call.candidates)
        return
    for hit in ranking:
        yield entry(
            hit.candidate,
            rank=hit.rank,
            score=hit.score,
            raw_score=hit.raw_score,
            coverage=hit.coverage,
            window=hit.window,
            dropped=_why_dropped(hit, call.top_k),
        )


def _why_dropped(hit: Hit, top_k: int | None) -> str | None:
    return hit.unscored or (BELOW_TOP_K if top_k is not None and hit.rank > top_k else None)


def _without_scores(trace: Trace, ids: Collection[str]) -> Trace:
    """Return a trace without the scores of candidates with these ids: the entries have them.

    A step that scored windows of long texts stays whole, because no entry has a window's id.
    """
    children = tuple(_without_scores(child, ids) for child in trace.children)
    if all(id in ids for id in (*trace.scores, *trace.unscored)):
        return replace(trace, scores={}, unscored={}, coverage={}, cached=(), children=children)
    return replace(trace, children=children)


def _bare_trace(call: CallStarted, error: BaseException | None, seconds: float) -> Trace:
    return Trace(step=call.reranker.label, kind=call.reranker.kind, seconds=seconds, error=redacted_error_text(error))


def _plain(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return a candidate's metadata in plain JSON; a value that is not plain is replaced by its class."""
    import json

    plain = {}
    for key, value in list(metadata.items()):
        try:
            json.dumps(value, allow_nan=False)
            plain[str(key)] = value
        except (TypeError, ValueError, RecursionError):
            plain[str(key)] = f"<{type(value).__name__}>"
    return plain
