"""LambdaMART by LightGBM, on rows of features grouped by query."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

from rag_rerank._lazy import need
from rag_rerank.training.ltr.queries import QueryRows
from rag_rerank.training.ltr.settings import LtrSettings

__all__ = ["fit"]

_CUTOFF = 10
"""Early stopping measures nDCG at this rank."""

_FEWEST_ROUNDS = 20
"""The smallest number of trees: on few held-out queries the first tree is often the best by chance, and one tree has
too few different scores to order a list. Patience is never less, so that there are as many."""

_SMALL_WEIGHT = 1e-3
"""The weight of the pair that teaches missing values, beside 1 for each candidate."""

_TRUNCATION = 20
"""Pairs with a candidate above this rank are learnt from (``lambdarank_truncation_level``): LightGBM's advice is
a little above the cutoff of the measure."""


def fit(
    training: Sequence[QueryRows],
    validation: Sequence[QueryRows],
    directions: Mapping[str, int],
    settings: LtrSettings,
) -> Any:
    """Return a ``lightgbm.Booster``, cut to the number of trees with the best nDCG@10 on the validation.

    The gain of a grade is the grade, as in trec_eval. One more pair with a tiny weight says that a text without any
    value is below one with usual values: LightGBM keeps a branch for missing values only where it has seen some, and
    would read others as 0; and where nothing else teaches it, what is missing is no better than what is worst.

    Args:
        training: Queries to train on.
        validation: Other queries, to stop by.
        directions: The monotone constraint of each feature, in the order of a row.
        settings: The settings.
    """
    lightgbm = need("lightgbm", extra="ltr")

    names = list(directions)
    matrix, grades, groups, weights = _training_arrays(training, "source" in names and names.index("source"))
    gains = list(range(1 + max(int(grades.max()), max((max(one.grades) for one in validation), default=0))))
    parameters = {
        "objective": "lambdarank",
        "metric": "ndcg",
        "eval_at": [_CUTOFF],
        "label_gain": gains,
        "lambdarank_truncation_level": _TRUNCATION,
        "learning_rate": settings.learning_rate,
        "num_leaves": settings.leaves,
        "min_data_in_leaf": settings.min_texts,
        "min_sum_hessian_in_leaf": 0.0,
        "lambda_l2": settings.l2,
        "monotone_constraints": list(directions.values()),
        "monotone_constraints_method": "advanced",
        "bin_construct_sample_cnt": len(matrix),
        "seed": settings.seed,
        "deterministic": True,
        "force_row_wise": True,
        "verbose": -1,
    }
    categories = [names.index("source")] if "source" in names else []
    data = lightgbm.Dataset(
        matrix, grades, group=groups, weight=weights, categorical_feature=categories, params=parameters
    )
    held_out = lightgbm.Dataset(
        _matrix(validation),
        [grade for one in validation for grade in one.grades],
        group=[len(one.rows) for one in validation],
        reference=data,
    )
    stop = lightgbm.early_stopping(max(settings.patience, _FEWEST_ROUNDS), verbose=False)
    booster = lightgbm.train(parameters, data, settings.rounds, valid_sets=[held_out], callbacks=[stop])
    text = booster.model_to_string(num_iteration=max(booster.best_iteration, min(settings.rounds, _FEWEST_ROUNDS)))
    return lightgbm.Booster(model_str=text)


def _matrix(queries: Sequence[QueryRows]) -> Any:
    import numpy as np

    return np.array(list(chain.from_iterable(one.rows for one in queries)), dtype=np.float64)


def _training_arrays(queries: Sequence[QueryRows], category: int | bool) -> tuple[Any, Any, list[int], Any]:
    """Return rows, grades, group sizes and weights, with the pair that teaches missing values at the end."""
    import numpy as np

    matrix = _matrix(queries)
    usual = np.array(
        [np.median(column[~np.isnan(column)]) if (~np.isnan(column)).any() else 0.0 for column in matrix.T]
    )
    if category is not False:
        usual[category] = np.nan
    pair = np.stack([usual, np.full(len(usual), np.nan)])
    grades = np.array([*chain.from_iterable(one.grades for one in queries), 1, 0])
    weights = np.array([1.0] * len(matrix) + [_SMALL_WEIGHT] * 2)
    return np.concatenate([matrix, pair]), grades, [*(len(one.rows) for one in queries), 2], weights
