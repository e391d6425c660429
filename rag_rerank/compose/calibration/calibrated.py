"""Calibrated: presents scores as probabilities of relevance."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple

from rag_rerank._files import FilePath
from rag_rerank._lazy import load_once, peek
from rag_rerank.base import Reranker
from rag_rerank.compose.calibration.calibration_map import CalibrationMap, Provenance
from rag_rerank.compose.fallback import change_of_scale
from rag_rerank.compose.wrapper import Wrapper
from rag_rerank.documentation import SCORES
from rag_rerank.errors import CalibrationWarning, ConfigError, caller_stacklevel
from rag_rerank.execution.instruction import instruction_or, without_call_instruction
from rag_rerank.execution.plan import Call, InThread, Plan, PlanResult
from rag_rerank.types import Candidate, Hit, Ranking, Scale

__all__ = ["Calibrated", "calibrates", "check_has_scores", "doubt_about", "model_of"]


@dataclass(frozen=True, kw_only=True)
class Calibrated(Wrapper):
    """A reranker whose scores are presented as probabilities of relevance; the order stays the same.

    ``hit.score`` is the map's probability for the reranker's raw score, on the scale ``calibrated``. ``hit.raw_score``
    stays the reranker's, so that equal probabilities do not become ties.

    A probability is right for candidates like those of the fit: from a similar first stage, at a similar depth, with a
    similar share of relevant ones (``map.fitted.prior``).

    A map belongs to one reranker. It is refused for a reranker with another scale. If the scale is the same but the
    model, its revision or a setting is not, a `CalibrationWarning` says so once per instance and process, and so does
    every trace. An answer of another reranker (``ranking.substituted``) is never mapped: it keeps its own scale, and
    the ranking is degraded. So make each member of a `Fallback` or `Hedge` ``Calibrated`` with a map of its own; then a
    threshold holds for every member's answer.

    Args:
        reranker: The reranker that the map was fitted for.
        map: The path of the JSON file with the map, as ``rag-rerank calibrate`` writes it; it is read at first use. In
            Python also a `CalibrationMap`.

    Raises:
        ConfigError: The reranker is calibrated already, it gives places and no scores, its scale is not the map's, or
            the map's file cannot be used.
    """

    kind: ClassVar[str] = "calibrated"

    map: FilePath | CalibrationMap

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.reranker.scale == "calibrated":
            raise ConfigError(f"{self.reranker.label} gives probabilities already", path="reranker")
        check_has_scores(self.reranker)
        if isinstance(self.map, CalibrationMap):
            self._check_scale(self.map)
        elif not isinstance(self.map, (str, os.PathLike)):
            raise ConfigError(f"expected a path or a CalibrationMap, got {type(self.map).__name__}", path="map")
        else:
            object.__setattr__(self, "map", os.fspath(self.map))

    @property
    def scale(self) -> Scale:
        """Calibrated: probabilities of relevance."""
        return "calibrated"

    def warm_up(self) -> None:
        """Load the reranker and the map, and check whether they belong together."""
        super().warm_up()
        _ = self._ready

    def _identity_facts(self) -> Mapping[str, Any]:
        """Return the numbers of the map; its path and its provenance change no score."""
        return {"map": self._map.shape}

    @load_once
    def _map(self) -> CalibrationMap:
        calibration_map = self.map if isinstance(self.map, CalibrationMap) else CalibrationMap.load(self.map)
        self._check_scale(calibration_map)
        return calibration_map

    @load_once
    def _ready(self) -> _Ready:
        with without_call_instruction():  # the answer is kept for all calls
            identity = self.reranker.identity
        if self._map.fitted.identity == identity:
            return _Ready(self._map, ())
        doubt = doubt_about(self._map.fitted, self.reranker, _REFIT)
        warnings.warn(f"{self.label}: {doubt}", CalibrationWarning, stacklevel=caller_stacklevel())
        return _Ready(self._map, (doubt,))

    def _check_scale(self, calibration_map: CalibrationMap) -> None:
        fitted = calibration_map.fitted
        if fitted.scale != self.reranker.scale:
            raise ConfigError(
                f"the map was fitted on {fitted.reranker}, whose scores are {fitted.scale}; those of "
                f"{self.reranker.label} are {self.reranker.scale}. {_REFIT}",
                path="map",
            )

    def _plan(self, query: str, candidates: tuple[Candidate, ...]) -> Plan:
        ready: _Ready = peek(self, "_ready") or (yield InThread(lambda: self._ready))
        ranking: Ranking = yield Call(self.reranker, query, candidates)
        fitted, notes = ready.map.fitted, ready.notes
        if not notes and instruction_or(None) is not None and self.reranker.identity != fitted.identity:
            notes = (f"the map was fitted without the instruction of this call; probabilities may be off. {_REFIT}",)
        if all(hit.raw_score is None for hit in ranking):  # the first stage's order: there is nothing to calibrate
            return PlanResult(
                ranking.hits, self.scale, notes=notes, substituted=ranking.substituted, answerable=ranking.answerable
            )
        if ranking.substituted or ranking.scale != fitted.scale:
            change = change_of_scale(self.scale, ranking.scale)
            reason = f"not calibrated, since another reranker answered than {self.reranker.label}{change}"
            return PlanResult(
                ranking.hits, ranking.scale, (reason,), notes, substituted=True, answerable=ranking.answerable
            )
        hits = tuple(_calibrate(hit, ready.map) for hit in ranking)
        return PlanResult(hits, self.scale, notes=notes, answerable=ranking.answerable)


class _Ready(NamedTuple):
    """A map that was read and checked, with notes for the trace."""

    map: CalibrationMap
    notes: tuple[str, ...]


_REFIT = "Fit one for it: rag-rerank calibrate JUDGED --config CONFIG -o map.json"


def check_has_scores(reranker: Reranker) -> None:
    """Raise `ConfigError` for a reranker that gives places and no scores, from which no probability follows."""
    if reranker.scale == "rank":
        raise ConfigError(
            f"{reranker.label} gives places and no scores, and the first place says nothing of relevance",
            path="reranker",
            page=SCORES,
        )


def calibrates(reranker: Reranker) -> bool:
    """Whether a reranker is `Calibrated`, or holds one that is."""
    return isinstance(reranker, Calibrated) or any(map(calibrates, reranker.children))


def _calibrate(hit: Hit, calibration_map: CalibrationMap) -> Hit:
    return hit if hit.raw_score is None else replace(hit, score=calibration_map.probability(hit.raw_score))


def doubt_about(fitted: Provenance, reranker: Reranker, refit: str) -> str:
    """Return the warning that a map was fitted on another reranker than this one, with the command that fits one."""
    was, now = _full_name(fitted.reranker, fitted.model), _full_name(reranker.label, model_of(reranker))
    same = " (the same names, but other files or settings)" if was == now else ""
    return (
        f"the map was fitted on {was} on {fitted.date}, and the scores are from {now}{same}; the probabilities may be "
        f"off. {refit}"
    )


def model_of(reranker: Reranker) -> str | None:
    """Return the model of a reranker with its revision; ``None`` where it has none."""
    return getattr(reranker, "model_id", None)


def _full_name(label: str, model: str | None) -> str:
    return f"{label}, model {model}," if model else label
