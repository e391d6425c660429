"""Measure how well an answer's scores tell lists with an answer from their twins without, on collections not fitted.

    python benchmarks/answerability.py COLLECTIONS --collection nq-qed --collection scifact ...
        --config embedded=embedded.yaml --config lexical --queries 60

COLLECTIONS is a folder with one folder per collection, as `rag_rerank.evaluation.read` takes them. A list is the
first k candidates of a query that has a relevant one among them. Its twin has no relevant one: ``removed``
is the same list without them, ``filled`` has the next other candidates in their places, so that it is as long. Each
collection is judged by a map that was fitted on all others; the figure is the area under the ROC curve (AUROC), and the
mean over collections is the macro average. A config with a store of vectors makes a second run fast.
"""

from __future__ import annotations

import argparse
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import fmean, pstdev

import rag_rerank
from rag_rerank import Hit, Reranker
from rag_rerank.backends.late_interaction import LateInteractionReranker
from rag_rerank.compose.calibration.answerability_map import FEATURES, features_of
from rag_rerank.compose.calibration.calibration_map import logistic
from rag_rerank.errors import RerankWarning
from rag_rerank.evaluation import read
from rag_rerank.evaluation.calibration.answerability import auroc, conformal_threshold
from rag_rerank.evaluation.calibration.calibrate import fit_logistic, quality_of

Features = Mapping[str, float]
Pairs = Sequence[tuple[Features, Features]]

