"""Answerable: says how probable it is that a candidate answers the query at all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from rag_rerank._files import FilePath
from rag_rerank._lazy import peek
from rag_rerank.compose.calibration.answerability_map import AnswerabilityMap
from rag_rerank.compose.calibration.map_wrapper import CheckedMap, MapWrapper
from rag_rerank.execution.plan import Call, InThread, Plan, PlanResult
from rag_rerank.types import BLANK, Candidate, Ranking

__all__ = ["Answerable"]


@dataclass(frozen=True, kw_only=True)
class Answerable(MapWrapper):
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
    map_class: ClassVar[type[AnswerabilityMap]] = AnswerabilityMap
    refit: ClassVar[str] = "Fit one for it: rag-rerank calibrate JUDGED --answerable --config CONFIG -o answerable.json"

    map: FilePath | AnswerabilityMap

    def _plan(self, query: str, candidates: tuple[Candidate, ...]) -> Plan:
        ready: CheckedMap = peek(self, "_ready") or (yield InThread(lambda: self._ready))
        ranking: Ranking = yield Call(self.reranker, query, candidates)
        notes, degraded = self._notes_of_call(ready), tuple[str, ...]()
        probability: float | None = 0.0
        if any(hit.unscored != BLANK for hit in ranking):
            probability = ready.map.probability([hit.raw_score for hit in ranking if hit.raw_score is not None])
            if ranking.substituted or ranking.scale != ready.map.fitted.scale:
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
