"""The settings of a training of learning to rank."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from rag_rerank._checks import finite_positive, number, plain_fields, whole_number
from rag_rerank.errors import ConfigError

__all__ = ["LtrSettings"]


@dataclass(frozen=True, kw_only=True)
class LtrSettings:
    """Few settings, safe for small data: shallow trees, small steps, early stopping, constraints that keep the order.

    Args:
        rounds: The largest number of trees.
        patience: Stop after this many trees without a better nDCG@10 on the held-out queries.
        learning_rate: The weight of each tree.
        leaves: The largest number of leaves of a tree.
        min_texts: The smallest number of candidates in a leaf.
        l2: The L2 penalty on the values of the leaves.
        hold_out: The share of the queries that early stopping measures on, between 0 and 1.
        folds: The number of parts of the queries; each is measured with a model that was trained without it.
        monotone: Feature name -> 1 where a larger value is never worse, -1 where a smaller one is never worse, 0 for no
            constraint. Others keep those of `rag_rerank.compose.ltr.features.DIRECTIONS`.
        seed: The seed of the split and of LightGBM; the same data and seed give the same model.

    Raises:
        ConfigError: A value is out of its range.
    """

    rounds: int = 500
    patience: int = 50
    learning_rate: float = 0.05
    leaves: int = 7
    min_texts: int = 50
    l2: float = 1.0
    hold_out: float = 0.2
    folds: int = 5
    monotone: Mapping[str, int] = field(default_factory=dict)
    seed: int = 0

    def __post_init__(self) -> None:
        plain_fields(self)
        for name, least in {"rounds": 1, "patience": 1, "leaves": 2, "min_texts": 1, "folds": 2, "seed": 0}.items():
            whole_number(getattr(self, name), least, name)
        finite_positive(self.learning_rate, "learning_rate")
        number(self.l2, "l2", 0)
        if not 0 < number(self.hold_out, "hold_out") < 1:
            raise ConfigError(f"must be between 0 and 1, got {self.hold_out}", path="hold_out")
