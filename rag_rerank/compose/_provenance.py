"""What a calibration map was fitted on, and how well it fits: plain data, checked as it comes from files."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

from rag_rerank.base import check_choice
from rag_rerank.errors import ConfigError, did_you_mean
from rag_rerank.types import SCALES, Scale

__all__ = ["Fit", "Provenance", "Unjudged", "check_keys", "number", "numbers"]

Unjudged = Literal["left out", "not relevant"]
"""What is done with candidates that nobody judged."""


@dataclass(frozen=True, kw_only=True)
class Fit:
    """How far numbers are probabilities of relevance, on judged pairs.

    Args:
        ece: Expected calibration error, 0 to 1; see `rag_rerank.evaluation.calibration.reliability`.
        brier: Mean squared distance of probability and truth, 0 to 1.
        log_loss: Mean of ``-ln`` of the probability given to what was true.
    """

    ece: float
    brier: float
    log_loss: float

    def __post_init__(self) -> None:
        numbers(self, ("ece", "brier"), 0, 1)
        numbers(self, ("log_loss",), 0)


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """What a map was fitted on, and how well it fits.

    Args:
        reranker: Label of the reranker.
        model: Its model with the revision, where there is one.
        scale: Scale of its scores; the map takes raw scores of this scale alone.
        identity: `Reranker.identity`: a hash of all that decides its scores.
        data: Name of the judged data.
        fingerprint: SHA-256 of the data.
        relevant: Grade from which on a document counted as relevant, in each collection.
        unjudged: What was done with candidates that nobody judged.
        queries: Queries with a judged candidate.
        pairs: Candidates that the map was fitted on.
        prior: Share of them that is relevant. Probabilities are right where this share is the same.
        before: How far the presented scores were probabilities; ``None`` on a scale that is not 0 to 1.
        after: How far the map's are, out of fold: each query with a map that was fitted on the other queries.
        version: Release of this package.
        date: Day of the fit, ``YYYY-MM-DD`` (UTC).
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
    before: Fit | None = None
    after: Fit
    version: str
    date: str

    def __post_init__(self) -> None:
        _texts(self, ("reranker", "identity", "data", "fingerprint", "version", "date"))
        if self.model is not None:
            _texts(self, ("model",))
        check_choice(self.scale, SCALES, "scale")
        check_choice(self.unjudged, get_args(Unjudged), "unjudged")
        if not isinstance(self.relevant, (list, tuple)):
            raise ConfigError(f"expected a list of grades, got {type(self.relevant).__name__}", path="relevant")
        object.__setattr__(self, "relevant", tuple(self.relevant))
        grades = {f"relevant[{i}]": grade for i, grade in enumerate(self.relevant)}
        for path, value in {**grades, "queries": self.queries, "pairs": self.pairs}.items():
            if type(value) is not int or value < 1:
                raise ConfigError(f"expected a whole number of at least 1, got {value!r:.60}", path=path)
        numbers(self, ("prior",), 0, 1)

    @classmethod
    def from_dict(cls, data: Any) -> Provenance:
        """Rebuild what ``dataclasses.asdict`` gave, JSON in between or not.

        Raises:
            ConfigError: A key that is missing or unknown, or a value that cannot be used; it is named.
        """
        check_keys(cls, data)
        fits = {name: _fit(data[name], name) for name in ("before", "after") if data[name] is not None}
        if "after" not in fits:
            raise ConfigError("expected an object, got null", path="after")
        return cls(**{**data, **fits})


def _fit(data: Any, path: str) -> Fit:
    try:
        check_keys(Fit, data)
        return Fit(**data)
    except ConfigError as error:
        raise error.under(path) from error


def check_keys(kind: type[Any], data: Any, *, optional: Collection[str] = ()) -> None:
    """Raise `ConfigError` unless data are an object with the fields of a dataclass, all but the optional ones."""
    if not isinstance(data, Mapping):
        raise ConfigError(f"expected an object, got {type(data).__name__}")
    known = {f.name for f in fields(kind)}
    for key in data:
        if key not in known:
            raise ConfigError(f"unknown key {key!r:.60}{did_you_mean(str(key), known)}")
    missing = sorted(known - {*optional} - data.keys())
    if missing:
        raise ConfigError(f"{', '.join(missing)} is missing")


def numbers(item: Any, names: Sequence[str], low: float = -math.inf, high: float = math.inf) -> None:
    """Turn fields into finite floats within bounds, or raise `ConfigError`."""
    for name in names:
        object.__setattr__(item, name, number(getattr(item, name), name, low, high))


def number(value: Any, path: str, low: float = -math.inf, high: float = math.inf) -> float:
    """Return a finite float within bounds, or raise `ConfigError`."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ConfigError(f"expected a finite number, got {value!r:.60}", path=path)
    if not low <= value <= high:
        raise ConfigError(f"must lie within {low:g}..{high:g}, got {value}", path=path)
    return float(value)


def _texts(item: Any, names: Sequence[str]) -> None:
    for name in names:
        value = getattr(item, name)
        if not isinstance(value, str):
            raise ConfigError(f"expected a text, got {type(value).__name__}", path=name)
