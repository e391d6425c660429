"""Models of learning to rank, trained by LightGBM on random rows in some milliseconds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np

from rag_rerank import Reranker
from rag_rerank.compose import Features, LtrModel, LtrProvenance, TrainedReranker

FITTED = LtrProvenance(
    data="by hand",
    fingerprint="0" * 64,
    queries=50,
    pairs=500,
    now="2026-11-01T00:00:00+00:00",
    rounds=20,
    ndcg=0.7,
    first_stage=0.6,
    difference=(0.1, 0.05, 0.15),
    verdict="Rerank with ltr.",
    settings={},
    version="0.1.0",
    lightgbm="4.5.0",
    date="2026-11-21",
)

OF_TEXTS = ("first_stage_rank", "first_stage_score", "first_stage_gap", "bm25", "bm25_gap", "words", "match_share")
WITHOUT_TEXTS = (*OF_TEXTS, "first_match")
"""All features that no reranker gives."""


@cache
def trees(columns: int, low: float = 0.0, high: float = 1.0) -> str:
    """Return trees that add up all columns, of values between low and high; some are missing."""
    random = np.random.default_rng(columns)
    rows = random.uniform(low, high, (400, columns))
    target = rows.sum(axis=1)
    rows[random.uniform(size=rows.shape) < 0.1] = np.nan
    parameters = {"objective": "regression", "num_leaves": 7, "min_data_in_leaf": 5, "verbose": -1, "num_threads": 1}
    return str(lightgbm.train(parameters, lightgbm.Dataset(rows, target), 20).model_to_string())


def model_of(
    rerankers: Sequence[Reranker] = (), *, trees_for: Callable[[int], str] = trees, **features: Any
) -> LtrModel:
    """Return a model for rerankers, over features; by default over those of texts and rerankers."""
    made = Features(rerankers=tuple(reranker.label for reranker in rerankers), **features)
    return LtrModel(
        features=made,
        rerankers=tuple(TrainedReranker(label=one.label, scale=one.scale, identity=one.identity) for one in rerankers),
        monotone=made.directions({}),
        trees=trees_for(len(made.names)),
        fitted=FITTED,
    )


def write_model(folder: Path, rerankers: Sequence[Reranker] = (), **options: Any) -> str:
    """Write `model_of` into a folder; return the path."""
    path = folder / "ltr.json"
    model_of(rerankers, **options).save(path)
    return str(path)
