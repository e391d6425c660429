"""Errors as HTTP answers: the status, and a body that the clients of each shape understand."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from rag_rerank.errors import (
    BackendTimeout,
    BadResponse,
    BillingError,
    CostExceeded,
    DeadlineExceeded,
    InputError,
    InputTooLong,
    Overloaded,
    RateLimited,
    RequestTooLarge,
    RerankError,
    TransientError,
)

__all__ = ["failure_body", "retry_headers", "status_of"]

_STATUS: tuple[tuple[type[RerankError], int], ...] = (
    (InputTooLong, 422),
    (InputError, 400),
    (RequestTooLarge, 413),
    (Overloaded, 429),
    (RateLimited, 429),
    (CostExceeded, 429),
    (DeadlineExceeded, 504),
    (BackendTimeout, 504),
    (TransientError, 503),
    (BadResponse, 502),
    (BillingError, 502),
)
"""The first class that fits gives the status. Mistakes of the caller are 4xx, those of a provider behind this server
502 to 504, and everything else, such as a wrong config, 500."""

_TYPES = {400: "invalid_request_error", 401: "authentication_error", 404: "not_found", 413: "request_too_large"}
_TEI_TYPES = {400: "Empty", 413: "Validation", 422: "Validation", 429: "Overloaded", 503: "Unhealthy", 504: "Backend"}
"""``error_type`` of Text Embeddings Inference, as far as it has one for the status."""


def status_of(error: RerankError) -> int:
    """Return the HTTP status of an error."""
    return next((status for kind, status in _STATUS if isinstance(error, kind)), 500)


def retry_headers(error: RerankError) -> dict[str, str]:
    """Return ``Retry-After``, in whole seconds, where it is known how long to wait."""
    seconds = getattr(error, "retry_after", None)
    return {} if seconds is None else {"Retry-After": str(max(1, math.ceil(seconds)))}


def failure_body(message: str, status: int, *, shape: str | None) -> Mapping[str, Any]:
    """Return the body of an error: TEI's own for TEI, else one that all others read.

    Cohere has ``message``, Voyage ``detail``, vLLM and most others ``error.message``.
    """
    if shape == "texts":
        return {"error": message, "error_type": _TEI_TYPES.get(status, "Backend")}
    kind = _TYPES.get(status, "rate_limit_error" if status == 429 else "server_error")
    return {"message": message, "detail": message, "error": {"message": message, "type": kind, "code": status}}
