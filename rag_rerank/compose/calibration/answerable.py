"""Answerable: says how probable it is that a candidate answers the query at all."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from rag_rerank._files import FilePath
from rag_rerank._lazy import load_once, peek
from rag_rerank.compose.calibration.answerability_map import AnswerabilityMap
from rag_rerank.compose.calibration.calibrated import check_has_scores, doubt_about
from rag_rerank.compose.calibration.calibration_map import Provenance
from rag_rerank.compose.wrapper import Wrapper
from rag_rerank.errors import CalibrationWarning, ConfigError, caller_stacklevel
from rag_rerank.execution.instruction import instruction_or, without_call_instruction
from rag_rerank.execution.plan import Call, InThread, Plan, PlanResult
from rag_rerank.types import BLANK, Candidate, Ranking

__all__ = ["Answerable"]

_REFIT = "Fit one for it: rag-rerank calibrate JUDGED --answerable --config CONFIG -o answerable.json"


@dataclass(frozen=True, kw_only=True)
class Answerable(Wrapper):
    """A reranker whose rankings say how probable it is that one of the candidates answers the query.

    ``ranking.answerable`` is the probability, computed from the scores of the call by the map. Order and scores stay
    those of the reranker. Without a candidate that has a text it is 0; with fewer than two scores it is ``None``, and
    a note in the trace says so.

    A probability is right for lists like those of the fit: from a similar first stage, at a similar depth, where half
    of the lists have an answer (``map.fitted.prior``). Put this around the whole reranker: `Cascade`, `Ensemble` and
    `Windows` make a list of their own out of the calls inside, and do not pass it on; others pass it on.

    A map belongs to one reranker, and is refused for one with another scale. If only the model, its revision or a
    setting is another one, a `CalibrationWarning` says so once per instance and process, and every trace has a note. An
    answer of another reranker (``ranking.substituted``) gets no probability, and the ranking says so in ``degraded``.

    Args:
        reranker: The reranker that the map was fitted for.
        map: The path of the JSON file with the map, as ``rag-rerank calibrate --answerable`` writes it; it is read at
            first use. In Python also an `AnswerabilityMap`.

    Raises:
        ConfigError: The reranker gives places and no scores, its scale is not the map's, or the map's file cannot be
            used.
    """

    kind: ClassVar[str] = "answerable"

    map: FilePath | AnswerabilityMap

    def __post_init__(self) -> None:
        super().__post_init__()
        check_has_scores(self.reranker)
        if isinstance(self.map, AnswerabilityMap):
            self._check_scale(self.map.fitted)
        elif not isinstance(self.map, (str, os.PathLike)):
            raise ConfigError(f"expected a path or an AnswerabilityMap, got {type(self.map).__name__}", path="map")
        else:
            object.__setattr__(self, "map", os.fspath(self.map))

    def warm_up(self) -> None:
        """Load the reranker and the map, and check whether they belong together."""
        super().warm_up()
        _ = self._ready

    def _identity_facts(self) -> Mapping[str, Any]:
        """Return the numbers of the map; its path and its provenance change no probability."""
        return {"map": self._map.shape}

    @load_once
    def _map(self) -> AnswerabilityMap:
        answerability_map = self.map if isinstance(self.map, AnswerabilityMap) else AnswerabilityMap.load(self.map)
        self._check_scale(answerability_map.fitted)
        return answerability_map

    @load_once
    def _ready(self) -> _Ready:
        with without_call_instruction():  # the answer is kept for all calls
            identity = self.reranker.identity
        if self._map.fitted.identity == identity:
            return _Ready(self._map, ())
        doubt = doubt_about(self._map.fitted, self.reranker, _REFIT)
        warnings.warn(f"{self.label}: {doubt}", CalibrationWarning, stacklevel=caller_stacklevel())
        return _Ready(self._map, (doubt,))

    def _check_scale(self, fitted: Provenance) -> None:
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
            notes = (f"the map was fitted without the instruction of this call; answerable may be off. {_REFIT}",)
        degraded: tuple[str, ...] = ()
        probability: float | None = 0.0
        if any(hit.unscored != BLANK for hit in ranking):
            probability = ready.map.probability([hit.raw_score for hit in ranking if hit.raw_score is not None])
            if ranking.substituted or ranking.scale != fitted.scale:
                probability = None
                degraded = (f"answerable is unknown, since another reranker answered than {self.reranker.label}",)
            elif probability is None:
                notes = (*notes, "answerable is unknown: that takes the scores of two texts or more")
        return PlanResult(
            ranking.hits,
            ranking.scale,
            degraded,
            notes,
            substituted=ranking.substituted,
            answerable=probability,
        )


class _Ready(NamedTuple):
    """A map that was read and checked, with notes for the trace."""

    map: AnswerabilityMap
    notes: tuple[str, ...]