SETS = (
    *(("top",), ("margin",), ("lead",), ("spread",), ("place",), ("weakest",)),
    *(FEATURES, ("top", "margin"), ("top", "spread"), ("top", "weakest"), ("top", "place")),
    *(("top", "margin", "spread"), ("top", "lead", "weakest"), ("top", "margin", "lead", "spread")),
    ("top", "margin", "lead", "spread", "weakest"),
)
"""Features that are measured alone and together; ``weakest`` only where the model has it."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("collections", type=Path)
    parser.add_argument("--collection", action="append", required=True)
    parser.add_argument("--config", action="append", required=True, help="NAME or NAME=FILE")
    parser.add_argument("--depth", type=int, default=100)
    parser.add_argument("--queries", type=int)
    parser.add_argument("--k", type=int, action="append", help="length of the lists; by default 10, 20 and 100")
    options = parser.parse_args()
    warnings.simplefilter("ignore", RerankWarning)
    for config in options.config:
        name, _, file = config.partition("=")
        with rag_rerank.build(file or name) as reranker:
            answers = {
                collection: list(_answers(reranker, options.collections / collection, options.depth, options.queries))
                for collection in options.collection
            }
        for k in options.k or [10, 20, 100]:
            for filled in (False, True)[: 1 + (k < options.depth)]:
                print("\n".join(_report(name, answers, k, filled=filled)), flush=True)


@dataclass(frozen=True)
class Answer:
    """The hits of a query that have a score, the ids of the relevant ones, places in the first stage, and a signal.

    ``weakest`` returns the signal of that name for a hit; ``None`` where the model has none.
    """

    hits: Sequence[Hit]
    relevant: frozenset[str]
    places: Mapping[str, int]
    weakest: Callable[[Hit], float] | None

    def pair(self, k: int, *, filled: bool) -> tuple[Features, Features] | None:
        """Return the features of the list of the first k candidates, and of its twin."""
        first = [hit for hit in self.hits if self.places[hit.id] <= k]
        if all(hit.id not in self.relevant for hit in first):
            return None
        twin = [hit for hit in (self.hits if filled else first) if hit.id not in self.relevant]
        twin = sorted(sorted(twin, key=lambda hit: self.places[hit.id])[:k], key=lambda hit: hit.rank)
        answered, without = self._features(first), self._features(twin)
        return None if answered is None or without is None else (answered, without)

    def _features(self, hits: Sequence[Hit]) -> Features | None:
        scores = [hit.raw_score for hit in hits if hit.raw_score is not None]
        own = features_of(scores)
        if own is None:
            return None
        features = dict(zip(FEATURES, own, strict=True))
        features |= {"margin": scores[0] - scores[1], "spread": pstdev(scores)}
        before = sum(self.places[hit.id] < self.places[hits[0].id] for hit in hits)  # not those that a twin lacks
        features["place"] = -math.log(1 + before)
        return features if self.weakest is None else features | {"weakest": self.weakest(hits[0])}


def _answers(reranker: Reranker, folder: Path, depth: int, queries: int | None) -> Iterator[Answer]:
    judged = read(folder, depth=depth, queries=queries)
    for query in judged.queries:
        ranking = reranker.rerank(query.text, query.candidates)
        yield Answer(
            [hit for hit in ranking if hit.raw_score is not None],
            frozenset(id for id, grade in query.grades.items() if grade >= judged.relevant),
            {candidate.id: place for place, candidate in enumerate(query.candidates, start=1)},
            _weakest(reranker, query.text),
        )


def _weakest(reranker: Reranker, query: str) -> Callable[[Hit], float] | None:
    """Return a function from a hit to the signal ``weakest``; ``None`` where the reranker has no signals."""
    if not isinstance(reranker, LateInteractionReranker) or reranker.scale != "sigmoid":
        return None

    @cache
    def of_text(text: str) -> float:
        return next(signal.value for signal in reranker.explain(query, text).signals if signal.name == "weakest")

    return lambda hit: of_text(hit.text)


def _report(name: str, answers: Mapping[str, Sequence[Answer]], k: int, *, filled: bool) -> Iterator[str]:
    found = {
        collection: [pair for answer in of_collection if (pair := answer.pair(k, filled=filled))]
        for collection, of_collection in answers.items()
    }
    pairs = {collection: of_collection for collection, of_collection in found.items() if of_collection}
    known = {feature for of_collection in pairs.values() for feature in of_collection[0][0]}
    yield f"\n{name}, first {k} candidates, twins {'filled' if filled else 'removed'}\n"
    yield "| features | macro | " + " | ".join(f"{c}, {len(pairs[c])}" for c in pairs) + " |"
    yield "|---|---:" * 2 + "|---:" * (len(pairs) - 1) + "|"
    for features in SETS:
        if {*features} <= known:
            areas = [auroc(*_held_out(pairs, collection, features)) for collection in pairs]
            yield f"| {', '.join(features)} | {fmean(areas):.3f} | " + " | ".join(f"{a:.2f}" for a in areas) + " |"
    qualities, accepted = [], []
    for collection in pairs:
        answered, twins = _held_out(pairs, collection, FEATURES)
        qualities.append(quality_of([*answered, *twins], [True] * len(answered) + [False] * len(twins)).ece)
        others = [p for other in pairs if other != collection for p in _held_out(pairs, other, FEATURES)[1]]
        threshold = conformal_threshold(others, 0.1)
        accepted.append(fmean(p >= threshold for p in twins))
    yield (
        f"\n{', '.join(FEATURES)}: ECE {min(qualities):.2f} to {max(qualities):.2f}, mean {fmean(qualities):.2f}; a "
        f"threshold for 10 % false accepts, found on the other collections, accepts {min(accepted):.0%} to "
        f"{max(accepted):.0%} of the twins, mean {fmean(accepted):.0%}"
    )


def _held_out(pairs: Mapping[str, Pairs], collection: str, features: Sequence[str]) -> tuple[list[float], list[float]]:
    """Return the probabilities of a collection's lists, and of their twins, by a map fitted on the others."""
    others = [pair for name, of_name in pairs.items() if name != collection for pair in of_name]
    examples = [list_ for pair in others for list_ in pair]
    columns = [[example[feature] for example in examples] for feature in features]
    weights, intercept = fit_logistic(columns, [True, False] * len(others))

    def probability(example: Features) -> float:
        return logistic(intercept + sum(w * example[name] for w, name in zip(weights, features, strict=True)))

    answered, twins = zip(*pairs[collection], strict=True)
    return list(map(probability, answered)), list(map(probability, twins))


if __name__ == "__main__":
    main()
