"""The circuit breaker of Nygard's "Release It!" (2007): nothing is sent for a while to a provider that keeps failing.

Why this is code of our own: no maintained library does what is needed. circuitbreaker 2.1.3 and purgatory 3.0.1 let
every caller through when half-open, not one; pybreaker 1.4.1 holds a lock during the call and is asynchronous by
Tornado only; aiobreaker 1.2.0 has had no release since May 2021 and has no lock for threads. None takes a clock, and
none gives back a probe that was cancelled. Importing each takes 75 to 105 ms.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from threading import Lock

from rag_rerank._checks import finite_positive, plain_fields
from rag_rerank.errors import BackendTimeout, BackendUnavailable, ConfigError
from rag_rerank.execution.clock import now

__all__ = ["Breaker", "Circuit"]

_MOST_FAILURES = 1_000
"""Failures in a row that are remembered."""

_LONGER = 2.0
"""A request with more than this many times the timeout of another may be answered where the other was not."""


@dataclass(frozen=True, kw_only=True)
class Breaker:
    """A circuit breaker: after some failures in a row nothing is sent for a while; then one request is the probe.

    While the circuit is open, calls raise `CircuitOpen` before anything is sent, so that a `Fallback` calls its next
    member at once instead of waiting for one more timeout. Once ``seconds`` have passed since the last failure, one
    request is sent as the probe; the others are still refused. An answer to it closes the circuit, a failure keeps it
    open for another ``seconds``, and after a probe that was cancelled or lost the next request is the probe.

    Failures are timeouts, broken connections and server errors (`BackendTimeout`, `BackendUnavailable`). An answer of
    429 or 401 is no failure: the provider works. Attempts are counted, not calls, those of all rerankers of this
    process with the same provider, server and key; an answer to any of them resets the count. An open circuit ends the
    attempts of a call.

    A timeout says little about requests that wait longer: it counts for requests that have at most twice the time that
    it had, by their ``timeout`` and by the time of their call. So callers with little time cannot shut out the others
    from a provider that is only too slow for them.

    No reranker has a breaker by default. Alone, it turns slow failures into quick ones, also where one more attempt
    would have been answered; use it for a member of a `Fallback`, where another member can answer.

    Args:
        failures: How many failures in a row open the circuit; at most 1,000.
        seconds: How many seconds it stays open after the last of them.

    Raises:
        ConfigError: ``failures`` is no whole number from 1 to 1,000, or ``seconds`` is not finite and more than 0.
    """

    failures: int = 5
    seconds: float = 30.0

    def __post_init__(self) -> None:
        plain_fields(self)
        count = self.failures
        if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= _MOST_FAILURES:
            raise ConfigError(
                f"failures must be a whole number from 1 to {_MOST_FAILURES}, got {count!r:.40}", path="failures"
            )
        finite_positive(self.seconds, "seconds")


class Circuit:
    """The failures in a row of one key, and the probe, if one is in flight.

    Each caller brings its own `Breaker` and its timeout: the seconds that it has for a request. The circuit may be
    open for one caller and closed for another.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        # the timeout that each had, infinity where it was no timeout, and when it was
        self._failures: deque[tuple[float, float]] = deque(maxlen=_MOST_FAILURES)
        self._probe: object = None
        self._probe_ends = -math.inf

    def open_for(self, breaker: Breaker, timeout: float) -> float | None:
        """Return the seconds for which nothing may be sent; 0 while a probe is in flight, ``None`` if one may send."""
        with self._lock:
            return self._open_for(breaker, self._failure_times(timeout))

    def enter(self, breaker: Breaker, caller: object, timeout: float, seconds: float) -> tuple[float | None, bool]:
        """Return what `open_for` does, and whether the caller is now the probe.

        Args:
            breaker: The caller's breaker.
            caller: The caller, which must `leave` in any case.
            timeout: Seconds that it has for this request.
            seconds: Time that it has in all; after it, a probe that has not left counts as lost.
        """
        with self._lock:
            failure_times = self._failure_times(timeout)
            open_for = self._open_for(breaker, failure_times)
            is_probe = open_for is None and len(failure_times) >= breaker.failures
            if is_probe:
                self._probe, self._probe_ends = caller, now() + seconds
            return open_for, is_probe

    def leave(self, caller: object, timeout: float, error: BaseException | None) -> None:
        """Note the end of a request: an answer (no error), a failure, or an error that says nothing of the provider."""
        with self._lock:
            if self._probe is caller:
                self._probe = None
            if error is None:
                self._failures.clear()
            elif isinstance(error, BackendTimeout):
                self._failures.append((timeout, now()))
            elif isinstance(error, BackendUnavailable):
                self._failures.append((math.inf, now()))

    def _failure_times(self, timeout: float) -> list[float]:
        """Return the times of the failures that count for a request with this timeout."""
        return [time for waited, time in self._failures if timeout <= _LONGER * waited]

    def _open_for(self, breaker: Breaker, failure_times: list[float]) -> float | None:
        if len(failure_times) < breaker.failures:
            return None
        seconds = failure_times[-1] + breaker.seconds - now()
        if seconds > 0:
            return seconds
        return 0.0 if self._probe is not None and now() < self._probe_ends else None
