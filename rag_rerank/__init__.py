"""Provider-agnostic reranking for retrieval-augmented generation: one interface for local models and rerank APIs.

>>> import rag_rerank
>>> reranker = rag_rerank.build("embedded")
>>> ranking = reranker.rerank("how tall is K2?", ["K2 is 8,611 m high.", "Lake Garda is 346 m deep."], top_k=1)
>>> ranking[0].text
'K2 is 8,611 m high.'
"""

import logging

from rag_rerank._files import FilePath
from rag_rerank._version import __version__ as __version__
from rag_rerank.backends.api.breaker import Breaker
from rag_rerank.backends.api.limiter import Limits
from rag_rerank.backends.api.pricing import Price
from rag_rerank.backends.api.retry import RetryPolicy
from rag_rerank.base import Composite, PointwiseReranker, Reranker
from rag_rerank.compose import (
    AnswerabilityMap,
    Answerable,
    Cached,
    Calibrated,
    CalibrationMap,
    Cascade,
    Deadline,
    Decay,
    Ensemble,
    Fallback,
    Guarded,
    Hedge,
    LearningToRank,
    Recorded,
    RelevantSpans,
    Shadow,
    ShadowReport,
    ShadowSummary,
    Stage,
    Template,
    Windows,
    Wrapper,
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
    ContextWarning,
    CostExceeded,
    DeadlineExceeded,
    InputError,
    InputTooLong,
    MissingExtraError,
    ModelLoadError,
    ModelUnavailable,
    Overloaded,
    QueryTruncationWarning,
    RateLimited,
    ReadabilityWarning,
    RequestRejected,
    RequestTooLarge,
    RerankError,
    ScaleWarning,
    SubstitutionWarning,
    TransientError,
    TruncationWarning,
    UnreadableText,
    UnusableKey,
    VerificationError,
)
from rag_rerank.execution.observers import tagged
from rag_rerank.execution.plan import Call, InThread, Parallel, Plan, PlanResult
from rag_rerank.records.recorder import recording
from rag_rerank.secret import Secret
from rag_rerank.trace import Coverage, Trace, Usage
from rag_rerank.types import Candidate, Hit, Ranking, RelevantSpan, Scale, Scores

__all__ = [
    "AllFailed",
    "AnswerabilityMap",
    "Answerable",
    "AuthenticationError",
    "BackendError",
    "BackendTimeout",
    "BackendUnavailable",
    "BadResponse",
    "BillingError",
    "Breaker",
    "Cached",
    "Calibrated",
    "CalibrationMap",
    "CalibrationWarning",
    "Call",
    "Candidate",
    "Cascade",
    "CircuitOpen",
    "Composite",
    "ConfigError",
    "Context",
    "ContextWarning",
    "CostExceeded",
    "Coverage",
    "Deadline",
    "DeadlineExceeded",
    "Decay",
    "Dropped",
    "Ensemble",
    "Fallback",
    "FilePath",
    "Guarded",
    "Hedge",
    "Hit",
    "InThread",
    "InputError",
    "InputTooLong",
    "LearningToRank",
    "Limits",
    "MissingExtraError",
    "ModelLoadError",
    "ModelUnavailable",
    "Overloaded",
    "Packing",
    "Parallel",
    "Piece",
    "Plan",
    "PlanResult",
    "PointwiseReranker",
    "Price",
    "QueryTruncationWarning",
    "Ranking",
    "RateLimited",
    "ReadabilityWarning",
    "Recorded",
    "RelevantSpan",
    "RelevantSpans",
    "RequestRejected",
    "RequestTooLarge",
    "RerankError",
    "Reranker",
    "RetryPolicy",
    "Scale",
    "ScaleWarning",
    "Scores",
    "Secret",
    "Shadow",
    "ShadowReport",
    "ShadowSummary",
    "Spec",
    "Stage",
    "SubstitutionWarning",
    "Template",
    "Trace",
    "TransientError",
    "TruncationWarning",
    "UnreadableText",
    "UnusableKey",
    "Usage",
    "VerificationError",
    "Windows",
    "Wrapper",
    "build",
    "json_schema",
    "load",
    "pack",
    "recording",
    "tagged",
    "to_config",
]

logging.getLogger("rag_rerank").addHandler(logging.NullHandler())
