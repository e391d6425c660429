"""Pairs of query and text that one core scores in a second, by backend, and what a million pairs cost.

    python benchmarks/capacity.py cpu [--rows 40] [--backends lexical,embedded,minilm-l6,bge-base] [--models FOLDER]
    python benchmarks/capacity.py batch [--rows 40]
    python benchmarks/capacity.py providers

- "cpu": processor time of this process, all threads together, over the judged questions of docs/samples (15 candidates
  each), after `warm_up` and one question that is not counted. A backend has one worker and one thread. `minilm-l6` and
  `bge-base` are checkpoints of these shapes with random weights (benchmarks/speed/checkpoints.py), made in FOLDER on
  first use; speed does not depend on the weights.
- "batch": processor time that a batch adds to that of its calls: the same rows, by `rerank` alone and by
  `BatchReranker`, with a reranker that computes nothing.
- "providers": the list prices of the package, times a million pairs of 150 tokens (query and text) and of 500.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from pathlib import Path
from time import process_time
from typing import Any

import rag_rerank
from rag_rerank.backends.api.pricing import listed_models
from rag_rerank.batch import BatchReranker
from rag_rerank.testing import ScriptedReranker

ROOT = Path(__file__).parents[1]
SAMPLES = ROOT / "docs" / "samples" / "judged.jsonl"

SHAPES = ("minilm-l6", "bge-base")
PAIR_TOKENS = (150, 500)
MILLION = 1_000_000


def read_rows(count: int) -> list[dict[str, Any]]:
    return [json.loads(line) for line in SAMPLES.read_text(encoding="utf-8").splitlines()[:count]]


def config_of(backend: str, models: Path) -> Any:
    if backend in SHAPES:
        from benchmarks.speed.checkpoints import make

        models.mkdir(parents=True, exist_ok=True)
        return {"type": "onnx", "model": str(make(models, backend)), "workers": 1}
    if backend == "lexical":
        return backend
    return {**rag_rerank.to_config(rag_rerank.build(backend)), "workers": 1}


def measure_cpu(backends: Iterable[str], rows: list[dict[str, Any]], models: Path) -> None:
    print(
        "| backend | pairs | tokens a pair | processor ms a pair | pairs a second and core | core hours, 10^6 pairs |"
    )
    print("|---|---:|---:|---:|---:|---:|")
    for backend in backends:
        with rag_rerank.build(config_of(backend, models)) as reranker:
            batch = BatchReranker(reranker)
            batch.warm_up()
            batch(rows[:1])
            start = process_time()
            answers = batch(rows[1:])
            seconds = process_time() - start
        pairs = sum(answer["usage"]["texts"] for answer in answers)
        tokens = sum(answer["usage"]["tokens"] for answer in answers) / pairs
        each, hours = seconds / pairs, seconds / pairs * MILLION / 3600
        figures = f"{pairs:,} | {tokens:.0f} | {each * 1000:.2f} | {1 / each:,.0f} | {hours:.2f}"
        print(f"| {backend} | {figures} |", flush=True)


def measure_batch(rows: list[dict[str, Any]]) -> None:
    reranker = ScriptedReranker()
    batch = BatchReranker(reranker)
    lists = [[rag_rerank.Candidate(item["id"], item["text"]) for item in row["candidates"]] for row in rows]
    times: dict[str, list[float]] = {"rerank": [], "BatchReranker": []}
    for _ in range(30):
        start = process_time()
        for row, candidates in zip(rows, lists, strict=True):
            reranker.rerank(row["query"], candidates)
        middle = process_time()
        batch(rows)
        times["rerank"].append(middle - start)
        times["BatchReranker"].append(process_time() - middle)
    pairs = sum(map(len, lists))
    for name, values in times.items():
        print(f"{name}: {min(values) / pairs * 1e6:.1f} µs of processor time a pair")


def print_providers() -> None:
    print("| type | model | price | " + " | ".join(f"10^6 pairs of {tokens} tokens" for tokens in PAIR_TOKENS) + " |")
    print("|---|---|---|" + "---:|" * len(PAIR_TOKENS))
    for model in listed_models():
        price = model.price
        unit = (
            f"${price.per_million_tokens:g} / 10^6 tokens"
            if price.per_million_tokens is not None
            else f"${price.per_thousand_search_units:g} / 1,000 units of 100 texts"
        )
        costs = [10_000 * price.estimate([tokens] * 100) for tokens in PAIR_TOKENS]  # 10,000 requests of 100 texts
        print(f"| `{model.backend}` | {model.model} | {unit} | " + " | ".join(f"${cost:,.2f}" for cost in costs) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("cpu", "batch", "providers"))
    parser.add_argument("--rows", type=int, default=40)
    parser.add_argument("--backends", default="lexical,embedded,minilm-l6,bge-base")
    parser.add_argument("--models", type=Path, default=ROOT / "benchmarks" / "out" / "models")
    options = parser.parse_args()
    if options.part == "cpu":
        measure_cpu(options.backends.split(","), read_rows(options.rows), options.models)
    elif options.part == "batch":
        measure_batch(read_rows(options.rows))
    else:
        print_providers()


if __name__ == "__main__":
    main()
