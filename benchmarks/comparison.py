"""Compare everything that runs here on real weights: quality with intervals, processor time, bytes.

    python benchmarks/comparison.py quality COLLECTIONS RECORDS --embedding MINILM --sparse IDF
    python benchmarks/comparison.py cost COLLECTIONS RECORDS --embedding MINILM --sparse IDF
    python docs/tools/generate.py

COLLECTIONS is a folder with one folder per collection, as `rag_rerank.evaluation.read` takes them, MINILM the folder or
hub id of all-MiniLM-L6-v2, IDF a folder with a table of learned token weights (``sparse``). Answers and vectors are
kept in RECORDS, so that a second run scores nothing twice. ``quality`` ranks the first 60 judged queries of each
collection, 100 candidates each. ``cost`` measures time and memory on 100 Wikipedia passages (mean 133 tokens); the time
is that of the processor, of all threads, so that it is the latency on one core. Both write into ``comparison.json``, of
which the last command makes the page ``docs/explanation/comparison.md``.

Learning to rank is trained on all collections but the one that it ranks. Each system is compared with BM25's order by a
paired randomisation test over all queries, corrected for the number of systems (Holm).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from comparison_systems import BASES, BM25, DEPTHS, EMBEDDED, Rerankers, StoredScores, System, configs, systems

from rag_rerank import Candidate, Reranker, build
from rag_rerank.backends.local.base import LocalReranker
from rag_rerank.compose.ltr.features import Features
from rag_rerank.compose.ltr.learning_to_rank import LearningToRank
from rag_rerank.diagnostics.sample_texts import questions, skewed_question
from rag_rerank.evaluation import Judged, read
from rag_rerank.evaluation.answer_store import AnswerStore, request_key
from rag_rerank.evaluation.measures import per_query
from rag_rerank.evaluation.statistics import estimate, holm, randomisation
from rag_rerank.training.ltr.lambdamart import fit
from rag_rerank.training.ltr.queries import answers_of, hold_out, rows_of
from rag_rerank.training.ltr.settings import LtrSettings
from rag_rerank.training.ltr.train import train_ltr

RESULT = Path(__file__).with_name("comparison.json")
COLLECTIONS = (
    *("trec-dl19", "nq-qed", "cranfield", "scifact", "nfcorpus", "cosqa", "cisi", "npl"),
    *("selqa-test", "xquad-en", "xquad-de"),
)
MEASURE, QUERIES, DEPTH, SAMPLES, ROUNDS = "nDCG@10", 60, 100, 10_000, 7
NOW = datetime(2026, 1, 1, tzinfo=timezone.utc)  # no collection has dates

Orders = dict[str, list[str]]
"""Query id -> ids of the candidates, best first."""

Values = dict[str, np.ndarray]
"""Collection -> nDCG@10 of each query."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["quality", "cost"])
    parser.add_argument("collections", type=Path)
    parser.add_argument("records", type=Path)
    parser.add_argument("--embedding", help="all-MiniLM-L6-v2: a folder or a hub id")
    parser.add_argument("--sparse", help="folder of a table of learned token weights")
    parser.add_argument("--without", action="append", default=[], choices=BASES, help="a reranker to leave out")
    parser.add_argument(
        "--stored", action="append", default=[], choices=BASES, help="take only collections with all answers in RECORDS"
    )
    options = parser.parse_args()
    absent = [name for name in COLLECTIONS if not (options.collections / name).is_dir()]
    if absent:
        sys.exit(f"skipped: {options.collections} has no {', '.join(absent)}, and the comparison needs all collections")
    warnings.simplefilter("ignore")
    judged = {name: read(options.collections / name, depth=DEPTH, queries=QUERIES) for name in COLLECTIONS}
    vectors = (options.records / "vectors").resolve()
    bases = configs(options.sparse, options.embedding, vectors)
    bases = {name: node for name, node in bases.items() if name not in options.without}
    if options.part == "quality":
        part = quality(judged, bases, options.records, options.stored)
    else:
        part = cost(judged, bases, options.records)
    result = json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.is_file() else {}
    result = dict(sorted({**result, options.part: part}.items()))
    RESULT.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def quality(
    judged: Mapping[str, Judged], bases: Mapping[str, Mapping[str, Any]], records: Path, stored: Sequence[str]
) -> dict[str, Any]:
    """Return the figures of the first stage and of each system, over all collections and in each.

    A base in ``stored`` scores nothing: it is measured on the collections that it has answered, and alone.
    """
    parts = {name: _with_all_answers(bases[name], judged, records) for name in stored if name in bases}
    answers = {name: answers_by_collection(node, parts.get(name, judged), records) for name, node in bases.items()}
    scales = {name: build(dict(node)).scale for name, node in bases.items()}
    whole = tuple(name for name in bases if answers[name].keys() == judged.keys())
    ours = [s for s in systems(tuple(bases)) if set(s.bases) <= set(whole) or s.name in bases]
    values: dict[str, Values] = {BM25: values_of(judged, {name: _first_orders(data) for name, data in judged.items()})}
    ceiling = values_of(judged, {name: _perfect_orders(data) for name, data in judged.items()})
    for system in ours:
        part = {name: data for name, data in judged.items() if all(name in answers[base] for base in system.bases)}
        if system.make is None:
            orders = _ltr_orders(system, part, answers)
        else:
            orders = {}
            for name, data in part.items():
                of = _stored(data, {base: answers[base][name] for base in system.bases}, scales)
                orders[name] = _orders(system.make(of), data)
        values[system.name] = values_of(part, orders)
        print(f"{system.name}: {np.mean([of.mean() for of in values[system.name].values()]):.4f}", flush=True)
    complete = [system.name for system in ours if values[system.name].keys() == judged.keys()]
    p_values = dict(zip(complete, holm([_p(values[name], values[BM25]) for name in complete]), strict=True))
    return {
        "collections": {
            name: {"queries": len(data.queries), "perfect": _rounded(ceiling[name].mean())}
            for name, data in judged.items()
        },
        "systems": [
            _figures(BM25, values, None, BM25),
            *(_figures(system.name, values, p_values.get(system.name), system.cost) for system in ours),
        ],
    }


