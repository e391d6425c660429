"""A map from raw scores to probabilities of relevance, and what it was fitted on: plain data, checked when read."""

from __future__ import annotations

import json
import math
import os
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

from rag_rerank._checks import number, one_of, whole_number
from rag_rerank._files import parse_json, write
from rag_rerank.documentation import THRESHOLDS
from rag_rerank.errors import ConfigError, did_you_mean
from rag_rerank.types import SCALES, Scale

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = [
    "SCHEMA",
    "CalibrationMap",
    "FitQuality",
    "MapFile",
    "Method",
    "Provenance",
    "Unjudged",
    "check_keys",
    "interpolate",
    "logistic",
    "set_numbers",
]

SCHEMA = "rag_rerank.calibration/1"
"""Name and version of the file's layout."""

Method = Literal["platt", "isotonic"]
"""The kind of a map; see `CalibrationMap`."""

Unjudged = Literal["left out", "not relevant"]
"""The treatment of candidates that nobody judged."""

_LOWEST = -709.0
"""Below it ``exp(-x)`` has no float64."""


@dataclass(frozen=True, kw_only=True)
class FitQuality:
    """The quality of numbers as probabilities of relevance, measured on judged pairs.

    Args:
        ece: The expected calibration error, 0 to 1; see `rag_rerank.evaluation.calibration.reliability`.
        brier: The mean squared distance of probability and truth, 0 to 1.
        log_loss: The mean of ``-ln`` of the probability that the numbers give to the true outcome.
    """

    ece: float
    brier: float
    log_loss: float

    def __post_init__(self) -> None:
        set_numbers(self, ("ece", "brier"), 0, 1)
        set_numbers(self, ("log_loss",), 0)


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """The origin of a map: what it was fitted on, and how well it fits.

    Args:
        reranker: The label of the reranker.
        model: Its model with the revision; empty where it has none.
        scale: The scale of its scores; the map takes raw scores of this scale only.
        identity: The `Reranker.identity`: a hash of everything that decides its scores.
        data: The name of the judged data.
        fingerprint: The SHA-256 of the data.
        relevant: The least grade of a relevant document, in each collection.
        unjudged: What the fit did with candidates that nobody judged.
        queries: The number of queries with a judged candidate.
        pairs: The number of candidates that the map was fitted on; of an `AnswerabilityMap`, the number of lists.
        prior: The share of relevant ones among them, or of lists with an answer. Probabilities are right where this
            share is the same.
        before: The quality of the presented scores as probabilities; absent on a scale that is not 0 to 1.
        after: The quality of the map's probabilities, out of fold: each query with a map fitted on other queries.
        version: The release of this package.
        date: The day of the fit, ``YYYY-MM-DD`` (UTC).
    """

    reranker: str
    model: str | None = None
    scale: Scale
    identity: str
    data: str
    fingerprint: str
    relevant: tuple[int, ...]
    unjudged: Unjudged = "left out"
    queries: int
    pairs: int
    prior: float
    before: FitQuality | None = None
    after: FitQuality
    version: str
    date: str

    def __post_init__(self) -> None:
        _texts(self, ("reranker", "identity", "data", "fingerprint", "version", "date"))
        if self.model is not None:
            _texts(self, ("model",))
        one_of(self.scale, SCALES, "scale")
        one_of(self.unjudged, get_args(Unjudged), "unjudged")
        if not isinstance(self.relevant, (list, tuple)):
            raise ConfigError(f"expected a list of grades, got {type(self.relevant).__name__}", path="relevant")
        object.__setattr__(self, "relevant", tuple(self.relevant))
        grades = {f"relevant[{i}]": grade for i, grade in enumerate(self.relevant)}
        for path, value in {**grades, "queries": self.queries, "pairs": self.pairs}.items():
            whole_number(value, 1, path)
        set_numbers(self, ("prior",), 0, 1)

    @classmethod
    def from_dict(cls, data: Any) -> Provenance:
        """Rebuild a provenance from the values of ``dataclasses.asdict``, also after a round trip through JSON.

        Raises:
            ConfigError: A key is missing or unknown, or a value cannot be used; the message names it.
        """
        check_keys(cls, data)
        fits = {name: _fit(data[name], name) for name in ("before", "after") if data[name] is not None}
        if "after" not in fits:
            raise ConfigError("expected an object, got null", path="after")
        return cls(**{**data, **fits})


