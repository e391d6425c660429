"""A new head: its weights start as random numbers, and it must not be written unless it has learnt something."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean, stdev
from typing import Any

from rag_rerank.errors import InputError
from rag_rerank.training.dataset import TrainingRows
from rag_rerank.training.early_stopping import Point
from rag_rerank.training.settings import TrainingSettings
from rag_rerank.training.validation import MEASURE, VALIDATION_BATCH

__all__ = ["SAMPLE", "check_curve", "check_order", "pair_accuracies"]

SAMPLE = 64
"""Queries of the training on which a new head is examined where there is no validation: enough to tell 60 % from
chance, and a few seconds of work."""

_ONE_SIDED = 1.645
"""Quantile of the normal distribution: a head without skill passes the test on one of twenty."""


def check_curve(curve: Sequence[Point], best_step: int, name: str, settings: TrainingSettings) -> None:
    """Refuse a new head that no step made better on the validation.

    A validation on which random weights reach 1 cannot tell, and refuses nothing.

    Raises:
        InputError: No step ranks the validation better than the random weights do.
    """
    before = curve[0].ndcg
    after = next(point.ndcg for point in curve if point.step == best_step)
    if before is None or after is None or after > before or before == after == 1:
        return
    raise _nothing_learnt(
        name,
        f"{MEASURE} on the validation is {after:.4f} after the best step, and {before:.4f} with random weights",
        settings,
    )


def check_order(before: Any, after: Any, rows: TrainingRows, name: str, settings: TrainingSettings) -> None:
    """Refuse a new head that does not even order the passages that it was trained on.

    Args:
        before: sentence-transformers' `CrossEncoder` with the random weights.
        after: The one that was trained.
        rows: The training data.
        name: The base's name, for the message.
        settings: The settings, for the message.

    Raises:
        InputError: Its order is no better than chance, or than that of the random weights.
    """
    first, last = pair_accuracies(before, rows), pair_accuracies(after, rows)
    mean, margin = fmean(last), 0.0
    if len(last) > 1:
        margin = _ONE_SIDED * stdev(last) / math.sqrt(len(last))
    if mean - margin > 0.5 and mean > fmean(first):
        return
    raise _nothing_learnt(
        name,
        f"of the pairs of passages that it was trained on it orders {mean:.0%} as their labels do, the random weights "
        f"{fmean(first):.0%}, and chance 50%",
        settings,
    )


def pair_accuracies(model: Any, rows: TrainingRows) -> list[float]:
    """Return the share of the pairs of passages with different labels that a model orders by them, for each query.

    Equal logits count half. Where no query has passages of different labels, all passages are taken as one query's.
    """
    import torch

    sample = [rows.row(number) for number in range(min(SAMPLE, rows.queries, len(rows)))]
    texts = [(query, text) for query, passages, _ in sample for text in passages]
    logits = iter(
        model.predict(
            texts, batch_size=VALIDATION_BATCH, show_progress_bar=False, activation_fn=torch.nn.Identity()
        ).tolist()
    )
    scored = [[(next(logits), label) for label in labels] for _, _, labels in sample]
    groups = [group for group in scored if len({label for _, label in group}) > 1]
    return [_accuracy(group) for group in groups or [[pair for group in scored for pair in group]]]


def _accuracy(group: Sequence[tuple[float, float]]) -> float:
    outcomes = [
        1.0 if better > worse else 0.5 if better == worse else 0.0
        for better, high in group
        for worse, low in group
        if high > low
    ]
    return fmean(outcomes)


def _nothing_learnt(name: str, finding: str, settings: TrainingSettings) -> InputError:
    return InputError(
        f"{name} has no trained head, and the new one learnt nothing: {finding}. Nothing is written. Train longer than "
        f"{settings.epochs:g} epochs, with a larger learning rate than {settings.learning_rate:g}, or on more queries; "
        "or start from a reranker, such as minilm"
    )
