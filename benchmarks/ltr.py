"""Train learning to rank on all collections but one, rank that one, and print one table.

    python benchmarks/ltr.py COLLECTIONS --collection scifact --collection cranfield ... --config embedded
        --records records --queries 60

COLLECTIONS is a folder with one folder per collection, as `rag_rerank.evaluation.read` takes them. Each ``--config``
is a reranker inside the model, and a system of its own in the table. Answers are stored in ``--records``, one folder a
collection, so that the same command goes on where it stopped; ``benchmarks/evaluation.py`` writes the same files.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path

from rag_rerank import Reranker, build
from rag_rerank.compose.ltr.features import Features
from rag_rerank.evaluation import Judged, read
from rag_rerank.evaluation.measures import per_query
from rag_rerank.evaluation.statistics import compare, estimate
from rag_rerank.training.ltr.lambdamart import fit
from rag_rerank.training.ltr.queries import QueryRows, answers_of, hold_out, rows_of
from rag_rerank.training.ltr.settings import LtrSettings

MEASURE = "nDCG@10"
NOW = datetime(2026, 1, 1, tzinfo=timezone.utc)  # no collection has dates

Values = dict[str, float]
"""Query id -> nDCG@10."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("collections", type=Path)
    parser.add_argument("--collection", action="append", required=True)
    parser.add_argument("--config", action="append", default=[], help="NAME or NAME=FILE")
    parser.add_argument("--depth", type=int, default=100)
    parser.add_argument("--queries", type=int)
    parser.add_argument("--records", type=Path)
    parser.add_argument("--without", action="append", default=[])
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rerankers = {name: build(file or name) for name, _, file in (config.partition("=") for config in options.config)}
    features = Features(
        rerankers=tuple(reranker.label for reranker in rerankers.values()), without=tuple(options.without)
    )
    settings = LtrSettings(seed=options.seed)
    judged = {
        name: read(options.collections / name, depth=options.depth, queries=options.queries)
        for name in options.collection
    }
    rows = {
        name: _rows(features, list(rerankers.values()), data, options.depth, options.records and options.records / name)
        for name, data in judged.items()
    }
    systems = ["first stage", *rerankers, "ltr"]
    print(f"| collection | {' | '.join(systems)} | ltr - {' | ltr - '.join(systems[:-1])} |")
    print(f"|---|{'---:|' * (2 * len(systems) - 1)}", flush=True)
    differences: dict[str, list[float]] = {name: [] for name in systems[:-1]}
    means: dict[str, list[float]] = {name: [] for name in systems}
    for name, data in judged.items():
        values = _systems(name, data, rows, list(rerankers), features, settings)
        for system in systems:
            means[system].append(math.fsum(values[system].values()) / len(data.queries))
        cells = [f"{means[system][-1]:.3f}" for system in systems]
        for system in systems[:-1]:
            difference = compare("ltr", system, MEASURE, values["ltr"], values[system]).difference
            differences[system].append(difference.mean)
            cells.append(f"{difference.mean:+.3f} [{difference.low:+.3f}, {difference.high:+.3f}]")
        print(f"| {name}, {len(data.queries)} queries | {' | '.join(cells)} |", flush=True)
    cells = [f"{math.fsum(means[system]) / len(judged):.3f}" for system in systems]
    for of_collections in differences.values():
        mean = estimate(of_collections)
        cells.append(f"{mean.mean:+.3f} [{mean.low:+.3f}, {mean.high:+.3f}]")
    print(f"| mean of the collections | {' | '.join(cells)} |")


def _rows(
    features: Features, rerankers: Sequence[Reranker], judged: Judged, depth: int, records: Path | None
) -> list[QueryRows]:
    answers = [
        answers_of(reranker, judged.queries, depth, records and str(records), 1, lambda done: None)
        for reranker in rerankers
    ]
    return [rows_of(features, query, [of[i] for of in answers], depth, NOW) for i, query in enumerate(judged.queries)]


def _systems(
    name: str,
    judged: Judged,
    rows: Mapping[str, Sequence[QueryRows]],
    configs: Sequence[str],
    features: Features,
    settings: LtrSettings,
) -> dict[str, Values]:
    """Return nDCG@10 of each system on one collection; the model is trained on the other ones."""
    others = [one for other, of in rows.items() if other != name for one in of if one.teaches]
    booster = fit(*hold_out(others, settings.hold_out, settings.seed), features.directions({}), settings)
    here = rows[name]
    values = {
        "first stage": _values(judged, here, [[-float(i) for i in one.where] for one in here]),
        "ltr": _values(judged, here, [list(booster.predict(one.rows)) if one.rows else [] for one in here]),
    }
    for config, label in zip(configs, features.rerankers, strict=True):
        column = features.names.index(f"{label}.rank")
        scores = [[-math.inf if math.isnan(row[column]) else -row[column] for row in one.rows] for one in here]
        values[config] = _values(judged, here, scores)
    return values


def _values(judged: Judged, rows: Sequence[QueryRows], scores: Sequence[Sequence[float]]) -> Values:
    orders = {}
    for one, of in zip(rows, scores, strict=True):
        best = [one.where[i] for i in sorted(range(len(of)), key=lambda i, of=of: -of[i])]
        rest = [i for i in range(len(one.query.candidates)) if i not in set(best)]
        orders[one.query.id] = [one.query.candidates[i].id for i in (*best, *rest)]
    return per_query(judged, orders, (MEASURE,))[MEASURE]


if __name__ == "__main__":
    main()