class MapFile(ABC):
    """A map that stands in a JSON file, with its ``fitted``."""

    title: ClassVar[str]
    """What messages call it."""

    schema: ClassVar[str]
    """The layout of the file, its first key."""

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON-ready values; the first key names the layout."""

    @classmethod
    @abstractmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Rebuild a map from `to_dict`."""

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a map that `save` wrote.

        Raises:
            ConfigError: The file cannot be read, or holds something else; the message names the file and the key.
        """
        file = Path(path)
        try:
            data = parse_json(file.read_bytes())
        except OSError as error:
            raise ConfigError(
                f"cannot read the {cls.title}: {error.strerror or error}", path=str(file), page=THRESHOLDS
            ) from error
        except ValueError as error:
            raise ConfigError(f"not valid JSON: {error}", path=str(file), page=THRESHOLDS) from error
        try:
            return cls.from_dict(data)
        except ConfigError as error:
            raise ConfigError(str(error), path=str(file), page=THRESHOLDS) from error

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the map as a JSON file of a few kilobytes, in one step; an existing file is replaced.

        Raises:
            ConfigError: The file cannot be written; an existing file stays as it is.
        """
        write(Path(path), (json.dumps(self.to_dict(), indent=1) + "\n").encode())

    @classmethod
    def _values_of(cls, data: Mapping[str, Any], *, optional: Sequence[str] = ()) -> dict[str, Any]:
        """Return the values of `to_dict` without the layout, and with the object for ``fitted``.

        Raises:
            ConfigError: The layout is another one, a key is missing or unknown, or ``fitted`` cannot be used.
        """
        if not isinstance(data, Mapping) or data.get("schema") != cls.schema:
            actual = data.get("schema") if isinstance(data, Mapping) else type(data).__name__
            raise ConfigError(f"no {cls.title} of this release ({cls.schema}), but {actual!r:.60}", path="schema")
        values = {key: value for key, value in data.items() if key != "schema"}
        check_keys(cls, values, optional=optional)
        try:
            return values | {"fitted": Provenance.from_dict(values["fitted"])}
        except ConfigError as error:
            raise error.under("fitted") from error


@dataclass(frozen=True, kw_only=True)
class CalibrationMap(MapFile):
    """A rising map from raw scores to probabilities of relevance, with its provenance.

    ``rag-rerank calibrate`` and `rag_rerank.evaluation.calibrate` fit one; `Calibrated` applies it.

    Args:
        method: The form of the map.

            - ``"platt"``: ``1 / (1 + exp(-(slope * raw + intercept)))`` (Platt, 1999).
            - ``"isotonic"``: Straight lines between ``scores`` and ``probabilities``, constant beyond the ends
              (Zadrozny and Elkan, KDD 2002).
        fitted: What the map was fitted on.
        slope: The slope of ``"platt"``, more than 0.
        intercept: The intercept of ``"platt"``.
        scores: The raw scores of ``"isotonic"``, rising.
        probabilities: The probabilities of ``"isotonic"``, one for each score, never falling.

    Raises:
        ConfigError: The values make no rising map to probabilities.
    """

    title: ClassVar[str] = "calibration map"
    schema: ClassVar[str] = SCHEMA

    method: Method
    fitted: Provenance
    slope: float | None = None
    intercept: float | None = None
    scores: tuple[float, ...] = ()
    probabilities: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        one_of(self.method, get_args(Method), "method")
        if not isinstance(self.fitted, Provenance):
            raise ConfigError(f"expected a Provenance, got {type(self.fitted).__name__}", path="fitted")
        for name in ("scores", "probabilities"):
            object.__setattr__(self, name, _series(getattr(self, name), name))
        if self.method == "platt":
            if self.scores or self.probabilities:
                raise ConfigError("method 'platt' has a slope and an intercept, and no scores", path="scores")
            set_numbers(self, ("slope", "intercept"))
            if not self.slope > 0:  # type: ignore[operator]
                raise ConfigError(f"must be more than 0, got {self.slope}", path="slope")
            return
        if self.slope is not None or self.intercept is not None:
            raise ConfigError("method 'isotonic' has scores and probabilities, and no slope", path="slope")
        _check_steps(self.scores, self.probabilities)

    def probability(self, raw: float) -> float:
        """Return the probability of relevance at a raw score; it never falls as the score rises."""
        if self.slope is not None and self.intercept is not None:
            return logistic(self.slope * raw + self.intercept)
        return interpolate(raw, self.scores, self.probabilities)

    @property
    def shape(self) -> dict[str, Any]:
        """Everything that decides a probability: the method and its numbers."""
        names = ("slope", "intercept") if self.method == "platt" else ("scores", "probabilities")
        return {"method": self.method, **{name: getattr(self, name) for name in names}}

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON-ready values; the first key names the layout."""
        return {"schema": SCHEMA, "method": self.method, "fitted": asdict(self.fitted), **self.shape}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Rebuild a map from `to_dict`.

        Raises:
            ConfigError: The layout is another one, a key is missing or unknown, or a value cannot be used; the message
                names it.
        """
        return cls(**cls._values_of(data, optional=("slope", "intercept", "scores", "probabilities")))


