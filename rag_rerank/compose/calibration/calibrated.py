"""Calibrated: presents scores as probabilities of relevance."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from rag_rerank._files import FilePath
from rag_rerank._lazy import peek
from rag_rerank.base import Reranker
from rag_rerank.compose.calibration.calibration_map import CalibrationMap
from rag_rerank.compose.calibration.map_wrapper import CheckedMap, MapWrapper
from rag_rerank.compose.fallback import change_of_scale
from rag_rerank.compose.wrapper import check_reranker
from rag_rerank.errors import ConfigError
from rag_rerank.execution.plan import Call, InThread, Plan, PlanResult
from rag_rerank.types import Candidate, Hit, Ranking, Scale

__all__ = ["Calibrated", "calibrates"]


@dataclass(frozen=True, kw_only=True)
class Calibrated(MapWrapper):
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
    map_class: ClassVar[type[CalibrationMap]] = CalibrationMap
    refit: ClassVar[str] = "Fit one for it: rag-rerank calibrate JUDGED --config CONFIG -o map.json"

    map: FilePath | CalibrationMap

    def __post_init__(self) -> None:
        check_reranker(self.reranker, "reranker")
        if self.reranker.scale == "calibrated":
            raise ConfigError(f"{self.reranker.label} gives probabilities already", path="reranker")
        super().__post_init__()

    @property
    def scale(self) -> Scale:
        """Calibrated: probabilities of relevance."""
        return "calibrated"

    def _plan(self, query: str, candidates: tuple[Candidate, ...]) -> Plan:
        ready: CheckedMap = peek(self, "_ready") or (yield InThread(lambda: self._ready))
        ranking: Ranking = yield Call(self.reranker, query, candidates)
        notes = self._notes_of_call(ready)
        if all(hit.raw_score is None for hit in ranking):  # the first stage's order: there is nothing to calibrate
            return PlanResult(
                ranking.hits, self.scale, notes=notes, substituted=ranking.substituted, answerable=ranking.answerable
            )
        if ranking.substituted or ranking.scale != ready.map.fitted.scale:
            change = change_of_scale(self.scale, ranking.scale)
            reason = f"not calibrated, since another reranker answered than {self.reranker.label}{change}"
            return PlanResult(
                ranking.hits, ranking.scale, (reason,), notes, substituted=True, answerable=ranking.answerable
            )
        hits = tuple(_calibrate(hit, ready.map) for hit in ranking)
        return PlanResult(hits, self.scale, notes=notes, answerable=ranking.answerable)


def calibrates(reranker: Reranker) -> bool:
    """Whether a reranker is `Calibrated`, or holds one that is."""
    return any(isinstance(part, Calibrated) for part in reranker.walk())


def _calibrate(hit: Hit, calibration_map: CalibrationMap) -> Hit:
    return hit if hit.raw_score is None else replace(hit, score=calibration_map.probability(hit.raw_score))
