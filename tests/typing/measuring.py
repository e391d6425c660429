"""Evaluation, calibration, agreement, telemetry."""

from __future__ import annotations

from pathlib import Path

from typing_extensions import assert_type

from rag_rerank import CalibrationMap, build
from rag_rerank.agreement import Agreement, agreement
from rag_rerank.evaluation import (
    Drift,
    Evaluation,
    Judged,
    JudgedQuery,
    MarginFit,
    calibrate,
    compare_with_baseline,
    evaluate,
    fit_margin,
    read,
)
from rag_rerank.evaluation.report import System
from rag_rerank.telemetry import instrument

judged = read(Path("judged.jsonl"), queries=40)
assert_type(judged, Judged)
assert_type(judged.queries, tuple[JudgedQuery, ...])
evaluation = evaluate(judged, ["lexical", "embedded"], measures=["nDCG@10"], progress=False)
assert_type(evaluation, Evaluation)
assert_type(evaluation.systems, tuple[System, ...])
evaluate(judged, {"mine": build("lexical"), "other": "embedded"})
assert_type(compare_with_baseline(evaluation, evaluation), Drift)
assert_type(Evaluation.from_dict(evaluation.to_dict()), Evaluation)
assert_type(calibrate(build("embedded"), [judged, judged], method="auto"), CalibrationMap)
assert_type(fit_margin(build("embedded"), judged), MarginFit)
assert_type(agreement(build("lexical"), build("embedded"), [("q", ["a"])]), Agreement)
instrument(texts=True, tags=["tenant"])

evaluate("judged.jsonl", ["lexical"])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
evaluate(judged, ["lexical"], measure="nDCG@10")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
read(3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
calibrate("embedded", judged)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
calibrate(build("embedded"), judged, method="best")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
agreement("lexical", "embedded", [("q", ["a"])])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
instrument(max_documents="all")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
