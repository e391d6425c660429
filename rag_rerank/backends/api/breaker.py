"""When a provider that fails is left alone for a while: the circuit breaker of Nygard's "Release It!" (2007).

Why own code: none of the well-kept libraries has what is needed here. circuitbreaker 2.1.3 and purgatory 3.0.1 let
every caller through when half-open, not one; pybreaker 1.4.1 holds a lock during the call and is asynchronous by
Tornado only; aiobreaker 1.2.0 has had no release since May 2021 and has no lock for threads. None takes a clock, and
none gives back a probe that was cancelled. Importing each takes 75 to 105 ms.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from threading import Lock

from rag_rerank.errors import BackendTimeout, BackendUnavailable, ConfigError
from rag_rerank.execution.clock import now

__all__ = ["Breaker", "Circuit"]

_MOST = 1_000
"""Failures in a row that are remembered."""

_MORE_PATIENT = 2.0
"""Who waits this many times as long as others did may be answered where they were not."""


@dataclass(frozen=True, kw_only=True)
class Breaker:
    """After some failures in a row nothing is sent for a while; then one request is the probe.

    While the circuit is open, calls raise `CircuitOpen` before anything is sent, so that a Fallback moves on at once
    instead of waiting for one more timeout. Once ``seconds`` have passed since the last failure, one request goes out
    as the probe, the others are still refused. An answer to it closes the circuit, a failure keeps it open for another
    ``seconds``, and a probe that was cancelled or lost lets the next request be one.

    Failures are timeouts, broken connections and server errors (`BackendTimeout`, `BackendUnavailable`). Refusals are
    none: a provider that answers 429 or 401 is there. Attempts are counted, not calls, those of all rerankers of this
    process with the same provider, server and key, and an answer to any of them starts the count anew. An open circuit
    ends the attempts of a call.

    A timeout says little to those who are ready to wait longer: it counts for requests that have at most twice the time
    that it had, by their ``timeout`` and by the time of their call. So callers in a hurry cannot shut out the others
    from a provider that only is too slow for them.

    No reranker has a breaker by default. Alone, it turns slow failures into quick ones, also where one more attempt
    would have been answered; it belongs in front of something else that can answer, as a member of a `Fallback`.

    Args:
        failures: Failures in a row that open the circuit; at most 1,000.
        seconds: How long it stays open after the last of them.

    Raises:
        ConfigError: ``failures`` is no whole number from 1 to 1,000, or ``seconds`` not finite and more than 0.
    """

    failures: int = 5
    seconds: float = 30.0

    def __post_init__(self) -> None:
        if isinstance(self.failures, bool) or not isinstance(self.failures, int) or not 1 <= self.failures <= _MOST:
            raise ConfigError(
                f"failures must be a whole number from 1 to {_MOST}, got {self.failures!r:.40}", path="failures"
            )
        if not (self.seconds > 0 and math.isfinite(self.seconds)):
            raise ConfigError(f"seconds must be finite and more than 0, got {self.seconds}", path="seconds")


class Circuit:
    """The failures in a row of one key, and the probe that is on its way, if there is one.

    Each caller brings its own `Breaker` and its patience: the seconds that it has for a request. What is open for one
    may be closed for another.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._row: deque[tuple[float, float]] = deque(maxlen=_MOST)  # patience, infinite but for timeouts, and moment
        self._probe: object = None
        self._probe_ends = -math.inf

    def shut(self, breaker: Breaker, patience: float) -> float | None:
        """Return the seconds for which nothing may be sent; 0 while a probe is on its way, ``None`` if one may."""
        with self._lock:
            return self._shut(breaker, self._failed_at(patience))

    def enter(self, breaker: Breaker, who: object, patience: float, seconds: float) -> tuple[float | None, bool]:
        """Return what `shut` does, and whether the one who asks is now the probe.

        Args:
            breaker: What the caller keeps to.
            who: The caller, who is to `leave` in any case.
            patience: Seconds that it has for this request.
            seconds: Time that it has in all, after which a probe that has not left is given up as lost.
        """
        with self._lock:
            failed_at = self._failed_at(patience)
            shut = self._shut(breaker, failed_at)
            probing = shut is None and len(failed_at) >= breaker.failures
            if probing:
                self._probe, self._probe_ends = who, now() + seconds
            return shut, probing

    def leave(self, who: object, patience: float, error: BaseException | None, *, answered: bool) -> None:
        """Take note of what came of a request: an answer, a failure, or nothing that says how the provider is."""
        with self._lock:
            if self._probe is who:
                self._probe = None
            if answered:
                self._row.clear()
            elif isinstance(error, BackendTimeout):
                self._row.append((patience, now()))
            elif isinstance(error, BackendUnavailable):
                self._row.append((math.inf, now()))

    def _failed_at(self, patience: float) -> list[float]:
        """Return when the failures were that say something to those who have so much patience."""
        return [moment for waited, moment in self._row if patience <= _MORE_PATIENT * waited]

    def _shut(self, breaker: Breaker, failed_at: list[float]) -> float | None:
        if len(failed_at) < breaker.failures:
            return None
        left = failed_at[-1] + breaker.seconds - now()
        if left > 0:
            return left
        return 0.0 if self._probe is not None and now() < self._probe_ends else None
