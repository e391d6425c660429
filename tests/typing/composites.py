"""Composites and their settings, and files of calls."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from typing_extensions import assert_type

from rag_rerank import (
    Breaker,
    Cached,
    Calibrated,
    CalibrationMap,
    Cascade,
    Deadline,
    Decay,
    Ensemble,
    Fallback,
    Guarded,
    Hedge,
    Limits,
    PointwiseReranker,
    Price,
    Recorded,
    RelevantSpans,
    Reranker,
    RetryPolicy,
    Shadow,
    ShadowReport,
    Stage,
    Template,
    Windows,
    Wrapper,
    build,
    recording,
    tagged,
)
from rag_rerank.backends.cohere import CohereReranker
from rag_rerank.backends.lexical import LexicalReranker
from rag_rerank.backends.onnx import OnnxReranker
from rag_rerank.records import Record, Recorder, read

lexical = LexicalReranker(k1=1.2)
cohere = CohereReranker(
    model="rerank-v3.5",
    api_key="${CO_API_KEY}",
    retry=RetryPolicy(attempts=2),
    limits=Limits(requests_per_minute=60),
    price=Price(per_thousand_search_units=2.0),
    breaker=Breaker(failures=3),
)
onnx = OnnxReranker(model="minilm", max_length=256)
assert_type(lexical.k1, float)

rerankers: list[Reranker] = [lexical, build("embedded")]
backends: list[LexicalReranker] = [lexical]
stages: list[Stage] = [Stage(reranker=lexical, depth=50), Stage(reranker=onnx)]
reports: list[ShadowReport] = []

cascade = Cascade(stages=stages)
assert_type(cascade.stages[0].reranker, Reranker)
any_reranker: Reranker = Fallback(members=rerankers, on_failure="first_stage")
any_reranker = Fallback(members=backends)
any_reranker = Fallback(members=(cascade, lexical), name="safe")
any_reranker = Hedge(members=rerankers, after=0.5)
any_reranker = Ensemble(members=rerankers, weights=[1.0, 2.0], fusion="weighted")
any_reranker = Deadline(reranker=cascade, seconds=0.5, on_late="partial")
any_reranker = Cached(reranker=onnx, path="~/scores.db", ttl=60)
any_reranker = Calibrated(reranker=onnx, map="map.json")
any_reranker = Guarded(reranker=onnx, margin=2.5)
any_reranker = Recorded(reranker=onnx, file="calls.jsonl", texts=True)
any_reranker = RelevantSpans(reranker=onnx, by=lexical)
any_reranker = Shadow(reranker=onnx, other=cohere, share=0.01, on_report=reports.append)
any_reranker = Template(reranker=onnx, text=["title", "text"])
any_reranker = Decay(reranker=onnx, field="published", half_life=90, shape="linear")
any_reranker = Windows(reranker=onnx, tokens=100, pool="top", top_m=2)
wrapper: Wrapper = Guarded(reranker=onnx)
print(wrapper.reranker.label)


def keep_the_map(fitted: CalibrationMap) -> Calibrated:
    return Calibrated(reranker=onnx, map=fitted)


# every scoring backend goes into a cache, and a composite does not
scoring: PointwiseReranker = onnx
Cached(reranker=scoring)

with recording(Path("calls.jsonl"), share=0.1, tags={"tenant": "a"}) as recorder, tagged(user=3):
    assert_type(recorder, Recorder)
assert_type(read("calls.jsonl"), Iterator[Record])

Cascade(stages=rerankers)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
Cascade(stages)  # type: ignore[arg-type, call-arg]  # pyright: ignore[reportCallIssue]
Stage(lexical)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
Fallback(member=rerankers)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
Fallback(members=["lexical"])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
Fallback(members=rerankers, on_failure="ignore")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
Ensemble(members=rerankers, fusion="mean")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
Deadline(reranker=lexical)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
Deadline(reranker="lexical", seconds=1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
Cached(reranker=cascade)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
Windows(reranker=onnx, pool="sum")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
Shadow(reranker=onnx, other=cohere, share=0.01, on_report=rerankers.append)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
LexicalReranker(k="1.2")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
lexical.k1 = 2.0  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
Limits(requests=60)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
tagged(user=["a"])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
