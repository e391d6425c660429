"""One request until it is answered: admission, attempts, and the one retry policy (tenacity)."""

from __future__ import annotations

import math
import random
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from rag_rerank.backends.api.breaker import Breaker
from rag_rerank.backends.api.limiter import KeyLimiter, Limits, QueueTicket
from rag_rerank.backends.api.pricing import Price
from rag_rerank.errors import CircuitOpen, ConfigError, CostExceeded, RateLimited, RequestTooLarge, TransientError
from rag_rerank.execution.clock import asleep, now, sleep, wait_for_any
from rag_rerank.execution.deadline import deadline_error, seconds_left, time_is_up
from rag_rerank.trace import Usage

if TYPE_CHECKING:
    from tenacity import RetryCallState

__all__ = ["AdmittedRequest", "Attempt", "Attempts", "CallPolicy", "RetryPolicy", "Wait"]

_WORTH_A_NOTE = 0.01
"""Seconds from which on a wait is told."""


@dataclass(frozen=True, kw_only=True)
class CallPolicy:
    """What a reranker keeps to in one call, and with whom it shares it.

    Args:
        label: How messages call the reranker.
        backend: Registry name, for errors.
        model: Model, for errors.
        gate: What it shares with others of the same key.
        limits: Its limits.
        timeout: Seconds that it waits for an answer.
        breaker: When it leaves a failing provider alone; ``None`` for never.
        price: What it pays; ``None`` if that is not known.
        listed: Whether the price is our table's, which may be out of date.
    """

    label: str = ""
    backend: str = ""
    model: str = ""
    gate: KeyLimiter = field(default_factory=KeyLimiter)
    limits: Limits = field(default_factory=Limits)
    timeout: float = math.inf
    breaker: Breaker | None = None
    price: Price | None = None
    listed: bool = False


