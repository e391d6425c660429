"""The limits a user sets for a provider, and the limiter that all requests with one key pass."""

from __future__ import annotations

import math
import os
from collections import OrderedDict
from concurrent.futures import Future
from dataclasses import dataclass, fields
from hashlib import blake2b
from itertools import chain
from threading import Lock

from rag_rerank.backends.api.breaker import Circuit
from rag_rerank.backends.api.pricing import Ledger
from rag_rerank.errors import ConfigError
from rag_rerank.execution.clock import now

__all__ = ["KeyLimiter", "Limits", "QueueTicket", "limiter_of"]


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits that are kept on this side, before anything is sent; all are off by default.

    They count per key: all rerankers of this process with the same provider, server and key are counted together, in
    threads and on event loops alike; with an injected client, whose key is not known here, each reranker counts for
    itself. Where such rerankers name different limits, each keeps its own: it sends only while all of them together
    are below its numbers. So a background job with a smaller number leaves room for the others.

    A request begins only if, with it, no more than the limit began in the 60 seconds before, on whatever second they
    start (a sliding window: the whole minute's number may go at once, and then nothing for a minute). Who must wait
    stands in one line, first come, first served; a wait of 10 ms or more is noted in the trace. A wait that would
    outlast the retry budget or the time of the call is not begun: `RateLimited` is raised at once, with the wait in
    ``retry_after``. Each attempt counts as a request. When a provider answers 429 and says how long to wait, all who
    keep a limit of requests, tokens or concurrency with this key wait that long, but no longer than a minute.

    Money is what answers say was billed, times the price (`Price`); where an answer does not say it, our estimate.
    Before a request is sent, the estimate for it and for what is left of the call is added to what was spent; if that
    is over the ceiling, `CostExceeded` is raised and nothing is sent. Attempts without an answer may be billed by the
    provider too; they are not counted here.

    Args:
        requests_per_minute: Requests begun in any 60 seconds at most.
        tokens_per_minute: Tokens of them at most. Estimated before sending, the query once for each text, and put
            right when the answer says what was read. A request with more than that is halved.
        concurrency: Requests in flight at the same time at most.
        cost_per_call: US dollars for one call of ``rerank`` at most.
        cost_per_process: US dollars that this process spends with this key at most.

    Raises:
        ConfigError: A value that is not more than 0, or not finite, or no whole number where one is counted.
    """

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrency: int | None = None
    cost_per_call: float | None = None
    cost_per_process: float | None = None

    def __post_init__(self) -> None:
        for name in (f.name for f in fields(self)):
            value, counted = getattr(self, name), not name.startswith("cost")
            if value is None:
                continue
            number = isinstance(value, int if counted else (int, float)) and not isinstance(value, bool)
            if not (number and value > 0 and math.isfinite(value)):
                kind = "a whole number of at least 1" if counted else "a finite number of dollars, more than 0"
                raise ConfigError(f"{name} must be {kind}, or None for no limit, got {value!r}", path=name)

    @property
    def paced(self) -> bool:
        """Whether a request may have to wait."""
        return (self.requests_per_minute, self.tokens_per_minute, self.concurrency) != (None, None, None)

    @property
    def priced(self) -> bool:
        """Whether there is a ceiling of cost."""
        return (self.cost_per_call, self.cost_per_process) != (None, None)

    def admit(self, requests: int, tokens: int, more: int) -> bool:
        """Whether one more request, of so many tokens, may join what began in the last minute."""
        return (self.requests_per_minute is None or requests < self.requests_per_minute) and (
            self.tokens_per_minute is None or tokens + more <= self.tokens_per_minute
        )

    def __str__(self) -> str:
        """Name what a request may have to wait for."""
        named = {f.name: getattr(self, f.name) for f in fields(self) if not f.name.startswith("cost")}
        return ", ".join(f"limits.{name}={value}" for name, value in named.items() if value is not None)


_MINUTE = 60.0
_SALT = os.urandom(32)


class QueueTicket:
    """A request in the line of its key, and afterwards among those that began.

    Attributes:
        at: When it began, or may begin by what is known now.
        begun: Whether it may be sent.
        news: Done once it may begin, or may begin earlier than was said.
    """

    def __init__(self, limits: Limits, tokens: int) -> None:
        self.limits = limits
        self.tokens = tokens
        self.at = math.inf
        self.begun = False
        self.news: Future[None] = Future()

    def tell(self) -> None:
        """Wake who waits."""
        if not self.news.done():
            self.news.set_result(None)


class KeyLimiter:
    """The requests of one key, in line, in flight and of the last minute; its circuit; and its spending.

    May be used by any threads and event loops; nothing here waits. Whoever is in line asks `wait`, and asks again when
    that time is over or `Ticket.news` is done.
    """

    def __init__(self) -> None:
        self.circuit = Circuit()
        self.ledger = Ledger()
        self._lock = Lock()
        self._line: OrderedDict[QueueTicket, None] = OrderedDict()
        self._minute: OrderedDict[QueueTicket, None] = OrderedDict()  # what began in the last one
        self._tokens = 0  # of that
        self._in_flight = 0
        self._held_until = -math.inf

    def join(self, ticket: QueueTicket) -> None:
        """Stand in line; `leave` must follow. A ticket without limits begins at once, and is counted."""
        with self._lock:
            if ticket.limits.paced:
                self._line[ticket] = None
            else:
                self._forget(now())
                self._begin(ticket, now())

    def wait(self, ticket: QueueTicket) -> float:
        """Return the seconds until a ticket may begin: 0 once it has, infinity while others must first be answered."""
        with self._lock:
            moment = self._serve()
            if ticket.begun:
                return 0.0
            if ticket.news.done():
                ticket.news = Future()
            return ticket.at - moment if ticket.at > moment else math.inf

    def leave(self, ticket: QueueTicket, *, sent: bool) -> None:
        """Give the place back, in line or in flight; what was never sent is not counted."""
        with self._lock:
            if ticket.begun:
                self._in_flight -= 1
                if not sent and ticket in self._minute:
                    del self._minute[ticket]
                    self._tokens -= ticket.tokens
            else:
                self._line.pop(ticket, None)
            self._serve()

    def correct(self, ticket: QueueTicket, tokens: int) -> None:
        """Count the tokens that an answer tells in place of the estimate."""
        with self._lock:
            if ticket in self._minute:
                self._tokens += tokens - ticket.tokens
                ticket.tokens = tokens
                self._serve()

    def hold(self, seconds: float) -> None:
        """Let nobody in line begin for as long as the provider asked, but no longer than a minute."""
        with self._lock:
            self._held_until = max(self._held_until, now() + min(seconds, _MINUTE))

    @property
    def held(self) -> bool:
        """Whether the provider has asked to wait."""
        return self._held_until > now()

    def _serve(self) -> float:
        """Begin what may begin, tell those who may begin earlier than they were told, and return the time.

        The line is played forward: each ticket begins once enough of what is before it is older than a minute.
        """
        moment = now()
        self._forget(moment)
        at = max(moment, self._held_until)
        requests, tokens, in_flight = len(self._minute), self._tokens, self._in_flight
        ageing = chain(self._minute, self._line)
        starting = []
        for ticket in self._line:
            while not ticket.limits.admit(requests, tokens, ticket.tokens):
                old = next(ageing)
                at = max(at, old.at + _MINUTE)
                requests, tokens = requests - 1, tokens - old.tokens
            if at < ticket.at:
                ticket.tell()
            ticket.at = at
            if at <= moment:
                if in_flight < (ticket.limits.concurrency or math.inf):
                    starting.append(ticket)
                in_flight += 1  # also the place that it waits for: nobody overtakes
            requests, tokens = requests + 1, tokens + ticket.tokens
        for ticket in starting:
            del self._line[ticket]
            self._begin(ticket, moment)
        return moment

    def _begin(self, ticket: QueueTicket, moment: float) -> None:
        self._minute[ticket] = None
        self._tokens += ticket.tokens
        self._in_flight += 1
        ticket.at, ticket.begun = moment, True
        ticket.tell()

    def _forget(self, moment: float) -> None:
        while self._minute and (first := next(iter(self._minute))).at + _MINUTE <= moment:
            del self._minute[first]
            self._tokens -= first.tokens


_limiters: dict[tuple[int, bytes], KeyLimiter] = {}


def limiter_of(backend: str, server: str | None, key: str) -> KeyLimiter:
    """Return the gate of a key at a server; the key is kept as a salted hash only, and a forked process has its own."""
    name = blake2b(f"{backend}\0{server or ''}\0{key}".encode(), key=_SALT).digest()
    return _limiters.setdefault((os.getpid(), name), KeyLimiter())
