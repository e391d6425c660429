"""Rerankers made of rerankers."""

from rag_rerank.compose.cache.cached import Cached
from rag_rerank.compose.calibration.answerability_map import AnswerabilityMap, FalseAccepts
from rag_rerank.compose.calibration.answerable import Answerable
from rag_rerank.compose.calibration.calibrated import Calibrated
from rag_rerank.compose.calibration.calibration_map import CalibrationMap, FitQuality, Provenance, Unjudged
from rag_rerank.compose.cascade import Cascade, Stage
from rag_rerank.compose.deadline import Deadline
from rag_rerank.compose.ensemble import Ensemble
from rag_rerank.compose.fallback import Fallback
from rag_rerank.compose.guarded import Guarded
from rag_rerank.compose.hedge import Hedge
from rag_rerank.compose.ltr.features import Features
from rag_rerank.compose.ltr.learning_to_rank import LearningToRank
from rag_rerank.compose.ltr.ltr_model import LtrModel, LtrProvenance, TrainedReranker
from rag_rerank.compose.metadata.decay import Decay
from rag_rerank.compose.metadata.template import Template
from rag_rerank.compose.recorded import Recorded
from rag_rerank.compose.relevant_spans import RelevantSpans
from rag_rerank.compose.shadow import Shadow
from rag_rerank.compose.shadow_report import ShadowReport, ShadowSummary
from rag_rerank.compose.windows import Windows
from rag_rerank.compose.wrapper import Wrapper

__all__ = [
    "AnswerabilityMap",
    "Answerable",
    "Cached",
    "Calibrated",
    "CalibrationMap",
    "Cascade",
    "Deadline",
    "Decay",
    "Ensemble",
    "Fallback",
    "FalseAccepts",
    "Features",
    "FitQuality",
    "Guarded",
    "Hedge",
    "LearningToRank",
    "LtrModel",
    "LtrProvenance",
    "Provenance",
    "Recorded",
    "RelevantSpans",
    "Shadow",
    "ShadowReport",
    "ShadowSummary",
    "Stage",
    "Template",
    "TrainedReranker",
    "Unjudged",
    "Windows",
    "Wrapper",
]
