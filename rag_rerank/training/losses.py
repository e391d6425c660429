"""The losses by name: what each learns from, and sentence-transformers' class for it.

With a query's logits ``s`` and labels ``y``, one passage each:

==========  ============================================================================================  ============
name        formula, mean over queries or pairs                                                           learns from
==========  ============================================================================================  ============
listwise    ``-sum_i P_i log softmax(s)_i``; ``P_i = y_i / sum(y)`` of grades (the softmax loss of        grades, or a
            Zhuang et al. 2022, RankT5), ``P = softmax(y)`` of a teacher's scores (Cao et al. 2007,       teacher
            ListNet's top-one probabilities)
bce         ``-y log sigmoid(s) - (1 - y) log(1 - sigmoid(s))``; ``y = 1`` from grade 1 on                grades
margin-mse  ``((s_i - s_j) - (y_i - y_j))^2`` over the pairs of a query (Hofstätter et al. 2020, who      a teacher
            take the pairs of a relevant passage and another)
ranknet     ``log2(1 + exp(-(s_i - s_j)))`` over the pairs with ``y_i > y_j`` (Burges et al. 2005)        grades, or a
                                                                                                          teacher
lambda      ranknet's terms, each weighted by ``10 * rho + lambda`` for nDCG (Wang et al. 2018,           grades
            LambdaLoss, NDCG-Loss2++)
==========  ============================================================================================  ============

Grades of 0 and below count as 0. A mined passage that has no judgment counts as not relevant.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from rag_rerank.errors import InputError
from rag_rerank.training.data.examples import Example, Passage
from rag_rerank.training.settings import Loss

__all__ = ["FROM_TEACHER", "build_loss", "check_labels", "label_passages"]

FROM_TEACHER = ("listwise", "margin-mse", "ranknet")
"""Losses that can learn from a teacher's scores. ``"listwise"`` and ``"ranknet"`` use the grades of a query that has
any."""

_MINED = ("bm25", "bi-encoder", "model", "random")
"""Origins of mined negatives."""

_GAINS: dict[Loss, Callable[[float], float]] = {
    "listwise": lambda grade: math.log(grade) if grade > 0 else -math.inf,  # softmax(log y) = y / sum(y)
    "bce": lambda grade: float(grade > 0),
    "ranknet": lambda grade: max(0.0, grade),
    "lambda": lambda grade: max(0.0, grade),
}
"""Label of a grade, for the losses that learn from grades."""


def label_passages(loss: Loss, example: Example) -> list[tuple[Passage, float]]:
    """Return the passages of an example that a loss can learn from, each with its label; empty if there are none.

    All losses but ``"bce"`` learn from differences: they learn nothing from a query whose passages have one label.
    """
    labels: list[tuple[Passage, float]] = []
    gain = _GAINS.get(loss)
    if gain is not None and any(passage.grade is not None for passage in example.passages):
        grades = [(passage, _grade(passage)) for passage in example.passages]
        labels = [(passage, gain(grade)) for passage, grade in grades if grade is not None]
    elif loss in FROM_TEACHER:
        labels = [(passage, passage.teacher) for passage in example.passages if passage.teacher is not None]
    return labels if loss == "bce" or len({label for _, label in labels}) > 1 else []


def _grade(passage: Passage) -> float | None:
    return 0.0 if passage.grade is None and passage.origin in _MINED else passage.grade


def check_labels(loss: Loss, rows: Sequence[Sequence[tuple[Passage, float]]]) -> None:
    """Refuse data from which a loss learns nothing.

    Raises:
        InputError: No query is left, or all passages are of one class; the message says how to get what is missing.
    """
    if loss == "bce" and len({label for row in rows for _, label in row}) < 2:
        raise InputError(
            'nothing to learn from: "bce" needs relevant passages and others, and all here are of one class; have '
            "negatives mined (--mine bm25)"
        )
    if rows:
        return
    if loss == "margin-mse":
        raise InputError(
            'nothing to learn from: "margin-mse" imitates a teacher, and no query has two passages with different '
            "teacher scores; have them scored (rag-rerank distil --teacher CONFIG, or --filter-teacher CONFIG)"
        )
    raise InputError(
        f"nothing to learn from: for {loss!r}, some query must have two passages that differ in grade, one of them "
        "relevant; have negatives mined (--mine bm25)"
        + ("" if loss in FROM_TEACHER else '; teacher scores alone teach "listwise", "margin-mse" and "ranknet"')
    )


def build_loss(loss: Loss, model: Any) -> Any:
    """Return the loss as a module that takes ``(queries, lists of passages)`` and lists of labels."""
    import torch
    from sentence_transformers.cross_encoder import losses

    whole = -1  # one forward pass for the texts of a step; smaller ones would not save memory, only time

    class Bce(losses.BinaryCrossEntropyLoss):  # type: ignore[misc]
        def forward(self, inputs: Any, labels: Any, prompt: None = None, task: None = None) -> Any:
            pairs = [(query, text) for query, texts in zip(*inputs, strict=True) for text in texts]
            return super().forward(list(zip(*pairs, strict=True)), torch.cat(labels).to(self.model.device))

    class MarginMse(losses.MarginMSELoss):  # type: ignore[misc]
        def forward(self, inputs: Any, labels: Any, prompt: None = None, task: None = None) -> Any:
            pairs = [(query, text) for query, texts in zip(*inputs, strict=True) for text in texts]
            logits = self.logits_from_pairs(pairs).float().split([len(texts) for texts in inputs[1]])
            targets = [row.to(self.model.device).float() for row in labels]
            return self.loss_fct(torch.cat([*map(_margins, logits)]), torch.cat([*map(_margins, targets)]))

    builders: dict[Loss, Callable[[], Any]] = {
        "listwise": lambda: losses.ListNetLoss(model, mini_batch_size=whole),
        "bce": lambda: Bce(model),
        "margin-mse": lambda: MarginMse(model),
        "ranknet": lambda: losses.RankNetLoss(model, mini_batch_size=whole),
        "lambda": lambda: losses.LambdaLoss(model, mini_batch_size=whole),
    }
    return builders[loss]()


def _margins(scores: Any) -> Any:
    """Return the difference of each pair, the earlier less the later."""
    import torch

    first, second = torch.triu_indices(len(scores), len(scores), offset=1, device=scores.device)
    return scores[first] - scores[second]
