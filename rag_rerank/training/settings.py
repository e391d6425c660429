"""Settings that say how a model is trained."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from rag_rerank._checks import one_of, plain_fields, whole_number
from rag_rerank.errors import ConfigError

__all__ = ["Loss", "Precision", "TrainingSettings"]

Loss = Literal["listwise", "bce", "margin-mse", "ranknet", "lambda"]
"""Names of the losses; see `rag_rerank.training.losses` for the formulas."""

Precision = Literal["fp32", "bf16"]


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """The settings of a training; the constructor is the schema.

    "BERT" below is the fine-tuning recipe of Devlin et al. 2019 (appendix A.3), which these models come from.

    Args:
        loss: The loss. ``"listwise"`` (softmax over a query's passages) by default: it needs one relevant passage a
            query and nothing else, and makes the best use of hard negatives in Gao et al. 2021 (LCE).
        epochs: How often each query is used; 2.5 ends in the middle of the third pass. BERT: 2 to 4.
        batch: Queries in one step. BERT: 16 or 32; each query here brings `passages` texts, so the smaller one.
        learning_rate: Peak of AdamW's step size. BERT: 2e-5 to 5e-5. It rises from 0 over the warmup and falls to 0 at
            the last step, both in a straight line.
        warmup: Share of the steps, 0 to 1, in which the step size rises. BERT: 0.1.
        weight_decay: AdamW's, on matrices only. BERT: 0.01.
        max_length: Window in tokens, for query, passage and special tokens together; longer passages are cut. It is
            also the window that the trained model declares, since its quality beyond is unknown. Time and memory
            grow with it; 256 holds most chunks of a RAG corpus.
        passages: Maximum number of passages per query in one step. If a query has more, each pass samples others,
            always with two that differ. LCE: 8.
        evaluate_every: Steps between two validations; there is one before the first step and one after the last.
        patience: Validations in a row without a better nDCG@10 after which training stops. ``None`` never stops early.
        checkpoint_every: Steps between two checkpoints: what an interruption costs at most. Each best validation has
            one, too.
        seed: Seed of order, sampling, dropout and a new head.
        freeze: How many of the lowest layers stay as they are, the embeddings with them; 0 trains all. It saves time
            and memory, and keeps a general model general where data are few.
        device: ``"auto"`` takes ``cuda``, else ``mps``, else ``cpu``; or any name of a torch device. Only on a CPU does
            a resumed run surely end with the same weights, bit by bit.
        precision: ``"bf16"`` computes in bfloat16 by autocast, with fp32 weights: faster on GPUs that have it.

    Raises:
        ConfigError: A value is out of its range.
    """

    loss: Loss = "listwise"
    epochs: float = 3
    batch: int = 16
    learning_rate: float = 2e-5
    warmup: float = 0.1
    weight_decay: float = 0.01
    max_length: int = 256
    passages: int = 8
    evaluate_every: int = 200
    patience: int | None = 5
    checkpoint_every: int = 200
    seed: int = 0
    freeze: int = 0
    device: str = "auto"
    precision: Precision = "fp32"

    def __post_init__(self) -> None:
        plain_fields(self)
        one_of(self.loss, get_args(Loss), "loss")
        one_of(self.precision, get_args(Precision), "precision")
        for name, least in (
            *(("batch", 1), ("max_length", 8), ("passages", 2), ("evaluate_every", 1), ("checkpoint_every", 1)),
            *(("seed", 0), ("freeze", 0)),
        ):
            whole_number(getattr(self, name), least, name)
        if self.patience is not None:
            whole_number(self.patience, 1, "patience")
        self._check_number("epochs", lambda value: value > 0, "a number above 0")
        self._check_number("learning_rate", lambda value: 0 < value < 1, "a number between 0 and 1, such as 2e-5")
        self._check_number("warmup", lambda value: 0 <= value < 1, "a share of the steps, from 0 to below 1")
        self._check_number("weight_decay", lambda value: 0 <= value < 1, "a number from 0 to below 1")

    def to_dict(self) -> dict[str, Any]:
        """Return all values as JSON has them."""
        return asdict(self)

    def _check_number(self, name: str, is_valid: Callable[[float], bool], rule: str) -> None:
        value = getattr(self, name)
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
        if not (is_number and is_valid(value)):
            raise ConfigError(f"must be {rule}, not {value!r}", path=name)
