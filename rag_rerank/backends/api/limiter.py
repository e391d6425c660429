"""The limits that a user sets for a provider, the limiter that all requests with one key share, and their policy."""

from __future__ import annotations

import math
import os
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, fields
from functools import partial
from itertools import chain
from threading import Lock

from rag_rerank._checks import plain_fields
from rag_rerank.backends.api.breaker import Breaker, Circuit
from rag_rerank.backends.api.pricing import Ledger, Price, is_over
from rag_rerank.backends.api.retry import RetryPolicy
from rag_rerank.errors import CircuitOpen, ConfigError, CostExceeded, RateLimited, RequestTooLarge
from rag_rerank.execution.clock import now
from rag_rerank.trace import Usage

__all__ = ["CallPolicy", "KeyLimiter", "Limits", "QueueTicket", "limiter_of"]


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits of a provider that are kept on this machine, before anything is sent; all are off by default.

    They count per key: all rerankers of this process with the same provider, server and key are counted together, in
    threads and on event loops alike; with an injected client, whose key is not known here, each reranker counts for
    itself. Where such rerankers name different limits, each keeps its own: it sends only while all of them together are
    below its numbers. So a background job with a smaller number leaves capacity to the others.

    A request starts only if, with it, no more than the limit started in the last 60 seconds (a sliding window: the
    whole minute's number may start at once, and then nothing for a minute). Requests that must wait share one queue,
    first come, first served; a wait of 10 ms or more is noted in the trace. A wait that would outlast the retry budget
    or the time of the call does not start: `RateLimited` is raised at once, with the wait in ``retry_after``. Each
    attempt counts as a request. When a provider answers 429 and says how long to wait, all requests with this key that
    have a limit of requests, tokens or concurrency wait that long, but no longer than a minute.

    The cost is what answers say was billed, times the price (`Price`); where an answer does not say it, our estimate.
    Before a request is sent, the estimate for it and for the rest of the call is added to what was spent; if that is
    over the ceiling, `CostExceeded` is raised and nothing is sent. A provider may also bill attempts without an answer;
    they are not counted here.

    Args:
        requests_per_minute: How many requests start in any 60 seconds at most. Set it to your provider's rate limit.
        tokens_per_minute: How many tokens these requests have at most. Tokens are estimated before sending, the query
            once for each text, and corrected when the answer says what was read. A request with more tokens is halved.
        concurrency: How many requests are in flight at the same time at most.
        cost_per_call: How many US dollars one call of ``rerank`` costs at most.
        cost_per_process: How many US dollars this process spends with this key at most.

    Raises:
        ConfigError: A value is not more than 0, is not finite, or counts something and is not a whole number.
    """

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrency: int | None = None
    cost_per_call: float | None = None
    cost_per_process: float | None = None

    def __post_init__(self) -> None:
        plain_fields(self)
        for name in (f.name for f in fields(self)):
            value, is_count = getattr(self, name), not name.startswith("cost")
            if value is None:
                continue
            number = isinstance(value, int if is_count else (int, float)) and not isinstance(value, bool)
            if not (number and value > 0 and math.isfinite(value)):
                kind = "a whole number of at least 1" if is_count else "a finite number of dollars, more than 0"
                raise ConfigError(f"{name} must be {kind}, or None for no limit, got {value!r}", path=name)

    @property
    def limits_rate(self) -> bool:
        """Whether a request may have to wait."""
        return (self.requests_per_minute, self.tokens_per_minute, self.concurrency) != (None, None, None)

    @property
    def limits_cost(self) -> bool:
        """Whether there is a ceiling of cost."""
        return (self.cost_per_call, self.cost_per_process) != (None, None)

    def admit(self, requests: int, tokens: int, more: int) -> bool:
        """Whether one more request, of ``more`` tokens, may start beside those of the last minute."""
        return (self.requests_per_minute is None or requests < self.requests_per_minute) and (
            self.tokens_per_minute is None or tokens + more <= self.tokens_per_minute
        )

    def __str__(self) -> str:
        """Name the limits that a request may have to wait for."""
        rates = {f.name: getattr(self, f.name) for f in fields(self) if not f.name.startswith("cost")}
        return ", ".join(f"limits.{name}={value}" for name, value in rates.items() if value is not None)


_MINUTE = 60.0
_SALT = os.urandom(32)


class QueueTicket:
    """A request in the queue of its key, and afterwards among those that started.

    Attributes:
        start_time: When it started, or when it may start by the present estimate.
        started: Whether it may be sent.
        changed: Done once it may start, or may start earlier than `KeyLimiter.wait` said.
    """

    def __init__(self, limits: Limits, tokens: int) -> None:
        self.limits = limits
        self.tokens = tokens
        self.start_time = math.inf
        self.started = False
        self.changed: Future[None] = Future()

    def wake(self) -> None:
        """Wake the request that waits with this ticket."""
        if not self.changed.done():
            self.changed.set_result(None)


class KeyLimiter:
    """The requests of one key: the queue, those in flight and those of the last minute; its circuit and its ledger.

    May be used by any threads and event loops; nothing here waits. A request in the queue calls `wait`, and calls it
    again when that time is over or `QueueTicket.changed` is done.
    """

    def __init__(self) -> None:
        self.circuit = Circuit()
        self.ledger = Ledger()
        self._lock = Lock()
        self._queue: OrderedDict[QueueTicket, None] = OrderedDict()
        self._minute: OrderedDict[QueueTicket, None] = OrderedDict()  # started in the last minute
        self._tokens = 0  # of those
        self._in_flight = 0
        self._back_off_until = -math.inf

    def enqueue(self, ticket: QueueTicket) -> None:
        """Put a ticket into the queue; `release` must follow. A ticket without limits starts at once, and counts."""
        with self._lock:
            if ticket.limits.limits_rate:
                self._queue[ticket] = None
            else:
                self._forget_older(now())
                self._start(ticket, now())

    def wait(self, ticket: QueueTicket) -> float:
        """Return the seconds until a ticket may start: 0 once it has, infinity while others must first be answered."""
        with self._lock:
            time = self._admit()
            if ticket.started:
                return 0.0
            if ticket.changed.done():
                ticket.changed = Future()
            return ticket.start_time - time if ticket.start_time > time else math.inf

    def release(self, ticket: QueueTicket, *, was_sent: bool) -> None:
        """Give the place back, in the queue or in flight; a request that was never sent does not count."""
        with self._lock:
            if ticket.started:
                self._in_flight -= 1
                if not was_sent and ticket in self._minute:
                    del self._minute[ticket]
                    self._tokens -= ticket.tokens
            else:
                self._queue.pop(ticket, None)
            self._admit()

    def correct(self, ticket: QueueTicket, tokens: int) -> None:
        """Count the tokens that an answer names in place of the estimate."""
        with self._lock:
            if ticket in self._minute:
                self._tokens += tokens - ticket.tokens
                ticket.tokens = tokens
                self._admit()

    def back_off(self, seconds: float) -> None:
        """Start nothing in the queue for as long as the provider asked, but no longer than a minute."""
        with self._lock:
            self._back_off_until = max(self._back_off_until, now() + min(seconds, _MINUTE))

    @property
    def backs_off(self) -> bool:
        """Whether the provider has asked to wait."""
        return self._back_off_until > now()

    def _admit(self) -> float:
        """Start the requests that may start, wake those that may start earlier than expected, and return the time.

        The queue is simulated: each ticket starts once enough of the requests before it are older than a minute.
        """
        time = now()
        self._forget_older(time)
        start_time = max(time, self._back_off_until)
        requests, tokens, in_flight = len(self._minute), self._tokens, self._in_flight
        ageing = chain(self._minute, self._queue)
        starting = []
        for ticket in self._queue:
            while not ticket.limits.admit(requests, tokens, ticket.tokens):
                oldest = next(ageing)
                start_time = max(start_time, oldest.start_time + _MINUTE)
                requests, tokens = requests - 1, tokens - oldest.tokens
            if start_time < ticket.start_time:
                ticket.wake()
            ticket.start_time = start_time
            if start_time <= time:
                if in_flight < (ticket.limits.concurrency or math.inf):
                    starting.append(ticket)
                in_flight += 1  # the next place is reserved even if it must wait: nobody overtakes
            requests, tokens = requests + 1, tokens + ticket.tokens
        for ticket in starting:
            del self._queue[ticket]
            self._start(ticket, time)
        return time

    def _start(self, ticket: QueueTicket, time: float) -> None:
        self._minute[ticket] = None
        self._tokens += ticket.tokens
        self._in_flight += 1
        ticket.start_time, ticket.started = time, True
        ticket.wake()

    def _forget_older(self, time: float) -> None:
        """Forget the requests that started a minute before this time, or earlier."""
        while self._minute and (first := next(iter(self._minute))).start_time + _MINUTE <= time:
            del self._minute[first]
            self._tokens -= first.tokens


_limiters: dict[tuple[int, bytes], KeyLimiter] = {}


def limiter_of(backend: str, server: str | None, key: str) -> KeyLimiter:
    """Return the limiter of a key at a server.

    The key is stored as a salted hash only. A forked process has limiters of its own.
    """
    from hashlib import blake2b  # loads OpenSSL, which ranking does not need

    name = blake2b(f"{backend}\0{server or ''}\0{key}".encode(), key=_SALT).digest()
    return _limiters.setdefault((os.getpid(), name), KeyLimiter())


@dataclass(frozen=True, kw_only=True)
class CallPolicy:
    """The limits, retries and prices of a reranker's requests, and the limiter that they share with others of one key.

    Args:
        label: The reranker's name in messages and traces.
        backend: Registry name, for errors.
        model: Model, for errors.
        limiter: The limiter of its key.
        limits: Its limits.
        timeout: Seconds to wait for the answer to one request.
        retry: When a request is sent again.
        breaker: When nothing is sent to a failing provider; ``None`` for never.
        price: What the provider charges; ``None`` if that is not known.
        price_is_listed: Whether the price is that of our table, which may be out of date.
        output_tokens: Tokens of an answer, by estimate; 0 where answers are not billed.
    """

    label: str
    backend: str = ""
    model: str = ""
    limiter: KeyLimiter = field(default_factory=KeyLimiter)
    limits: Limits = field(default_factory=Limits)
    timeout: float = math.inf
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    breaker: Breaker | None = None
    price: Price | None = None
    price_is_listed: bool = False
    output_tokens: int = 0

    def open_for(self, seconds: float) -> float | None:
        """Return how long the circuit stays open for a request with so much time; ``None`` where it is closed."""
        if self.breaker is None:
            return None
        return self.limiter.circuit.open_for(self.breaker, min(self.timeout, seconds))

    def raise_if_open(self, open_for: float | None) -> None:
        """Raise `CircuitOpen` where the circuit stays open for so many seconds."""
        if open_for is None or self.breaker is None:
            return
        when = f"the next request may go in {open_for:.3g} s" if open_for else "one request is on its way as the probe"
        raise CircuitOpen(
            f"{self.label} was not called: its circuit is open, after {self.breaker.failures} failures in a row or "
            f"more, and {when}. Wait, or put another reranker behind it in a fallback",
            retry_after=open_for or None,
            backend=self.backend,
            model=self.model,
        )

    def reserve(self, tokens: Sequence[int], later: Iterable[Sequence[int]], cost_so_far: float) -> float:
        """Set the estimated cost of a request aside where there is a ceiling, and return it in dollars.

        Args:
            tokens: Estimated tokens of each of its texts.
            later: The same for each request that its call still has to send.
            cost_so_far: What the call has cost so far.

        Raises:
            CostExceeded: The cost of the rest of the call is more than a ceiling allows.
        """
        if not self.limits.limits_cost:
            return 0.0
        assert self.price is not None
        estimate = partial(self.price.estimate, output_tokens=self.output_tokens)
        cost, later_cost = estimate(tokens), sum(map(estimate, later))
        if is_over(cost_so_far + cost + later_cost, self.limits.cost_per_call):
            raise self._cost_error("this call", "cost_per_call", cost_so_far, cost + later_cost)
        past_cost = self.limiter.ledger.reserve(cost, later_cost, self.limits.cost_per_process)
        if past_cost is not None:
            raise self._cost_error("this process with this key", "cost_per_process", past_cost, cost + later_cost)
        return cost

    def bill(self, usage: Usage, tokens: Sequence[int]) -> Usage:
        """Return what an answer cost, as far as the price is known; an estimate where the answer does not say it.

        Where the answer names the cost itself, there is nothing to add.
        """
        if self.price is None or usage.cost is not None:
            return Usage()
        billed = self.price.billed_cost(usage)
        is_estimate = self.price_is_listed or billed is None or bool(usage.estimated)
        return Usage(
            cost=self.price.estimate(tokens, self.output_tokens) if billed is None else billed,
            estimated=("cost",) if is_estimate else (),
        )

    def ticket(self, tokens: int) -> QueueTicket:
        """Return a new ticket for a request with so many tokens, for `KeyLimiter.enqueue`.

        Raises:
            RequestTooLarge: It has more tokens than a whole minute may have.
        """
        most = self.limits.tokens_per_minute
        if most is not None and tokens > most:
            raise RequestTooLarge(
                f"{self.label} was not called: the request has {tokens} tokens by estimate, and "
                f"limits.tokens_per_minute={most} allows no more in a whole minute; raise it, or send fewer texts",
                backend=self.backend,
                model=self.model,
            )
        return QueueTicket(self.limits, tokens)

    def limit_error(self, wait: float) -> RateLimited:
        """Return the error for a request that would have to wait longer than its time allows."""
        if self.limiter.backs_off:
            why = "the provider asked all requests with this key to wait"
        elif wait == math.inf:
            why = f"limits.concurrency={self.limits.concurrency} places were taken all the time that this request had"
        else:
            why = f"our own limit is reached ({self.limits})"
        when = "" if wait == math.inf else f"; it might go in {wait:.3g} s, which is longer than the time it has"
        return RateLimited(
            f"{self.label} was not called: {why}{when}. Raise the limit, retry.budget or the timeout, or put another "
            "reranker behind it in a fallback",
            retry_after=None if wait == math.inf else wait,
            backend=self.backend,
            model=self.model,
        )

    def _cost_error(self, payer: str, name: str, past_cost: float, estimate: float) -> CostExceeded:
        return CostExceeded(
            f"{self.label} was not called: {payer} has spent ${past_cost:.6g}, and by estimate ${estimate:.6g} more "
            f"would pass limits.{name}={getattr(self.limits, name)}; raise it, send fewer texts, or put a local "
            "reranker behind it in a fallback",
            backend=self.backend,
            model=self.model,
        )