def logistic(x: float) -> float:
    """Return ``1 / (1 + exp(-x))``, in a form that never falls as ``x`` rises, infinities included."""
    return 0.0 if x < _LOWEST else 1.0 / (1.0 + math.exp(-x))


def interpolate(raw: float, scores: Sequence[float], probabilities: Sequence[float]) -> float:
    """Return the value at ``raw`` of straight lines between points with rising scores; constant beyond the ends."""
    after = bisect_right(scores, raw)
    if after in (0, len(scores)):
        return probabilities[min(after, len(scores) - 1)]
    (x0, x1), (p0, p1) = scores[after - 1 : after + 1], probabilities[after - 1 : after + 1]
    return min(p1, p0 + (p1 - p0) * ((raw - x0) / (x1 - x0)))  # rounding could pass the next point


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
        raise ConfigError("must rise from the first to the last, never fall, and be within 0..1", path="probabilities")


def _series(values: Any, path: str) -> tuple[float, ...]:
    if not isinstance(values, (list, tuple)):
        raise ConfigError(f"expected a list of numbers, got {type(values).__name__}", path=path)
    return tuple(number(value, f"{path}[{i}]") for i, value in enumerate(values))


def _fit(data: Any, path: str) -> FitQuality:
    try:
        check_keys(FitQuality, data)
        return FitQuality(**data)
    except ConfigError as error:
        raise error.under(path) from error


def check_keys(kind: type[Any], data: Any, *, optional: Collection[str] = ()) -> None:
    """Raise `ConfigError` unless data are a mapping with the fields of a dataclass; optional ones may be missing."""
    if not isinstance(data, Mapping):
        raise ConfigError(f"expected an object, got {type(data).__name__}")
    names = {f.name for f in fields(kind)}
    for key in data:
        if key not in names:
            raise ConfigError(f"unknown key {key!r:.60}{did_you_mean(str(key), names)}")
    missing = sorted(names - {*optional} - data.keys())
    if missing:
        raise ConfigError(f"{', '.join(missing)} is missing")


def set_numbers(item: Any, names: Sequence[str], low: float = -math.inf, high: float = math.inf) -> None:
    """Turn fields of a frozen dataclass into finite floats within bounds, or raise `ConfigError`."""
    for name in names:
        object.__setattr__(item, name, number(getattr(item, name), name, low, high))


def _texts(item: Any, names: Sequence[str]) -> None:
    for name in names:
        value = getattr(item, name)
        if not isinstance(value, str):
            raise ConfigError(f"expected a text, got {type(value).__name__}", path=name)