def answers_by_collection(
    node: Mapping[str, Any], judged: Mapping[str, Judged], records: Path
) -> dict[str, list[Mapping[str, float]]]:
    """Return the raw scores by candidate id, for each query of each collection."""
    with build(dict(node)) as reranker:
        return {
            name: [
                scores or {}
                for scores in answers_of(reranker, data.queries, DEPTH, str(records / name), 1, lambda done: None)
            ]
            for name, data in judged.items()
        }


def _with_all_answers(node: Mapping[str, Any], judged: Mapping[str, Judged], records: Path) -> dict[str, Judged]:
    """Return the collections of which a reranker has answered all queries."""
    reranker = build(dict(node))

    def is_answered(name: str, data: Judged) -> bool:
        keys = {request_key(query.text, query.candidates) for query in data.queries if query.candidates}
        store = AnswerStore.under(records / name, reranker, DEPTH)
        exists = store.file is not None and store.file.is_file()
        return exists and keys == {key for key, _ in store.records(keys)}

    return {name: data for name, data in judged.items() if is_answered(name, data)}


def _stored(
    judged: Judged, answers: Mapping[str, Sequence[Mapping[str, float]]], scales: Mapping[str, Any]
) -> Rerankers:
    """Return rerankers that give the stored scores of one collection."""
    rerankers = {}
    for base, of_base in answers.items():
        by_query: dict[str, dict[str, float]] = {}
        for query, scores in zip(judged.queries, of_base, strict=True):
            of_query = by_query.setdefault(query.text, {})
            of_query |= {c.text: scores[c.id] for c in query.candidates if c.id in scores}
        rerankers[base] = StoredScores(name=base, stored_scale=scales[base], by_query=by_query)
    return rerankers


def _orders(reranker: Reranker, judged: Judged) -> Orders:
    return {
        query.id: [hit.id for hit in reranker.rerank(query.text, query.candidates)] if query.candidates else []
        for query in judged.queries
    }


def _first_orders(judged: Judged) -> Orders:
    return {query.id: [candidate.id for candidate in query.candidates] for query in judged.queries}


def _perfect_orders(judged: Judged) -> Orders:
    return {
        query.id: sorted((c.id for c in query.candidates), key=lambda id, grades=query.grades: -grades.get(id, 0))
        for query in judged.queries
    }


