"""When a request to a provider is sent again: one policy, carried out by tenacity, and no other retries anywhere."""

from __future__ import annotations

import math
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from rag_rerank._clock import asleep, now, sleep
from rag_rerank._deadline import left, spent
from rag_rerank.backends._visit import Terms, Turn, Visit
from rag_rerank.errors import ConfigError, TransientError

if TYPE_CHECKING:
    from tenacity import RetryCallState

__all__ = ["Attempts", "RetryPolicy"]

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """How often, and for how long, a request is sent again after a failure that may pass (`TransientError`).

    The wait doubles from ``first_wait`` up to ``max_wait``. A provider that says how long to wait (``Retry-After``)
    is waited for that long, ``max_wait`` or not. No wait goes beyond ``budget``, nor beyond the time of the whole call:
    where the next attempt would come too late, the failure is raised at once.

    Args:
        attempts: How often a request is sent at most, the first time included; 1 for no retries.
        first_wait: Seconds before the second attempt.
        max_wait: Most seconds between two attempts, unless the provider asks for more.
        budget: Seconds for one request with all its attempts and waits. It also cuts the timeout of an attempt.
        jitter: Up to this many seconds, drawn at random, are added to every wait, so that many clients do not
            come back together.

    Raises:
        ConfigError: A value that is no such number.
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
        if not (self.budget > 0 and math.isfinite(self.budget)):
            raise ConfigError(f"budget must be more than 0 seconds, got {self.budget}", path="budget")


class Attempts:
    """The attempts of one request: sends it as the policy and its `Visit` allow, and remembers what happened.

    What was refused before it was sent is not tried again, and neither is what failed when that opened the circuit.

    Attributes:
        count: How often the request was sent.
        failures: What went wrong in the attempts before the last.
    """

    def __init__(self, policy: RetryPolicy, visit: Visit | None = None) -> None:
        self.count = 0
        self.failures: list[str] = []
        self._policy = policy
        self._last: BaseException | None = None
        self._visit = Visit(Terms()) if visit is None else visit
        self._sent = False
        self._end = now() + policy.budget

    def run(self, send: Callable[[float], T]) -> T:
        """Call ``send`` with the seconds that are left, until it answers or the policy gives up.

        Raises:
            RerankError: What the last attempt raised.
        """
        from tenacity import Retrying

        answer: T = Retrying(sleep=sleep, **self._rules())(self._attempt, send)
        return answer

    async def arun(self, send: Callable[[float], Awaitable[T]]) -> T:
        """Do what `run` does without blocking the event loop."""
        from tenacity import AsyncRetrying

        async def attempt() -> T:
            with self._turn() as turn:
                for pause in turn.pauses():
                    await pause.there()
                return await send(self._begun())

        return await AsyncRetrying(sleep=asleep, **self._rules())(attempt)

    def _attempt(self, send: Callable[[float], T]) -> T:
        with self._turn() as turn:
            for pause in turn.pauses():
                pause.here()
            return send(self._begun())

    def _turn(self) -> Turn:
        self._sent = False
        if self._last is not None and spent():  # the call was abandoned, or has become late, during the wait
            self.failures.pop()
            raise self._last
        return self._visit.turn(self._left)

    def _begun(self) -> float:
        self._sent = True
        self.count += 1
        return max(self._left(), 0.05)

    def _left(self) -> float:
        return min(self._end - now(), left())

    def _rules(self) -> dict[str, Any]:
        from tenacity import retry_if_exception

        return {
            "retry": retry_if_exception(lambda error: isinstance(error, TransientError) and self._sent),
            "wait": self._wait,
            "stop": self._is_over,
            "before_sleep": self._failed,
            "reraise": True,
        }

    def _is_over(self, state: RetryCallState) -> bool:
        left = self._left() - state.upcoming_sleep
        return self.count >= self._policy.attempts or left <= 0 or spent() or self._visit.shut(left) is not None

    def _failed(self, state: RetryCallState) -> None:
        self._last = _error(state)
        self.failures.append(_describe(self._last))

    def _wait(self, state: RetryCallState) -> float:
        from tenacity import wait_exponential

        policy = self._policy
        wait = wait_exponential(multiplier=policy.first_wait, max=policy.max_wait)(state)
        asked = getattr(_error(state), "retry_after", None)
        return max(wait, asked or 0.0) + policy.jitter * random.random()


def _error(state: RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome else None


def _describe(error: BaseException | None) -> str:
    return f"{type(error).__name__}: {error}"
