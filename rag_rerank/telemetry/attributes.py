"""The attributes of a call in spans and metrics.

Names of OpenInference are written out, so that OpenTelemetry's API is the only requirement:
https://github.com/Arize-ai/openinference/blob/main/spec/semantic_conventions.md
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

from rag_rerank.context.result import Context
from rag_rerank.execution.protocols import CallStarted
from rag_rerank.trace import Trace, Usage
from rag_rerank.types import Candidate, Ranking

__all__ = [
    "KIND",
    "context_attributes",
    "context_outcomes",
    "document_attributes",
    "outcome_attributes",
    "request_attributes",
    "reranker_attributes",
    "tag_attributes",
]

KIND = "openinference.span.kind"


def reranker_attributes(call: CallStarted, trace: Trace | None) -> dict[str, Any]:
    """Return the label and the registry name of the reranker, and its model if the trace has it."""
    attributes = {"rag_rerank.reranker": call.reranker.label, "rag_rerank.kind": call.reranker.kind}
    return attributes if trace is None or trace.model is None else attributes | {"rag_rerank.model": trace.model}


def tag_attributes(call: CallStarted, names: Iterable[str]) -> dict[str, Any]:
    """Return the tags with these names that have a value."""
    return {f"rag_rerank.tag.{name}": call.tags[name] for name in names if call.tags.get(name) is not None}


def outcome_attributes(call: CallStarted, ranking: Ranking | None, trace: Trace | None) -> dict[str, Any]:
    """Return the outcome of a call under ``rag_rerank.``, without texts."""
    attributes = reranker_attributes(call, trace) | {"rag_rerank.candidates": len(call.candidates)}
    if ranking is not None:
        attributes |= {
            "rag_rerank.scale": ranking.scale,
            "rag_rerank.substituted": ranking.substituted,
            "rag_rerank.unscored": sum(hit.unscored is not None for hit in ranking),
        }
        if ranking.answerable is not None:
            attributes["rag_rerank.answerable"] = ranking.answerable
        if ranking.degraded:
            attributes["rag_rerank.degraded"] = ranking.degraded
        truncated = [hit.coverage.truncated for hit in ranking if hit.coverage is not None]
        if truncated:
            attributes["rag_rerank.truncated"] = sum(truncated)
    if trace is not None:
        attributes["rag_rerank.attempts"] = sum(node.attempts for node in trace.walk() if node.kind is not None)
        attributes |= {f"rag_rerank.usage.{name}": value for name, value in _usage_items(trace.usage)}
    return attributes


def _usage_items(usage: Usage) -> Iterator[tuple[str, Any]]:
    for name in ("texts", "cached", "requests", "tokens", "search_units", "cost", "estimated"):
        value = getattr(usage, name)
        if value is not None and value != ():
            yield name, value


def request_attributes(call: CallStarted, trace: Trace | None, *, texts: bool) -> dict[str, Any]:
    """Return the request of a user's call under OpenInference's names."""
    model = (trace and trace.model) or call.reranker.label
    attributes: dict[str, Any] = {KIND: "RERANKER", "reranker.model_name": model}
    if call.top_k is not None:
        attributes["reranker.top_k"] = call.top_k
    if texts:
        attributes |= {"reranker.query": call.query, "input.value": call.query, "input.mime_type": "text/plain"}
        if call.instruction is not None:
            attributes["rag_rerank.instruction"] = call.instruction
    return attributes


def document_attributes(call: CallStarted, ranking: Ranking | None, *, texts: bool, most: int | None) -> dict[str, Any]:
    """Return the documents of a call under OpenInference's names, and how many are not listed.

    Args:
        call: Its candidates are the input, with the first stage's scores.
        ranking: Its hits up to ``top_k`` are the output, with their scores; ``None`` if the call failed.
        texts: Whether to add texts and metadata.
        most: How many documents to list of input and output each; ``None`` for all.
    """
    attributes: dict[str, Any] = {}
    lists: dict[str, list[tuple[Candidate, float | None]]] = {"input": [(c, c.score) for c in call.candidates]}
    if ranking is not None:
        lists["output"] = [(hit.candidate, hit.score) for hit in ranking.hits[: call.top_k]]
    for side, documents in lists.items():
        for i, (candidate, score) in enumerate(islice(documents, most)):
            for name, value in _document_items(candidate, score, texts):
                attributes[f"reranker.{side}_documents.{i}.document.{name}"] = value
        if most is not None and len(documents) > most:
            attributes[f"rag_rerank.{side}_documents.not_listed"] = len(documents) - most
    return attributes


def context_outcomes(context: Context) -> dict[str, int]:
    """Return how many hits are in a context ``whole`` or ``trimmed``, and how many were dropped for each reason."""
    trimmed = sum(len(piece.hits) for piece in context.pieces if piece.trimmed is not None)
    reasons = Counter(str(drop.reason) for drop in context.dropped)
    counts = {"whole": len(context) - trimmed, "trimmed": trimmed, **reasons}
    return {outcome: count for outcome, count in counts.items() if count}


def context_attributes(context: Context, *, texts: bool, most: int | None) -> dict[str, Any]:
    """Return what was packed from the ranking of a call under ``rag_rerank.context.``.

    Args:
        context: The context.
        texts: Whether to add its text.
        most: How many ids to list of the hits in it, and of the others; ``None`` for all.
    """
    attributes: dict[str, Any] = {KIND: "CHAIN"}
    attributes |= {f"rag_rerank.context.{name}": count for name, count in context_outcomes(context).items()}
    attributes |= {
        "rag_rerank.context.pieces": len(context.pieces),
        "rag_rerank.context.ids": [hit.id for hit in islice(context, most)],
        "rag_rerank.context.dropped": [f"{drop.hit.id}: {drop.reason}" for drop in islice(context.dropped, most)],
    }
    if context.tokens is not None and context.tokens_before is not None:
        attributes["rag_rerank.context.tokens"] = context.tokens
        attributes["rag_rerank.context.tokens_before"] = context.tokens_before
        attributes["rag_rerank.context.tokens_estimated"] = context.tokens_estimated
    if context.notes:
        attributes["rag_rerank.context.notes"] = context.notes
    if texts:
        attributes |= {"output.value": context.text, "output.mime_type": "text/plain"}
    return attributes


def _document_items(candidate: Candidate, score: float | None, texts: bool) -> Iterator[tuple[str, Any]]:
    yield "id", candidate.id
    if score is not None:
        yield "score", score
    if texts:
        yield "content", candidate.text
        if candidate.metadata:
            yield "metadata", _json(candidate.metadata)


def _json(metadata: Mapping[str, Any]) -> str:
    return json.dumps({str(name): value for name, value in metadata.items()}, default=str, ensure_ascii=False)
