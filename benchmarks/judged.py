"""Judged collections: what the quality benchmarks read, and how they measure.

A collection is a folder with ``corpus.jsonl`` and ``queries.jsonl`` in BEIR's form, ``qrels.tsv``
(``qrels-full.tsv`` is preferred where there is one) and ``bm25-top100.trec.gz``, a TREC run. Title and text are joined
by a space. Measures are those of ir-measures, with linear gain as trec_eval has it; the interval is a paired
bootstrap over queries (10,000 samples, fixed seed).
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import ir_measures
import numpy as np
from ir_measures import Measure, Qrel, ScoredDoc

from rag_rerank import Candidate


@dataclass(frozen=True)
class Collection:
    """The judged queries of a collection, with their texts and their first stage's hits."""

    name: str
    corpus: Mapping[str, str]
    queries: Mapping[str, str]
    qrels: Sequence[Qrel]
    run: Mapping[str, Sequence[tuple[str, float]]]

    def candidates(self, query: str, depth: int | None = None) -> list[Candidate]:
        """Return the first ``depth`` hits of the first stage."""
        return [Candidate(d, self.corpus[d], score=score) for d, score in self.run[query][:depth]]


def read(folder: Path, limit: int | None = None) -> Collection:
    """Read a collection with all its judged queries, or the first ``limit`` in the file's order."""
    full = folder / "qrels-full.tsv"
    rows = (full if full.exists() else folder / "qrels.tsv").read_text(encoding="utf-8").splitlines()[1:]
    qrels = [Qrel(q, d, int(float(grade))) for q, d, grade in (row.split("\t") for row in rows)]
    run: dict[str, list[tuple[str, float]]] = {}
    with gzip.open(folder / "bm25-top100.trec.gz", "rt", encoding="utf-8") as lines:
        for line in lines:
            query, _, document, _, score, _ = line.split()
            run.setdefault(query, []).append((document, float(score)))
    judged = {qrel.query_id for qrel in qrels} & run.keys()
    texts = {q["_id"]: q["text"] for q in _jsonl(folder / "queries.jsonl")}
    queries = {q: texts[q] for q in [q for q in texts if q in judged][:limit]}
    return Collection(
        name=folder.name,
        corpus={d["_id"]: f"{d.get('title') or ''} {d['text']}".strip() for d in _jsonl(folder / "corpus.jsonl")},
        queries=queries,
        qrels=[qrel for qrel in qrels if qrel.query_id in queries],
        run={q: sorted(run[q], key=lambda hit: -hit[1]) for q in queries},
    )


def _jsonl(file: Path) -> Iterator[dict[str, str]]:
    with file.open(encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def per_query(
    measures: Sequence[Measure], qrels: Sequence[Qrel], orders: Mapping[str, Sequence[str]]
) -> dict[str, dict[str, float]]:
    """Return measure -> query -> value, for an order of document ids by query."""
    run = [ScoredDoc(q, d, -float(rank)) for q, order in orders.items() for rank, d in enumerate(order)]
    values: dict[str, dict[str, float]] = {str(m): {} for m in measures}
    for metric in ir_measures.iter_calc(list(measures), list(qrels), run):
        values[str(metric.measure)][metric.query_id] = metric.value
    return values


def interval(differences: np.ndarray) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of a mean."""
    rng = np.random.default_rng(0)
    means = differences[rng.integers(0, len(differences), (10_000, len(differences)))].mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)
