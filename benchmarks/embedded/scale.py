"""Fit scale and offset of the head, so that a sigmoid of 0.5 separates relevant texts from the other candidates.

    python benchmarks/embedded/scale.py CHECKPOINT PAIRS.jsonl.gz ... [--queries 150] [--collection FOLDER ...]

CHECKPOINT is a folder of ``assemble.py`` without scale and offset. The queries are a sample of each file of pairs
(query, positive); each is scored with its positive and the 14 best others of BM25. A logistic regression over the
scores, in which the relevant texts weigh as much as all others together, gives the two numbers for ``assemble.py``.
So 0.5 does not depend on how many candidates a query has. Nothing else of the embedded model comes from this text.

For each file, the balanced accuracy at 0.5 of a fit on the other files is printed beside that of the best threshold;
for each judged collection, that of the whole fit, over the first 15 candidates of its first ``--judged`` queries.
"""

from __future__ import annotations

import argparse
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_curve

import rag_rerank
from rag_rerank.evaluation import read
from rag_rerank.training.data.hard_negatives import mine
from rag_rerank.training.data.read import read_examples

NEGATIVES = 14

Labelled = tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]
"""Scores, and whether each is of a relevant text."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint")
    parser.add_argument("pairs", type=Path, nargs="+")
    parser.add_argument("--queries", type=int, default=150, help="of each file of pairs")
    parser.add_argument("--collection", type=Path, action="append", default=[])
    parser.add_argument("--judged", type=int, default=60, help="queries of each collection")
    parser.add_argument("--relevant", type=int, default=1, help="lowest grade of a relevant text")
    options = parser.parse_args()
    with rag_rerank.build({"type": "late_interaction", "model": options.checkpoint}) as model:
        files = {file.name: scored_pairs(model, file, options.queries) for file in options.pairs}
        for name, scores in files.items():
            if len(files) > 1:
                report(name, fit([other for key, other in files.items() if key != name]), scores)
        fitted = fit(list(files.values()))
        print(f"--scale {fitted[0]:.3f} --offset {fitted[1]:.2f}", flush=True)
        for folder in options.collection:
            report(folder.name, fitted, scored_collection(model, folder, options.judged, options.relevant))


def scored_pairs(model: rag_rerank.Reranker, file: Path, queries: int) -> Labelled:
    """Score a sample of the queries of a file, each with its positive and others by BM25."""
    data = read_examples(file)
    sample = random.Random(0).sample(data.examples, min(queries, len(data.examples)))
    corpora: dict[str, dict[str, str]] = {}
    for example in data.examples:
        corpora.setdefault(example.source, {}).update({p.id: p.text for p in example.passages})
    scores, relevant = [], []
    few = replace(data, examples=tuple(sample))
    for example in mine(few, negatives=NEGATIVES, depth=NEGATIVES, corpora=corpora).examples:
        scores += model.score(example.query, [passage.text for passage in example.passages]).values
        relevant += [passage.origin == "positive" for passage in example.passages]
    return np.array(scores), np.array(relevant)


def scored_collection(model: rag_rerank.Reranker, folder: Path, queries: int, lowest: int) -> Labelled:
    """Score the first candidates of some queries; a text without a judgment counts as not relevant."""
    scores, relevant = [], []
    for query in read(folder, depth=NEGATIVES + 1, queries=queries).queries:
        if query.candidates:
            scores += model.score(query.text, [candidate.text for candidate in query.candidates]).values
            relevant += [query.grades.get(candidate.id, 0) >= lowest for candidate in query.candidates]
    return np.array(scores), np.array(relevant)


def fit(files: list[Labelled]) -> tuple[float, float]:
    """Return scale and offset."""
    scores, relevant = map(np.concatenate, zip(*files, strict=True))
    fitted = LogisticRegression(C=1e6, class_weight="balanced").fit(scores[:, None], relevant)
    return float(fitted.coef_[0][0]), float(fitted.intercept_[0])


def report(name: str, fitted: tuple[float, float], scored: Labelled) -> None:
    """Print the mean of the shares of relevant and of other texts on the right side of 0.5, and the best such mean."""
    scores, relevant = scored
    scale, offset = fitted
    above = scale * scores + offset >= 0
    balanced = (above[relevant].mean() + (~above[~relevant]).mean()) / 2
    others, right, _ = roc_curve(relevant, scores)
    print(
        f"{name}: balanced accuracy {balanced:.3f} at 0.5, {(1 + (right - others).max()) / 2:.3f} at best", flush=True
    )


if __name__ == "__main__":
    main()
