"""What a call says of itself in attributes.

Names of other people's conventions are written out, so that OpenTelemetry's API is all that is needed: those of
https://github.com/Arize-ai/openinference/blob/main/spec/semantic_conventions.md, and for ``gen_ai.*`` of the proposal
https://github.com/open-telemetry/semantic-conventions-genai/issues/253.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

from rag_rerank.execution.protocols import CallStarted
from rag_rerank.trace import Trace, Usage
from rag_rerank.types import Candidate, Ranking

__all__ = ["KIND", "documents", "facts", "gen_ai", "request_attributes", "tag_attributes", "who"]

KIND = "openinference.span.kind"


def who(asked: CallStarted, trace: Trace | None) -> dict[str, Any]:
    """Say who was asked: label, registry name, and the model where the call came to know it."""
    known = {"rag_rerank.reranker": asked.reranker.label, "rag_rerank.kind": asked.reranker.kind}
    return known if trace is None or trace.model is None else known | {"rag_rerank.model": trace.model}


def tag_attributes(asked: CallStarted, names: Iterable[str]) -> dict[str, Any]:
    """Return those tags that are asked for and have a value."""
    return {f"rag_rerank.tag.{name}": asked.tags[name] for name in names if asked.tags.get(name) is not None}


def facts(asked: CallStarted, ranking: Ranking | None, trace: Trace | None) -> dict[str, Any]:
    """Say what came of a call, without texts: all of it under ``rag_rerank.``."""
    said = who(asked, trace) | {"rag_rerank.candidates": len(asked.candidates)}
    if ranking is not None:
        said |= {
            "rag_rerank.scale": ranking.scale,
            "rag_rerank.substituted": ranking.substituted,
            "rag_rerank.unscored": sum(hit.unscored is not None for hit in ranking),
        }
        if ranking.degraded:
            said["rag_rerank.degraded"] = ranking.degraded
        known = [hit.coverage.truncated for hit in ranking if hit.coverage is not None]
        if known:
            said["rag_rerank.truncated"] = sum(known)
    if trace is not None:
        said["rag_rerank.attempts"] = sum(node.attempts for node in trace.walk() if node.kind is not None)
        said |= {f"rag_rerank.usage.{name}": value for name, value in _spent(trace.usage)}
    return said


def _spent(usage: Usage) -> Iterator[tuple[str, Any]]:
    for name in ("texts", "cached", "requests", "tokens", "search_units", "cost", "estimated"):
        value = getattr(usage, name)
        if value is not None and value != ():
            yield name, value


def request_attributes(asked: CallStarted, trace: Trace | None, *, texts: bool) -> dict[str, Any]:
    """Say what a user's call asked for, in OpenInference's words."""
    said: dict[str, Any] = {KIND: "RERANKER", "reranker.model_name": (trace and trace.model) or asked.reranker.label}
    if asked.top_k is not None:
        said["reranker.top_k"] = asked.top_k
    if texts:
        said |= {"reranker.query": asked.query, "input.value": asked.query, "input.mime_type": "text/plain"}
    return said


def documents(asked: CallStarted, ranking: Ranking | None, *, texts: bool, most: int | None) -> dict[str, Any]:
    """List what came in, with the first stage's scores, and what went out, with ours; and how many are not listed."""
    said: dict[str, Any] = {}
    lists: dict[str, list[tuple[Candidate, float | None]]] = {"input": [(c, c.score) for c in asked.candidates]}
    if ranking is not None:
        lists["output"] = [(hit.candidate, hit.score) for hit in ranking.hits[: asked.top_k]]
    for way, listed in lists.items():
        for i, (candidate, score) in enumerate(islice(listed, most)):
            for name, value in _document(candidate, score, texts):
                said[f"reranker.{way}_documents.{i}.document.{name}"] = value
        if most is not None and len(listed) > most:
            said[f"rag_rerank.{way}_documents.not_listed"] = len(listed) - most
    return said


def _document(candidate: Candidate, score: float | None, texts: bool) -> Iterator[tuple[str, Any]]:
    yield "id", candidate.id
    if score is not None:
        yield "score", score
    if texts:
        yield "content", candidate.text
        if candidate.metadata:
            yield "metadata", _json(candidate.metadata)


def _json(metadata: Mapping[str, Any]) -> str:
    return json.dumps({str(name): value for name, value in metadata.items()}, default=str, ensure_ascii=False)


def gen_ai(asked: CallStarted, ranking: Ranking | None, trace: Trace | None, *, most: int | None) -> dict[str, Any]:
    """Say the same in the words that are proposed for OpenTelemetry itself."""
    said: dict[str, Any] = {
        "gen_ai.operation.name": "rerank",
        "gen_ai.rerank.candidate.count": len(asked.candidates),
    }
    if asked.top_k is not None:
        said["gen_ai.rerank.top_n"] = asked.top_k
    if trace is not None and trace.model is not None:
        said["gen_ai.request.model"] = trace.model
    if trace is not None and trace.usage.tokens is not None:
        said["gen_ai.usage.input_tokens"] = trace.usage.tokens
    if ranking is not None:
        scores = (hit.score for hit in ranking.hits[: asked.top_k] if hit.score is not None)
        said["gen_ai.rerank.scores"] = tuple(islice(scores, most))
    return said
