"""A map from raw scores to probabilities of relevance, as data: how it is applied, kept and found again."""

from __future__ import annotations

import json
import math
import os
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, get_args

from rag_rerank._json import parsed
from rag_rerank._writing import write
from rag_rerank.base import check_choice
from rag_rerank.compose._provenance import Provenance, check_keys, number, numbers
from rag_rerank.errors import ConfigError

__all__ = ["SCHEMA", "CalibrationMap", "Method", "interpolated", "logistic"]

SCHEMA = "rag_rerank.calibration/1"
"""Name and version of the file's layout."""

_LOWEST = -709.0
"""Below it ``exp(-x)`` has no float64."""


Method = Literal["platt", "isotonic"]
"""How a map goes from scores to probabilities; see `CalibrationMap`."""


@dataclass(frozen=True, kw_only=True)
class CalibrationMap:
    """A rising map from raw scores to probabilities of relevance, with where it comes from.

    ``rag-rerank calibrate`` and `rag_rerank.evaluation.calibration.calibrate` fit one; `Calibrated` applies it.

    Args:
        method: ``"platt"``: ``1 / (1 + exp(-(slope * raw + intercept)))`` (Platt, 1999). ``"isotonic"``: straight lines
            between ``scores`` and ``probabilities``, level beyond the ends (Zadrozny and Elkan, KDD 2002).
        fitted: What it was fitted on.
        slope: For ``"platt"``: more than 0.
        intercept: For ``"platt"``.
        scores: For ``"isotonic"``: raw scores, rising.
        probabilities: For ``"isotonic"``: one for each score, never falling.

    Raises:
        ConfigError: A value that makes no rising map of probabilities.
    """

    method: Method
    fitted: Provenance
    slope: float | None = None
    intercept: float | None = None
    scores: tuple[float, ...] = ()
    probabilities: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        check_choice(self.method, get_args(Method), "method")
        if not isinstance(self.fitted, Provenance):
            raise ConfigError(f"expected a Provenance, got {type(self.fitted).__name__}", path="fitted")
        for name in ("scores", "probabilities"):
            object.__setattr__(self, name, _series(getattr(self, name), name))
        if self.method == "platt":
            if self.scores or self.probabilities:
                raise ConfigError("method 'platt' has a slope and an intercept, and no scores", path="scores")
            numbers(self, ("slope", "intercept"))
            if not self.slope > 0:  # type: ignore[operator]
                raise ConfigError(f"must be more than 0, got {self.slope}", path="slope")
            return
        if self.slope is not None or self.intercept is not None:
            raise ConfigError("method 'isotonic' has scores and probabilities, and no slope", path="slope")
        _check_steps(self.scores, self.probabilities)

    def probability(self, raw: float) -> float:
        """Return the probability of relevance at a raw score; never less at a higher one."""
        if self.slope is not None and self.intercept is not None:
            return logistic(self.slope * raw + self.intercept)
        return interpolated(raw, self.scores, self.probabilities)

    @property
    def shape(self) -> dict[str, Any]:
        """All that decides a probability: the method and its numbers."""
        names = ("slope", "intercept") if self.method == "platt" else ("scores", "probabilities")
        return {"method": self.method, **{name: getattr(self, name) for name in names}}

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON-ready values; the first key tells the layout."""
        return {"schema": SCHEMA, "method": self.method, "fitted": asdict(self.fitted), **self.shape}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> CalibrationMap:
        """Rebuild what `to_dict` gave.

        Raises:
            ConfigError: Another layout, a key that is missing or unknown, or a value that cannot be used; it is named.
        """
        if not isinstance(data, Mapping) or data.get("schema") != SCHEMA:
            found = data.get("schema") if isinstance(data, Mapping) else type(data).__name__
            raise ConfigError(f"no calibration map of this release ({SCHEMA}), but {found!r:.60}", path="schema")
        values = {key: value for key, value in data.items() if key != "schema"}
        check_keys(cls, values, optional=("slope", "intercept", "scores", "probabilities"))
        try:
            fitted = Provenance.from_dict(values["fitted"])
        except ConfigError as error:
            raise error.under("fitted") from error
        return cls(**{**values, "fitted": fitted})

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> CalibrationMap:
        """Read a map that `save` wrote.

        Raises:
            ConfigError: The file cannot be read, or holds something else; the message names the file and the key.
        """
        file = Path(path)
        try:
            data = parsed(file.read_bytes())
        except OSError as error:
            raise ConfigError(f"cannot read the calibration map: {error.strerror or error}", path=str(file)) from error
        except ValueError as error:
            raise ConfigError(f"not valid JSON: {error}", path=str(file)) from error
        try:
            return cls.from_dict(data)
        except ConfigError as error:
            raise ConfigError(str(error), path=str(file)) from error

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the map as a JSON file of a few kilobytes, in one step; a file that was there is replaced.

        Raises:
            ConfigError: The file cannot be written; what was there stays.
        """
        write(Path(path), (json.dumps(self.to_dict(), indent=1) + "\n").encode())


def logistic(x: float) -> float:
    """Return ``1 / (1 + exp(-x))``, in a form that never falls as ``x`` rises, infinities included."""
    return 0.0 if x < _LOWEST else 1.0 / (1.0 + math.exp(-x))


def interpolated(raw: float, scores: Sequence[float], probabilities: Sequence[float]) -> float:
    """Return the height at ``raw`` of straight lines between points whose scores rise; level beyond the ends."""
    after = bisect_right(scores, raw)
    if after in (0, len(scores)):
        return probabilities[min(after, len(scores) - 1)]
    (x0, x1), (p0, p1) = scores[after - 1 : after + 1], probabilities[after - 1 : after + 1]
    return min(p1, p0 + (p1 - p0) * ((raw - x0) / (x1 - x0)))  # rounding could lead past the next point


def _check_steps(scores: Sequence[float], probabilities: Sequence[float]) -> None:
    if len(scores) < 2 or len(scores) != len(probabilities):
        raise ConfigError(
            f"needs at least two scores and as many probabilities, got {len(scores)} and {len(probabilities)}",
            path="scores",
        )
    if not all(a < b for a, b in pairwise(scores)) or math.isinf(scores[-1] - scores[0]):
        raise ConfigError("each must be larger than the one before, within a finite range", path="scores")
    rising = all(a <= b for a, b in pairwise(probabilities))
    if not (rising and 0 <= probabilities[0] < probabilities[-1] <= 1):
        raise ConfigError("must rise from the first to the last, never fall, and lie within 0..1", path="probabilities")


def _series(values: Any, path: str) -> tuple[float, ...]:
    if not isinstance(values, (list, tuple)):
        raise ConfigError(f"expected a list of numbers, got {type(values).__name__}", path=path)
    return tuple(number(value, f"{path}[{i}]") for i, value in enumerate(values))
