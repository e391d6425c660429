"""Rows of queries with candidates for tests of batches, and the answers that single calls give."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import rag_rerank
from rag_rerank import Candidate, Reranker

SAMPLES = Path(__file__).parents[2] / "docs" / "samples" / "judged.jsonl"


def sample_rows(count: int) -> list[dict[str, Any]]:
    """Return the first judged questions of the samples."""
    lines = SAMPLES.read_text(encoding="utf-8").splitlines()[:count]
    return [json.loads(line) for line in lines]


def write_rows(file: Path, rows: Iterable[Any]) -> Path:
    """Write rows as JSON lines."""
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return file


def read_rows(file: Path) -> list[dict[str, Any]]:
    """Read JSON lines."""
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def single_answers(rows: Sequence[dict[str, Any]], reranker: Reranker, top_k: int) -> list[list[tuple[str, float]]]:
    """Return id and score of the best hits of each row, by one call a row."""
    answers = []
    for row in rows:
        candidates = [Candidate(item["id"], item["text"], item["score"]) for item in row["candidates"]]
        ranking = reranker.rerank(row["query"], candidates, top_k=top_k)
        answers.append([(hit.id, hit.score or 0.0) for hit in ranking])
    return answers


def scored_ids(hits_of_rows: Iterable[Iterable[Any]]) -> list[list[tuple[str, float]]]:
    """Return id and score of each hit of each row."""
    return [[(hit["id"], hit["score"]) for hit in hits] for hits in hits_of_rows]


LEXICAL = rag_rerank.build("lexical")
