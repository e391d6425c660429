"""Calibrated: scores as probabilities of relevance."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple

from rag_rerank._lazy import load_once, peek
from rag_rerank.base import Reranker
from rag_rerank.compose.calibration_map import CalibrationMap
from rag_rerank.compose.fallback import change_of_scale
from rag_rerank.compose.wrapper import Wrapper
from rag_rerank.errors import CalibrationWarning, ConfigError
from rag_rerank.execution.calls import caller_stacklevel
from rag_rerank.execution.plan import Call, InThread, Plan, PlanResult
from rag_rerank.types import Candidate, Hit, Ranking, Scale

__all__ = ["Calibrated", "calibrates", "model_of"]


@dataclass(frozen=True, kw_only=True)
class Calibrated(Wrapper):
    """Presents the scores of its reranker as probabilities of relevance; the ranking stays as it is.

    ``hit.score`` is the map's probability for the reranker's raw score, on the scale ``calibrated``. ``hit.raw_score``
    stays the reranker's, so that equal probabilities do not become ties, and a cascade's ``margin`` keeps its unit.

    A probability is right for candidates like those of the fit: from a like first stage, at a like depth, of which a
    like share is relevant (``map.fitted.prior``).

    A map belongs to one reranker. On a reranker of another scale it is refused. Where another model, revision or
    setting stands behind the same scale, `CalibrationWarning` says so once an instance and process, and every trace
    does. An answer by another reranker (``ranking.substituted``) is never mapped: it comes as it is, on its own scale,
    and the ranking is degraded. So let each member of a `Fallback` or `Hedge` be ``Calibrated`` with a map of its own,
    and a threshold holds whoever answers.

    Args:
        reranker: Whose scores they are; the one that the map was fitted for.
        map: A map, or the path of a JSON file with one, which is read at first use.

    Raises:
        ConfigError: The reranker is calibrated already, its scale is not the map's, or the map's file cannot be used.
    """

    kind: ClassVar[str] = "calibrated"

    map: str | CalibrationMap

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.reranker.scale == "calibrated":
            raise ConfigError(f"{self.reranker.label} gives probabilities already", path="reranker")
        if isinstance(self.map, CalibrationMap):
            self._check(self.map)
        elif not isinstance(self.map, (str, os.PathLike)):
            raise ConfigError(f"expected a path or a CalibrationMap, got {type(self.map).__name__}", path="map")
        else:
            object.__setattr__(self, "map", os.fspath(self.map))

    @property
    def scale(self) -> Scale:
        """Calibrated: probabilities of relevance."""
        return "calibrated"

    def warm_up(self) -> None:
        """Load the reranker and the map, and see whether they belong together."""
        super().warm_up()
        _ = self._ready

    def _identity_facts(self) -> Mapping[str, Any]:
        """What the map does, wherever it lies and whatever it was fitted on."""
        return {"map": self._map.shape}

    @load_once
    def _map(self) -> CalibrationMap:
        made = self.map if isinstance(self.map, CalibrationMap) else CalibrationMap.load(self.map)
        self._check(made)
        return made

    @load_once
    def _ready(self) -> _Ready:
        made = self._map
        if made.fitted.identity == self.reranker.identity:
            return _Ready(made, ())
        doubt = _doubt(made, self.reranker)
        warnings.warn(f"{self.label}: {doubt}", CalibrationWarning, stacklevel=caller_stacklevel())
        return _Ready(made, (doubt,))

    def _check(self, made: CalibrationMap) -> None:
        fitted = made.fitted
        if fitted.scale != self.reranker.scale:
            raise ConfigError(
                f"the map was fitted on {fitted.reranker}, whose scores are {fitted.scale}; those of "
                f"{self.reranker.label} are {self.reranker.scale}. {_REFIT}",
                path="map",
            )

    def _plan(self, query: str, candidates: tuple[Candidate, ...]) -> Plan:
        ready: _Ready = peek(self, "_ready") or (yield InThread(lambda: self._ready))
        ranking: Ranking = yield Call(self.reranker, query, candidates)
        fitted = ready.map.fitted
        if ranking.substituted or ranking.scale != fitted.scale:
            change = change_of_scale(self.scale, ranking.scale)
            reason = f"not calibrated, since another reranker answered than {self.reranker.label}{change}"
            return PlanResult(ranking.hits, ranking.scale, (reason,), ready.notes, substituted=True)
        return PlanResult(tuple(_mapped(hit, ready.map) for hit in ranking), self.scale, notes=ready.notes)


class _Ready(NamedTuple):
    """A map that was read, and what there is to say about it here."""

    map: CalibrationMap
    notes: tuple[str, ...]


_REFIT = "Fit one for it: rag-rerank calibrate JUDGED --config CONFIG -o map.json"


def calibrates(reranker: Reranker) -> bool:
    """Whether a reranker is `Calibrated`, or holds one that is."""
    return isinstance(reranker, Calibrated) or any(map(calibrates, reranker.children))


def _mapped(hit: Hit, made: CalibrationMap) -> Hit:
    return hit if hit.raw_score is None else replace(hit, score=made.probability(hit.raw_score))


def _doubt(made: CalibrationMap, reranker: Reranker) -> str:
    """Say what the map was fitted on, and what stands here."""
    fitted = made.fitted
    was, now = _named(fitted.reranker, fitted.model), _named(reranker.label, model_of(reranker))
    same = " (the same names, but other files or settings)" if was == now else ""
    return (
        f"the map was fitted on {was} on {fitted.date}, and the scores are from {now}{same}; the probabilities may be "
        f"off. {_REFIT}"
    )


def model_of(reranker: Reranker) -> str | None:
    """Return the model with its revision, where a reranker has one."""
    return getattr(reranker, "model_id", None)


def _named(label: str, model: str | None) -> str:
    return f"{label}, model {model}," if model else label
