"""A map from the scores of one answer to the probability that a candidate answers the query: plain data, checked."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from rag_rerank._checks import number, whole_number
from rag_rerank.compose.calibration.calibration_map import (
    MapFile,
    Provenance,
    check_keys,
    logistic,
    set_numbers,
)
from rag_rerank.errors import ConfigError

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["FEATURES", "SCHEMA", "AnswerabilityMap", "FalseAccepts", "features_of"]

SCHEMA = "rag_rerank.answerability/1"
"""Name and version of the file's layout."""

FEATURES = ("top", "lead")
"""The facts of an answer that the probability is computed from: ``top``, the best raw score, and ``lead``, by how much
it is above the mean of the others. docs/how-to/answerability.md has the measurement of these and of others."""


def features_of(scores: Sequence[float]) -> tuple[float, ...] | None:
    """Return the `FEATURES` of the raw scores of one answer, in any order; ``None`` for fewer than two."""
    if len(scores) < 2:
        return None
    top, *others = sorted(scores, reverse=True)
    return top, top - math.fsum(score / len(others) for score in others)


@dataclass(frozen=True, kw_only=True)
class FalseAccepts:
    """A threshold on the probability that accepts at most a stated share of the lists without an answer.

    It is split conformal: of ``lists`` lists without an answer that the fit has not seen, the threshold is right above
    the ``ceil((lists + 1) * (1 - rate))``-th smallest probability. A further list without an answer is then accepted
    with a probability of at most ``rate``, whatever the distribution and however bad the map, if it is exchangeable
    with them: as if it had been drawn from the same source in the same way (Vovk, Gammerman and Shafer, Algorithmic
    Learning in a Random World, 2005; Angelopoulos and Bates, arXiv:2107.07511, 2021). That is an average over draws of
    the held-out lists; with few of them, the share for one threshold spreads around it. It says nothing of how many
    lists with an answer are refused.

    Args:
        rate: The greatest share of lists without an answer that are accepted, more than 0 and less than 1.
        threshold: The least probability that is accepted.
        lists: The number of held-out lists without an answer.
        accepted: The share of held-out lists with an answer that the threshold accepts.
    """

    rate: float
    threshold: float
    lists: int
    accepted: float

    def __post_init__(self) -> None:
        set_numbers(self, ("rate", "accepted"), 0, 1)
        set_numbers(self, ("threshold",), 0)
        whole_number(self.lists, 1, "lists")


@dataclass(frozen=True, kw_only=True)
class AnswerabilityMap(MapFile):
    """A logistic regression from an answer's scores to the probability that one of its candidates answers the query.

    ``1 / (1 + exp(-(intercept + sum of weight * feature)))`` over `FEATURES`. ``rag-rerank calibrate --answerable`` and
    `rag_rerank.evaluation.calibrate_answerable` fit one; `Answerable` applies it.

    Args:
        weights: The weight of each feature, by its name.
        intercept: What is added to the weighted features.
        auroc: The probability that a list with an answer gets the larger number than one without, measured out of
            fold: 0.5 is chance, 1 is perfect.
        fitted: What it was fitted on; ``pairs`` counts lists.
        false_accepts: The threshold for a stated share of false accepts; ``None`` where none was asked for.

    Raises:
        ConfigError: A weight is absent, unknown or no finite number, or another value cannot be used.
    """

    title: ClassVar[str] = "answerability map"
    schema: ClassVar[str] = SCHEMA

    weights: Mapping[str, float]
    intercept: float
    auroc: float
    fitted: Provenance
    false_accepts: FalseAccepts | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.weights, Mapping) or {*self.weights} != {*FEATURES}:
            names = list(self.weights) if isinstance(self.weights, Mapping) else type(self.weights).__name__
            raise ConfigError(f"expected the weights of {', '.join(FEATURES)}, got {names!r:.80}", path="weights")
        weights = {name: number(self.weights[name], f"weights.{name}") for name in FEATURES}
        object.__setattr__(self, "weights", weights)
        set_numbers(self, ("intercept",))
        set_numbers(self, ("auroc",), 0, 1)
        if not isinstance(self.fitted, Provenance):
            raise ConfigError(f"expected a Provenance, got {type(self.fitted).__name__}", path="fitted")
        if not isinstance(self.false_accepts, (FalseAccepts, type(None))):
            raise ConfigError(f"expected an object, got {type(self.false_accepts).__name__}", path="false_accepts")

    def __hash__(self) -> int:
        return hash((tuple(self.weights.items()), self.intercept, self.auroc, self.fitted, self.false_accepts))

    def probability(self, scores: Sequence[float]) -> float | None:
        """Return the probability that one of the texts with these raw scores answers; ``None`` for fewer than two."""
        features = features_of(scores)
        if features is None:
            return None
        terms = (weight * value for weight, value in zip(self.weights.values(), features, strict=True))
        return logistic(self.intercept + sum(terms))

    @property
    def shape(self) -> dict[str, Any]:
        """Everything that decides a probability."""
        return {"weights": dict(self.weights), "intercept": self.intercept}

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON-ready values; the first key names the layout."""
        limit = None if self.false_accepts is None else asdict(self.false_accepts)
        return {
            "schema": SCHEMA,
            **self.shape,
            "auroc": self.auroc,
            "false_accepts": limit,
            "fitted": asdict(self.fitted),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Rebuild a map from `to_dict`.

        Raises:
            ConfigError: The layout is another one, a key is missing or unknown, or a value cannot be used; the message
                names it.
        """
        values = cls._values_of(data)
        limit = values["false_accepts"]
        try:
            if limit is not None:
                check_keys(FalseAccepts, limit)
                limit = FalseAccepts(**limit)
        except ConfigError as error:
            raise error.under("false_accepts") from error
        return cls(**{**values, "false_accepts": limit})
