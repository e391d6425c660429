"""Calibration maps made by hand."""

from typing import Any

from rag_rerank import AnswerabilityMap, CalibrationMap, Reranker
from rag_rerank.compose import FitQuality, Provenance

STEPS: dict[str, Any] = {
    "method": "isotonic",
    "scores": (-2.0, 0.0, 1.0, 4.0),
    "probabilities": (0.1, 0.1, 0.5, 0.9),
}


def fitted_on(reranker: Reranker, /, **facts: Any) -> Provenance:
    """Return the provenance of a map for a reranker."""
    return Provenance(
        **{
            "reranker": reranker.label,
            "model": getattr(reranker, "model_id", None),
            "scale": reranker.scale,
            "identity": reranker.identity,
            "data": "by hand",
            "fingerprint": "0" * 64,
            "relevant": (1,),
            "queries": 50,
            "pairs": 500,
            "prior": 0.25,
            "after": FitQuality(ece=0.02, brier=0.1, log_loss=0.4),
            "version": "0.1.0",
            "date": "2026-11-21",
            **facts,
        }
    )


def map_for(reranker: Reranker, **shape: Any) -> CalibrationMap:
    """Return a map for a reranker; by default a sigmoid."""
    shape = shape or {"method": "platt", "slope": 0.5, "intercept": -1.0}
    return CalibrationMap(fitted=fitted_on(reranker), **shape)


def answerability_map_for(reranker: Reranker, **values: Any) -> AnswerabilityMap:
    """Return an answerability map for a reranker: the probability is that of ``top`` plus half of ``lead``."""
    values = {"weights": {"top": 1.0, "lead": 0.5}, "intercept": 0.0, "auroc": 0.8, **values}
    return AnswerabilityMap(fitted=fitted_on(reranker, prior=0.5), **values)
