"""Does a threshold survive a change of the model? Count the texts above it, raw and calibrated, for each model.

    python benchmarks/calibration.py COLLECTIONS --collection nq-qed --collection xquad-en --collection scifact
        --collection trec-dl19 --bi-encoder all-MiniLM-L6-v2 --cache scores.db

COLLECTIONS is a folder with one folder per collection, as `rag_rerank.evaluation.read` takes them. Every model
scores the first ``--depth`` candidates of the first stage, for the first ``--queries`` queries. Candidates without a
judgment always count as not relevant, since most of these collections name relevant documents only.

The maps are fitted in two ways, one map for each model, on the same queries:

- ``others``: fitted on all the other collections together, tested on one.
- ``own``: fitted on every second query of a collection, tested on the others.

For each threshold and pair of models it prints how many texts each keeps, and by how much the larger set exceeds the
smaller (0 % is the same size). ``raw`` uses the presented scores without a map. Pairs in which one set has less than 20
texts are printed but not counted, since 20 % of them is a text or two.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

import rag_rerank
from rag_rerank import (
    Cached,
    Calibrated,
    CalibrationWarning,
    InputError,
    PointwiseReranker,
    Ranking,
    Reranker,
    TruncationWarning,
)
from rag_rerank.backends.embedding import EmbeddingReranker
from rag_rerank.evaluation import Judged, calibrate, read
from rag_rerank.evaluation.calibration.calibrate import reliability

THRESHOLDS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
LEAST = 20


@dataclass(frozen=True)
class ModelScores:
    """The scores of one model on one collection."""

    rankings: Sequence[Ranking]
    judged: Judged

    def count_above(self, threshold: float) -> int:
        return sum(hit.score is not None and hit.score >= threshold for r in self.rankings for hit in r)

    @property
    def ece(self) -> float:
        pairs = [
            (hit.score, query.grades.get(hit.id, 0) >= self.judged.relevant)
            for query, ranking in zip(self.judged.queries, self.rankings, strict=True)
            for hit in ranking
            if hit.score is not None
        ]
        scores, relevant = zip(*pairs, strict=True)
        return reliability(scores, relevant).ece


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("collections", type=Path)
    parser.add_argument("--collection", action="append", required=True)
    parser.add_argument("--reranker", action="append", help="name or config file; embedded and lexical by default")
    parser.add_argument("--bi-encoder", help="embedding model: a folder, or a hub id")
    parser.add_argument("--queries", type=int, default=80)
    parser.add_argument("--depth", type=int, default=30)
    parser.add_argument("--method", default="auto")
    parser.add_argument("--cache", type=Path, help="file that keeps the scores for the next run")
    options = parser.parse_args()
    warnings.simplefilter("ignore", TruncationWarning)
    warnings.simplefilter("ignore", CalibrationWarning)
    path = str(options.cache) if options.cache else None
    models: list[Reranker] = [rag_rerank.build(spec) for spec in options.reranker or ("embedded", "lexical")]
    models += [EmbeddingReranker(model=options.bi_encoder)] if options.bi_encoder else []
    models = [Cached(reranker=m, path=path) if _cacheable(m) else m for m in models]
    data = {
        name: read(
            options.collections / name,
            depth=options.depth,
            queries=options.queries,
            relevant=2 if name.startswith("trec-dl") else 1,  # the usual grade from which on a text is relevant
        )
        for name in options.collection
    }
    for name, judged in data.items():
        candidates = [
            query.grades.get(c.id, 0) >= judged.relevant for query in judged.queries for c in query.candidates
        ]
        print(f"{name}: {len(judged.queries)} queries, {len(candidates)} candidates, {_share(candidates)} relevant")
        for model in models:
            _score(model, judged)
    for source in ("others", "own"):
        close, cases = {"raw": 0, "calibrated": 0}, 0
        for name, judged in data.items():
            even, odd = (replace(judged, queries=judged.queries[start::2]) for start in (0, 1))
            fit = [other for other in data.values() if other is not judged] if source == "others" else [even]
            test = judged if source == "others" else odd
            calibrated: dict[Reranker, ModelScores] = {}
            print(f"\n{name}, fitted on {source}")
            for model in models:
                try:
                    fitted_map = calibrate(model, fit, method=options.method, unjudged="not relevant")
                except InputError as error:
                    print(f"  {_label(model)}: no map, {error}")
                    continue
                tested = calibrated[model] = _score(Calibrated(reranker=model, map=fitted_map), test)
                print(
                    f"  {_label(model)}: {fitted_map.method}, {fitted_map.fitted.pairs} candidates, "
                    f"{fitted_map.fitted.prior:.1%} relevant, ECE "
                    f"there {fitted_map.fitted.after.ece:.3f}, here {tested.ece:.3f}"
                )
            for one, other in combinations(calibrated, 2):
                print(f"  {_label(one)} | {_label(other)}")
                raw = _score(one, test), _score(other, test)
                for threshold in THRESHOLDS:
                    before = raw[0].count_above(threshold), raw[1].count_above(threshold)
                    after = calibrated[one].count_above(threshold), calibrated[other].count_above(threshold)
                    is_case = min(after) >= LEAST
                    few = "" if is_case else "  (few)"
                    print(
                        f"    at {threshold:4.2f}  raw {before[0]:5} {before[1]:5} {_excess(before)}   "
                        f"calibrated {after[0]:5} {after[1]:5} {_excess(after)}{few}",
                        flush=True,
                    )
                    if is_case:
                        cases += 1
                        close["raw"] += max(before) < 1.2 * min(before)
                        close["calibrated"] += max(after) < 1.2 * min(after)
        print(f"\n{source}: under 20 % in {close['calibrated']} of {cases} cases calibrated, {close['raw']} raw")


def _score(model: Reranker, judged: Judged) -> ModelScores:
    return ModelScores([model.rerank(query.text, query.candidates) for query in judged.queries], judged)


def _cacheable(model: Reranker) -> bool:
    return isinstance(model, PointwiseReranker) and model.why_not_cacheable is None


def _label(model: Reranker) -> str:
    return model.reranker.label if isinstance(model, Cached) else model.label


def _share(values: Sequence[bool]) -> str:
    return f"{sum(values) / len(values):.1%}"


def _excess(counts: tuple[int, int]) -> str:
    return f"{max(counts) / min(counts) - 1:7.0%}" if min(counts) else "      –"


if __name__ == "__main__":
    main()