@dataclass(frozen=True, slots=True)
class Wait:
    """A wait of some seconds, cut short by news."""

    news: Future[None]
    seconds: float

    def here(self) -> None:
        """Wait on this thread."""
        wait_for_any([self.news], self.seconds)

    async def there(self) -> None:
        """Wait without blocking the event loop."""
        import asyncio

        sleeping = asyncio.ensure_future(asleep(self.seconds))
        try:
            await asyncio.wait({sleeping, asyncio.wrap_future(self.news)}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleeping.cancel()


class AdmittedRequest:
    """One request with all its attempts: what it may cost and did, and what there is to say about its way.

    Args:
        terms: What it keeps to.
        weigh: Gives the estimated tokens of each text, first those of this request, then those of each request that
            its call still has to send.
        spent: What the call has cost so far, in US dollars.
    """

    def __init__(
        self, terms: CallPolicy, weigh: Callable[[], list[list[int]]] = lambda: [[]], spent: float | None = None
    ) -> None:
        self.terms = terms
        self.notes: list[str] = []
        self.bill = Usage()
        self.ticket: QueueTicket | None = None
        self._weigh = weigh
        self._spent = spent or 0.0
        self._reserved: float | None = None

    @property
    def tokens(self) -> int:
        """Estimated tokens of the request; also where this reranker has no limit, for others may have one."""
        return sum(self._weights[0])

    def shut(self, seconds: float) -> float | None:
        """Return how long the circuit stays open for an attempt that has so much time; ``None`` where it is closed."""
        terms = self.terms
        if terms.breaker is None:
            return None
        return terms.gate.circuit.shut(terms.breaker, min(terms.timeout, seconds))

    def reserve(self) -> None:
        """Set the estimated cost aside, once for all attempts.

        Raises:
            CostExceeded: That is more than a ceiling allows.
        """
        terms, limits = self.terms, self.terms.limits
        if not limits.priced or self._reserved is not None:
            return
        assert terms.price is not None
        cost, *rest = map(terms.price.estimate, self._weights)
        later = sum(rest)
        if limits.cost_per_call is not None and self._spent + cost + later > limits.cost_per_call * (1 + 1e-9):
            raise self._too_dear("this call", "cost_per_call", self._spent, cost + later)
        before = terms.gate.ledger.reserve(cost, later, limits.cost_per_process)
        if before is not None:
            raise self._too_dear("this process with this key", "cost_per_process", before, cost + later)
        self._reserved = cost

    def settle(self, usage: Usage | None) -> None:
        """Enter what came of the request: what the answer says was billed, or ``None`` where there was no answer."""
        terms = self.terms
        cost = 0.0
        if usage is not None:
            if usage.tokens is not None and self.ticket is not None:
                terms.gate.correct(self.ticket, usage.tokens)
            if terms.price is not None:
                told = terms.price.billed(usage)
                cost = terms.price.estimate(self._weights[0]) if told is None else told
                guessed = terms.listed or told is None or bool(usage.estimated)
                self.bill = Usage(cost=cost, estimated=("cost",) if guessed else ())
        terms.gate.ledger.settle(self._reserved or 0.0, cost)
        self._reserved = None

    def turn(self, left: Callable[[], float]) -> Attempt:
        """Return the next attempt; ``left`` gives the seconds that it has, waits included."""
        return Attempt(self, left)

    @cached_property
    def _weights(self) -> list[list[int]]:
        return self._weigh()

    def _too_dear(self, whose: str, name: str, spent: float, more: float) -> CostExceeded:
        terms = self.terms
        return CostExceeded(
            f"{terms.label} was not asked: {whose} has spent ${spent:.6g}, and by estimate ${more:.6g} more would "
            f"pass limits.{name}={getattr(terms.limits, name)}; raise it, send fewer texts, or put a local reranker "
            "behind it in a fallback",
            backend=terms.backend,
            model=terms.model,
        )


class Attempt:
    """One attempt, as a context manager that gives back what it holds, however the attempt ends.

    Attributes:
        sent: Whether nothing stands in the way any more.
    """

    def __init__(self, visit: AdmittedRequest, left: Callable[[], float]) -> None:
        self.sent = False
        self._visit = visit
        self._terms = visit.terms
        self._gate = visit.terms.gate
        self._left = left
        self._patience = 0.0
        self._ticket: QueueTicket | None = None

    def __enter__(self) -> Attempt:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.sent:
            self._gate.circuit.leave(self, self._patience, error, answered=error is None)
            if isinstance(error, RateLimited) and error.retry_after is not None:
                self._gate.hold(error.retry_after)
        if self._ticket is not None:
            self._gate.leave(self._ticket, sent=self.sent)

    def pauses(self) -> Iterator[Wait]:
        """Yield each wait, until the request may be sent.

        Raises:
            CircuitOpen: The provider is left alone for now.
            CostExceeded: A ceiling would be passed.
            RateLimited: The wait would be longer than the time allows.
            RequestTooLarge: It has more tokens than a minute may have.
            DeadlineExceeded: The call's time is up.
        """
        visit, terms = self._visit, self._terms
        if time_is_up():
            raise deadline_error(terms.label)
        self._heed(visit.shut(self._left()))
        visit.reserve()
        self._ticket = visit.ticket = QueueTicket(terms.limits, self._weight())
        self._gate.join(self._ticket)
        began, held = now(), self._gate.held
        while (wait := self._gate.wait(self._ticket)) > 0:
            left = self._left()
            if left <= 0 or left <= wait < math.inf:
                raise self._refused(wait)
            yield Wait(self._ticket.news, min(wait, left))
        if (waited := now() - began) >= _WORTH_A_NOTE:
            why = "as the provider had asked" if held else f"to keep {terms.limits}"
            visit.notes.append(f"waited {waited:.3g} s before sending, {why}")
        if time_is_up():
            raise deadline_error(terms.label)
        left = max(self._left(), 0.0)
        self._patience = min(terms.timeout, left)
        if terms.breaker is not None:
            shut, probing = self._gate.circuit.enter(terms.breaker, self, self._patience, left)
            self._heed(shut)
            if probing:
                visit.notes.append("the circuit was open, and this request was the probe")
        self.sent = True

    def _weight(self) -> int:
        tokens, most = self._visit.tokens, self._terms.limits.tokens_per_minute
        if most is not None and tokens > most:
            raise RequestTooLarge(
                f"{self._terms.label} was not asked: the request has {tokens} tokens by estimate, and "
                f"limits.tokens_per_minute={most} allows no more in a whole minute; raise it, or send fewer texts",
                backend=self._terms.backend,
                model=self._terms.model,
            )
        return tokens

    def _heed(self, shut: float | None) -> None:
        terms = self._terms
        if shut is None or terms.breaker is None:
            return
        when = f"the next request may go in {shut:.3g} s" if shut else "one request is on its way as the probe"
        raise CircuitOpen(
            f"{terms.label} was not asked: its circuit is open, after {terms.breaker.failures} failures in a row or "
            f"more, and {when}. Wait, or put another reranker behind it in a fallback",
            retry_after=shut or None,
            backend=terms.backend,
            model=terms.model,
        )

    def _refused(self, wait: float) -> RateLimited:
        terms = self._terms
        if self._gate.held:
            why = "the provider asked all requests with this key to wait"
        elif wait == math.inf:
            why = f"limits.concurrency={terms.limits.concurrency} places were taken all the time that this request had"
        else:
            why = f"our own limit is reached ({terms.limits})"
        when = "" if wait == math.inf else f"; it might go in {wait:.3g} s, which is longer than the time it has"
        return RateLimited(
            f"{terms.label} was not asked: {why}{when}. Raise the limit, retry.budget or the timeout, or put another "
            "reranker behind it in a fallback",
            retry_after=None if wait == math.inf else wait,
            backend=terms.backend,
            model=terms.model,
        )


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
    """The attempts of one request: sends it as the policy and its `AdmittedRequest` allow, and remembers what happened.

    What was refused before it was sent is not tried again, and neither is what failed when that opened the circuit.

    Attributes:
        count: How often the request was sent.
        failures: What went wrong in the attempts before the last.
    """

    def __init__(self, policy: RetryPolicy, visit: AdmittedRequest | None = None) -> None:
        self.count = 0
        self.failures: list[str] = []
        self._policy = policy
        self._last: BaseException | None = None
        self._visit = AdmittedRequest(CallPolicy()) if visit is None else visit
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

    def _turn(self) -> Attempt:
        self._sent = False
        if self._last is not None and time_is_up():  # the call was abandoned, or has become late, during the wait
            self.failures.pop()
            raise self._last
        return self._visit.turn(self._left)

    def _begun(self) -> float:
        self._sent = True
        self.count += 1
        return max(self._left(), 0.05)

    def _left(self) -> float:
        return min(self._end - now(), seconds_left())

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
        return self.count >= self._policy.attempts or left <= 0 or time_is_up() or self._visit.shut(left) is not None

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
