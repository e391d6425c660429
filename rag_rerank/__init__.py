"""Provider-agnostic reranking for retrieval-augmented generation.

>>> import rag_rerank
>>> reranker = rag_rerank.build("embedded")
>>> ranking = reranker.rerank("how tall is K2?", ["K2 is 8,611 m high.", "Lake Garda is 346 m deep."], top_k=1)
>>> ranking[0].text
'K2 is 8,611 m high.'
"""

import logging

from rag_rerank.base import Composite, PointwiseReranker, Reranker
from rag_rerank.compose import (
    Cached,
    Calibrated,
    CalibrationMap,
    Cascade,
    Deadline,
    Ensemble,
    Fallback,
    Hedge,
    Recorded,
    Shadow,
    ShadowReport,
    ShadowSummary,
    Stage,
    Windows,
)
from rag_rerank.config import Spec, build, json_schema, load, to_config
from rag_rerank.context import Context, Dropped, Packing, Piece, pack
from rag_rerank.errors import (
    AllFailed,
    AuthenticationError,
    BackendError,
    BackendTimeout,
    BackendUnavailable,
    BadResponse,
    BillingError,
    CalibrationWarning,
    CircuitOpen,
    ConfigError,
    CostExceeded,
    DeadlineExceeded,
    InputError,
    InputTooLong,
    MissingExtraError,
    ModelLoadError,
    Overloaded,
    RateLimited,
    RequestRejected,
    RequestTooLarge,
    RerankError,
    TransientError,
    TruncationWarning,
)
from rag_rerank.execution.observers import tagged
from rag_rerank.records.recorder import recording
from rag_rerank.secret import Secret
from rag_rerank.trace import Coverage, Trace, Usage
from rag_rerank.types import Candidate, Hit, Ranking, Scale, Scores

__all__ = [
    "AllFailed",
    "AuthenticationError",
    "BackendError",
    "BackendTimeout",
    "BackendUnavailable",
    "BadResponse",
    "BillingError",
    "Cached",
    "Calibrated",
    "CalibrationMap",
    "CalibrationWarning",
    "Candidate",
    "Cascade",
    "CircuitOpen",
    "Composite",
    "ConfigError",
    "Context",
    "CostExceeded",
    "Coverage",
    "Deadline",
    "DeadlineExceeded",
    "Dropped",
    "Ensemble",
    "Fallback",
    "Hedge",
    "Hit",
    "InputError",
    "InputTooLong",
    "MissingExtraError",
    "ModelLoadError",
    "Overloaded",
    "Packing",
    "Piece",
    "PointwiseReranker",
    "Ranking",
    "RateLimited",
    "Recorded",
    "RequestRejected",
    "RequestTooLarge",
    "RerankError",
    "Reranker",
    "Scale",
    "Scores",
    "Secret",
    "Shadow",
    "ShadowReport",
    "ShadowSummary",
    "Spec",
    "Stage",
    "Trace",
    "TransientError",
    "TruncationWarning",
    "Usage",
    "Windows",
    "build",
    "json_schema",
    "load",
    "pack",
    "recording",
    "tagged",
    "to_config",
]

__version__ = "0.1.0"

logging.getLogger("rag_rerank").addHandler(logging.NullHandler())
