"""What all requests with one key pass: one line for threads and event loops, and what began in the last minute.

Why own code: a limiter is needed that serves threads and event loops from one state, tells a wait before it is begun,
lets a waiter leave its place, corrects a weight afterwards, counts a sliding minute exactly and asks a given clock.
Of those that were looked at, aiolimiter 1.3.0 belongs to one event loop; throttled-py 3.5.0 and limits 5.8.0 keep
separate state for the two worlds, and read ``time`` themselves; neither they nor pyrate-limiter 4.5.1 keep a line or
correct a weight, and none bounds what is in flight. Of pyrate-limiter, the pure step of its GCRA could be used, some
ten lines; but a GCRA lets up to twice the number through in a minute, and the import takes 180 ms.
"""

from __future__ import annotations

import math
import os
from collections import OrderedDict
from concurrent.futures import Future
from hashlib import blake2b
from itertools import chain
from threading import Lock

from rag_rerank._clock import now
from rag_rerank.backends._breaker import Circuit
from rag_rerank.backends._limits import Limits
from rag_rerank.backends._prices import Ledger

__all__ = ["Gate", "Ticket", "gate_of"]

_MINUTE = 60.0
_SALT = os.urandom(32)


class Ticket:
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


class Gate:
    """The requests of one key, in line, in flight and of the last minute; its circuit; and its spending.

    May be used by any threads and event loops; nothing here waits. Whoever is in line asks `wait`, and asks again when
    that time is over or `Ticket.news` is done.
    """

    def __init__(self) -> None:
        self.circuit = Circuit()
        self.ledger = Ledger()
        self._lock = Lock()
        self._line: OrderedDict[Ticket, None] = OrderedDict()
        self._minute: OrderedDict[Ticket, None] = OrderedDict()  # what began in the last one
        self._tokens = 0  # of that
        self._in_flight = 0
        self._held_until = -math.inf

    def join(self, ticket: Ticket) -> None:
        """Stand in line; `leave` must follow. A ticket without limits begins at once, and is counted."""
        with self._lock:
            if ticket.limits.paced:
                self._line[ticket] = None
            else:
                self._forget(now())
                self._begin(ticket, now())

    def wait(self, ticket: Ticket) -> float:
        """Return the seconds until a ticket may begin: 0 once it has, infinity while others must first be answered."""
        with self._lock:
            moment = self._serve()
            if ticket.begun:
                return 0.0
            if ticket.news.done():
                ticket.news = Future()
            return ticket.at - moment if ticket.at > moment else math.inf

    def leave(self, ticket: Ticket, *, sent: bool) -> None:
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

    def correct(self, ticket: Ticket, tokens: int) -> None:
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

    def _begin(self, ticket: Ticket, moment: float) -> None:
        self._minute[ticket] = None
        self._tokens += ticket.tokens
        self._in_flight += 1
        ticket.at, ticket.begun = moment, True
        ticket.tell()

    def _forget(self, moment: float) -> None:
        while self._minute and (first := next(iter(self._minute))).at + _MINUTE <= moment:
            del self._minute[first]
            self._tokens -= first.tokens


_gates: dict[tuple[int, bytes], Gate] = {}


def gate_of(backend: str, server: str | None, key: str) -> Gate:
    """Return the gate of a key at a server; the key is kept as a salted hash only, and a forked process has its own."""
    name = blake2b(f"{backend}\0{server or ''}\0{key}".encode(), key=_SALT).digest()
    return _gates.setdefault((os.getpid(), name), Gate())