def _ltr_orders(
    system: System, judged: Mapping[str, Judged], answers: Mapping[str, Mapping[str, Sequence[Mapping[str, float]]]]
) -> dict[str, Orders]:
    """Return the orders of learning to rank, each collection ranked by a model that was trained on the others."""
    settings, features = LtrSettings(), Features(rerankers=system.bases)
    rows = {
        name: [
            rows_of(features, query, [answers[base][name][i] for base in system.bases], DEPTH, NOW)
            for i, query in enumerate(data.queries)
        ]
        for name, data in judged.items()
    }
    orders = {}
    for name in judged:
        others = [one for other, of in rows.items() if other != name for one in of if one.teaches]
        booster = fit(*hold_out(others, settings.hold_out, settings.seed), features.directions({}), settings)
        orders[name] = {}
        for one in rows[name]:
            scores = booster.predict(one.rows) if one.rows else []
            best = [one.where[i] for i in np.argsort(-np.asarray(scores), kind="stable")]
            rest = [i for i in range(len(one.query.candidates)) if i not in set(best)]
            orders[name][one.query.id] = [one.query.candidates[i].id for i in (*best, *rest)]
    return orders


def values_of(judged: Mapping[str, Judged], orders: Mapping[str, Orders]) -> Values:
    return {
        name: np.array(list(per_query(data, orders[name], (MEASURE,))[MEASURE].values()))
        for name, data in judged.items()
    }


def _figures(name: str, values: Mapping[str, Values], p: float | None, cost_of: str) -> dict[str, Any]:
    own, first, embedded = values[name], values[BM25], values[EMBEDDED]
    means = {collection: _rounded(float(of.mean())) for collection, of in own.items()}
    if own.keys() != first.keys():
        return {"name": name, "cost": cost_of, "means": means}
    changes = {collection: own[collection] - first[collection] for collection in own}
    of_queries = np.concatenate(list(changes.values()))
    intervals = [estimate(change) for change in changes.values()]
    return {
        "name": name,
        "cost": cost_of,
        "means": means,
        "mean": macro_mean(own),
        "change": macro_mean(changes),
        "p": p,
        "helped": int((of_queries > 0).sum()),
        "hurt": int((of_queries < 0).sum()),
        "better": sum(interval.low > 0 for interval in intervals),
        "worse": sum(interval.high < 0 for interval in intervals),
        "against_embedded": macro_mean({collection: own[collection] - embedded[collection] for collection in own}),
    }


def macro_mean(values: Values) -> list[float]:
    """Return the mean over the collections with its 95 % interval; queries are drawn within each collection."""
    rng = np.random.default_rng(0)
    draws = [of[rng.integers(0, len(of), (SAMPLES, len(of)))].mean(axis=1) for of in values.values()]
    low, high = np.quantile(np.mean(draws, axis=0), [0.025, 0.975])
    return [_rounded(float(np.mean([of.mean() for of in values.values()]))), _rounded(low), _rounded(high)]


def _p(own: Values, first: Values) -> float:
    """Return the p-value of the mean over the collections: a query weighs as one of its collection."""
    return randomisation(np.concatenate([(own[name] - first[name]) / len(own[name]) for name in own]), samples=SAMPLES)


def _rounded(value: float) -> float:
    return round(float(value), 4)


