"""Fit scale and offset of the head, so that its sigmoid is a probability among candidates of BM25.

    python benchmarks/embedded/scale.py CHECKPOINT PAIRS.jsonl.gz ... [--queries 500]

CHECKPOINT is a folder of ``assemble.py`` without scale and offset. The queries are a sample of each file of pairs
(query, positive); each is scored with its positive and the 14 best others of BM25. A logistic regression over the
scores gives the two numbers for ``assemble.py``. Nothing else of the embedded model comes from this text.
"""

from __future__ import annotations

import argparse
import random
from dataclasses import replace
from pathlib import Path

import rag_rerank
from rag_rerank.training.data.hard_negatives import mine
from rag_rerank.training.data.read import read_examples

NEGATIVES = 14


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint")
    parser.add_argument("pairs", type=Path, nargs="+")
    parser.add_argument("--queries", type=int, default=500)
    options = parser.parse_args()
    from sklearn.linear_model import LogisticRegression

    scores, relevant = [], []
    with rag_rerank.build({"type": "torch", "model": options.checkpoint}) as model:
        for file in options.pairs:
            data = read_examples(file)
            sample = random.Random(0).sample(data.examples, min(options.queries, len(data.examples)))
            corpora: dict[str, dict[str, str]] = {}
            for example in data.examples:
                corpora.setdefault(example.source, {}).update({p.id: p.text for p in example.passages})
            few = replace(data, examples=tuple(sample))
            for example in mine(few, negatives=NEGATIVES, depth=NEGATIVES, corpora=corpora).examples:
                scores += model.score(example.query, [passage.text for passage in example.passages]).values
                relevant += [passage.origin == "positive" for passage in example.passages]
            print(f"{file.name}: {len(sample)} queries", flush=True)
    fitted = LogisticRegression(C=1e6).fit([[score] for score in scores], relevant)
    print(f"--scale {fitted.coef_[0][0]:.2f} --offset {fitted.intercept_[0]:.1f}")


if __name__ == "__main__":
    main()
