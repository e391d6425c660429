"""The one retry policy: which failed requests to an API are sent again, when, and how often. It runs on tenacity."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rag_rerank._checks import check_number, finite_positive, plain_fields
from rag_rerank.errors import ConfigError, TransientError

if TYPE_CHECKING:
    from tenacity import RetryCallState, Retrying

__all__ = ["RetryPolicy", "retrying"]


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """When and how often a request is sent again after a failure that may pass (`TransientError`).

    A request that was not answered in time is not sent again to a server that goes on with it (Infinity): it would do
    the same work twice, and be later with everything else.

    The wait doubles from ``first_wait`` up to ``max_wait``. If a provider says how long to wait (``Retry-After``), the
    wait is that long, even beyond ``max_wait``. No wait goes beyond ``budget``, nor beyond the time of the whole call:
    where the next attempt would come too late, the failure is raised at once.

    Args:
        attempts: How often a request is sent at most, the first time included. Use 1 for no retries.
        first_wait: Seconds to wait before the second attempt.
        max_wait: Seconds to wait between two attempts at most, unless the provider asks for more.
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
        plain_fields(self)
        if isinstance(self.attempts, bool) or not isinstance(self.attempts, int) or self.attempts < 1:
            raise ConfigError(f"attempts must be a whole number of at least 1, got {self.attempts!r}", path="attempts")
        for name in ("first_wait", "max_wait", "jitter"):
            value = getattr(self, name)
            check_number(value, name)
            if not (value >= 0 and math.isfinite(value)):
                raise ConfigError(f"{name} must be at least 0 seconds, got {value}", path=name)
        finite_positive(self.budget, "budget")


def retrying(
    policy: RetryPolicy,
    *,
    last_error: Callable[[], BaseException | None],
    may_wait: Callable[[float], bool],
    on_failure: Callable[[], None],
    pause: Callable[[float], None],
) -> Retrying:
    """Return the policy as an iterator of tenacity's attempts.

    Args:
        policy: How often, and how long to wait.
        last_error: Returns the error of the attempt that failed last; its ``retry_after`` is waited for.
        may_wait: Whether a wait of so many seconds leaves time for another attempt.
        on_failure: Called after each attempt that another one follows.
        pause: Called with the seconds before the next attempt; it may note them and wait later.
    """
    import tenacity

    backoff = tenacity.wait_exponential(multiplier=policy.first_wait, max=policy.max_wait)
    jitter = tenacity.wait_random(0, policy.jitter)
    is_last_attempt = tenacity.stop_after_attempt(policy.attempts)

    def wait(state: RetryCallState) -> float:
        retry_after = getattr(last_error(), "retry_after", None) or 0.0
        return max(backoff(state), retry_after) + jitter(state)

    def stop(state: RetryCallState) -> bool:
        return is_last_attempt(state) or not may_wait(state.upcoming_sleep)

    return tenacity.Retrying(
        retry=tenacity.retry_if_exception(lambda error: isinstance(error, TransientError) and not error.still_busy),
        wait=wait,
        stop=stop,
        before_sleep=lambda state: on_failure(),
        sleep=pause,
        reraise=True,
    )
