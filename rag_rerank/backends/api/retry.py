"""The retry policy of the API rerankers, as a user writes it; `rag_rerank.backends.api.call` runs it on tenacity."""

from __future__ import annotations

import math
from dataclasses import dataclass

from rag_rerank._checks import finite_positive
from rag_rerank.errors import ConfigError

__all__ = ["RetryPolicy"]


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """The rules by which a request is sent again after a failure that may pass (`TransientError`).

    The wait doubles from ``first_wait`` up to ``max_wait``. If a provider says how long to wait (``Retry-After``), the
    wait is that long, even beyond ``max_wait``. No wait goes beyond ``budget``, nor beyond the time of the whole call:
    where the next attempt would come too late, the failure is raised at once.

    Args:
        attempts: How often a request is sent at most, the first time included; 1 for no retries.
        first_wait: Seconds before the second attempt.
        max_wait: Most seconds between two attempts, unless the provider asks for more.
        budget: Seconds for one request with all its attempts and waits. It also cuts the timeout of an attempt.
        jitter: A random number of seconds, up to this many, is added to every wait, so that many clients do not come
            back together.

    Raises:
        ConfigError: A value is out of its range.
    """

    attempts: int = 3
    first_wait: float = 0.5
    max_wait: float = 8.0
    budget: float = 30.0
    jitter: float = 0.5

    def __post_init__(self) -> None:
        if isinstance(self.attempts, bool) or not isinstance(self.attempts, int) or self.attempts < 1:
            raise ConfigError(f"attempts must be a whole number of at least 1, got {self.attempts!r}", path="attempts")
        for name in ("first_wait", "max_wait", "jitter"):
            value = getattr(self, name)
            if not (value >= 0 and math.isfinite(value)):
                raise ConfigError(f"{name} must be at least 0 seconds, got {value}", path=name)
        finite_positive(self.budget, "budget")