def cost(judged: Mapping[str, Judged], bases: Mapping[str, Mapping[str, Any]], records: Path) -> dict[str, Any]:
    """Return the processor time of each system, and the bytes of each base.

    Each system is timed with kept vectors. Without them, the time of encoding the texts is added: that of each of its
    bases, which is the difference between the base without a store and with one, at the same depth.
    """
    texts = skewed_question(DEPTH).texts
    candidates = [Candidate(str(i), text) for i, text in enumerate(texts)]
    ours = [system for system in systems(tuple(bases)) if system.name == system.cost]
    depths = [(base, None) for base in bases] + [(EMBEDDED, depth) for depth in DEPTHS]
    kept_bases = {name: build(_with_store(node, {"max_bytes": 2**28})) for name, node in bases.items()}
    bare_bases = {name: build(_with_store(node, None)) for name, node in bases.items()}
    with tempfile.TemporaryDirectory() as folder:
        calls = {s.name: (_reranker(s, bases, kept_bases, judged, records, Path(folder)), candidates) for s in ours}
        at_depth = {f"{base} {depth}": (kept_bases[base], candidates[:depth]) for base, depth in depths}
        kept = _times({**calls, **at_depth})
    bare = _times({f"{base} {depth}": (bare_bases[base], candidates[:depth]) for base, depth in depths})
    encoding = {name: max(0.0, bare[name] - kept[name]) for name in bare}

    def uncached(system: System) -> float:
        of_bases = (encoding[f"{base} {system.depth if base == EMBEDDED else None}"] for base in system.bases)
        return kept[system.name] + sum(of_bases)

    return {
        "milliseconds": {s.name: {"kept": round(kept[s.name], 2), "uncached": round(uncached(s), 2)} for s in ours},
        "bases": {name: _bytes(_with_store(node, None), texts) for name, node in bases.items()},
        "machine": f"{_processor()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "rounds": ROUNDS,
    }


def _with_store(node: Mapping[str, Any], store: Mapping[str, Any] | None) -> dict[str, Any]:
    return dict(node) if node["type"] == "lexical" else {**node, "store": store}


def _reranker(
    system: System,
    bases: Mapping[str, Mapping[str, Any]],
    rerankers: Rerankers,
    judged: Mapping[str, Judged],
    records: Path,
    folder: Path,
) -> Reranker:
    """Return a system as a reranker; learning to rank is trained for it on the stored answers of one collection."""
    if system.make is not None:
        return system.make(rerankers)
    file, collection = folder / f"{system.name}.json", "trec-dl19"
    members = [build(dict(bases[base])) for base in system.bases]
    train_ltr(judged[collection], members, records=records / collection).model.save(file)
    return LearningToRank(model=str(file), rerankers=tuple(rerankers[base] for base in system.bases))


def _times(calls: Mapping[str, tuple[Reranker, Sequence[Candidate]]]) -> dict[str, float]:
    """Return the median processor milliseconds of each call: all in turn, each round with another query."""
    queries = [question.query for question in questions()]
    for reranker, candidates in calls.values():
        reranker.rerank("Which call loads the model?", candidates)
    times: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(ROUNDS):
        for name, (reranker, candidates) in list(calls.items())[:: 1 - 2 * (number % 2)]:
            started = time.process_time()
            reranker.rerank(queries[number % len(queries)], candidates)
            times[name].append(1000 * (time.process_time() - started))
        print(f"round {number + 1} of {ROUNDS}", flush=True)
    return {name: median(of) for name, of in times.items()}


MEMORY = """
import json, sys, warnings
import numpy, onnxruntime, tokenizers
from rag_rerank import build
warnings.simplefilter("ignore")
node, query, texts = json.load(sys.stdin)
def resident():
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))
reranker = build(node)
before = resident()
reranker.rerank(query, texts)
print(resident() - before)
"""


def _bytes(node: dict[str, Any], texts: Sequence[str]) -> dict[str, float | None]:
    """Return MB of model files, MB of memory that a first call adds, and kB that are kept of a text."""
    question = json.dumps([node, questions()[0].query, list(texts)])
    grown = subprocess.run([sys.executable, "-c", MEMORY], input=question, capture_output=True, text=True, check=True)
    with build(_with_store(node, {"max_bytes": 2**28})) as reranker:
        kept = reranker.index(texts).store.bytes_per_text if hasattr(reranker, "index") else None  # type: ignore[attr-defined]
        files = reranker.fetch().path if isinstance(reranker, LocalReranker) else None
        size = sum(file.stat().st_size for file in _model_files(files)) if files is not None else 0
    return {
        "model_mb": round(size / 1e6, 1),
        "memory_mb": round(int(grown.stdout) / 1e3, 0),
        "kept_kb": None if kept is None else round(kept / 1e3, 2),
    }


def _model_files(folder: Path) -> Iterator[Path]:
    for file in folder.rglob("*"):
        if file.suffix in (".onnx", ".safetensors") or file.name in ("tokenizer.json", "idf.json"):
            yield file


def _processor() -> str:
    with Path("/proc/cpuinfo").open(encoding="utf-8") as lines:
        return next(
            (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine()
        )


if __name__ == "__main__":
    main()
