"""One call to a provider: its texts go out in as many requests as needed, and one list of scores comes back.

The steps of a request are written once, in reading order: `ApiCall._requests` takes one request after the other and
halves those that are too large, `_attempts` sends a request until it is answered or the retry policy gives up,
`_admission` waits until it may be sent, `_send` sends it. They are generators, which yield each step that takes time:
a `Wait` or a `Send`. `ApiCall.run` executes the steps on a thread, `ApiCall.arun` on an event loop.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Awaitable, Callable, Generator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rag_rerank.backends.api.exchange import Exchange, Reply
from rag_rerank.backends.api.limiter import CallPolicy, QueueTicket
from rag_rerank.backends.api.retry import retrying
from rag_rerank.errors import RateLimited, RequestTooLarge, RerankError
from rag_rerank.execution.calls import error_text
from rag_rerank.execution.clock import asleep, now, sleep, wait_for_any
from rag_rerank.execution.deadline import deadline_error, publish_partial_trace, seconds_left, time_is_up
from rag_rerank.trace import Trace, Usage
from rag_rerank.types import RelevantSpan, Scale, Scores

if TYPE_CHECKING:
    from tenacity import Retrying

__all__ = ["ApiCall"]

_NOTED_WAIT = 0.01
"""Seconds from which on a wait for admission is noted in the trace."""

_LEAST_TIMEOUT = 0.05
"""Seconds that an attempt gets at least."""


@dataclass(frozen=True, slots=True)
class Wait:
    """A step: wait some seconds, or until a future is done."""

    seconds: float
    until: Future[None] | None = None


@dataclass(frozen=True, slots=True)
class Send:
    """A step: send a request, and wait so many seconds for its answer."""

    exchange: Exchange
    timeout: float


class ApiRequest:
    """One request of a call: the texts at some positions, and what has happened so far.

    Attributes:
        part: Positions of its texts.
        exchange: What is sent.
        tokens: Estimated tokens of each text with the query.
        attempts: How often it was sent.
        failures: What went wrong in the attempts before the last.
        error: The error of the last attempt.
        ticket: Its place in the limiter, in the last attempt.
        timeout: Seconds that it had in the last attempt.
        reserved: Estimated dollars that are set aside for it; ``None`` before the first attempt.
        notes: Remarks for the trace of the call.
        reply: The answer.
        bill: What the answer cost.
    """

    def __init__(self, step: str, part: range, exchange: Exchange, tokens: Sequence[int], budget: float) -> None:
        self.part = part
        self.exchange = exchange
        self.tokens = tokens
        self.attempts = 0
        self.failures: list[str] = []
        self.error: BaseException | None = None
        self.ticket: QueueTicket | None = None
        self.timeout = 0.0
        self.reserved: float | None = None
        self.notes: list[str] = []
        self.reply: Reply | None = None
        self.bill = Usage()
        self._step = step
        self._start = now()
        self._end = self._start + budget

    def seconds_left(self) -> float:
        """Return the seconds that are left of the retry budget and of the time of the call."""
        return min(self._end - now(), seconds_left())

    def add_failure(self) -> None:
        """Note an attempt that failed and will be followed by another."""
        assert self.error is not None
        self.failures.append(error_text(self.error))

    def trace(self, *, texts: int = 0, error: str | None = None) -> Trace:
        """Return the trace node of this request, as of now; ``texts`` is how many were scored."""
        seconds = now() - self._start
        attempts = Usage(requests=self.attempts, seconds=seconds, texts=texts)
        return Trace(
            step=self._step,
            seconds=seconds,
            usage=Usage.total((attempts, self.reply.usage if self.reply else Usage(), self.bill)),
            attempts=self.attempts,
            failures=tuple(self.failures),
            error=error,
        )


class ApiCall:
    """The requests of one call, one after the other, and their scores.

    Args:
        policy: The limits, retries and prices of the requests.
        texts: The texts of the call.
        tokens: By estimate, the tokens of each text with all that is read for it.
        parts: Their positions, divided into requests.
        exchange: Makes the exchange of one request from its texts and the position of the first.
        notes: Notes for the trace that are known before anything is sent.

    Attributes:
        models: The models that answered, as far as answers named them, in the server's words.
    """

    def __init__(
        self,
        policy: CallPolicy,
        texts: Sequence[str],
        tokens: Sequence[int],
        parts: Sequence[range],
        exchange: Callable[[Sequence[str], int], Exchange],
        notes: Sequence[str] = (),
    ) -> None:
        self._policy = policy
        self._texts = texts
        self._tokens = tokens
        self._parts = deque(parts)
        self._exchange = exchange
        self._notes = dict.fromkeys(notes)
        self.models: dict[str, None] = {}
        self._values = [math.nan] * len(texts)
        self._unscored: dict[int, str] = {}
        self._spans: dict[int, tuple[RelevantSpan, ...]] = {}
        self._done: list[Trace] = []
        self._current: ApiRequest | None = None
        publish_partial_trace(self.trace)

    def run(self, send: Callable[[Exchange, float], Reply]) -> None:
        """Send all requests from this thread; ``send`` sends one, with a timeout, and is called for each attempt.

        Raises:
            BackendError: A request failed, or was refused before it was sent; with the trace of the call.
        """
        steps = self._requests()
        try:
            step = next(steps)
            while True:
                try:
                    answer = _execute(step, send)
                except BaseException as error:  # a cancellation too: places and money must be given back
                    step = steps.throw(error)
                else:
                    step = steps.send(answer)
        except StopIteration:
            return

    async def arun(self, send: Callable[[Exchange, float], Awaitable[Reply]]) -> None:
        """Do what `run` does without blocking the event loop."""
        steps = self._requests()
        try:
            step = next(steps)
            while True:
                try:
                    answer = await _aexecute(step, send)
                except BaseException as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(answer)
        except StopIteration:
            return

    def _requests(self) -> Generator[Wait | Send, Any, None]:
        """Send one request after the other, and collect the scores.

        A request that is too large for the provider is halved: the halves are other requests, not repetitions.
        """
        while self._parts:
            if self._done and time_is_up():
                raise deadline_error(self._policy.label)
            request = self._current = self._next_request()
            part = request.part
            try:
                try:
                    reply = yield from self._attempts(request)
                finally:
                    self._settle(request)
                self._values[part.start : part.stop] = request.exchange.scores(reply.rows)
                self._unscored |= {part.start + index: reason for index, reason in reply.unscored.items()}
                self._spans |= {part.start + index: spans for index, spans in reply.spans.items()}
                self.models |= {reply.model: None} if reply.model else {}
            except RerankError as error:
                self._end(request.trace(error=error_text(error)))
                if not isinstance(error, RequestTooLarge) or len(part) == 1:
                    error.trace = self.trace()
                    raise
                middle = part.start + len(part) // 2
                self._parts.extendleft((range(middle, part.stop), range(part.start, middle)))
                self._note(f"{len(part)} texts were too large for one request, which was halved")
            else:
                self._end(request.trace(texts=len(part)))
                self._note(*map(request.exchange.redact, reply.remarks))

    def _attempts(self, request: ApiRequest) -> Generator[Wait | Send, Any, Reply]:
        """Send a request until it is answered or the retry policy gives up.

        A request that is refused before it is sent is not retried.
        """
        pauses: list[float] = []
        for attempt in self._retrying(request, pauses.append):
            if pauses:
                yield Wait(pauses.pop())
                if time_is_up() and request.error is not None:  # the call was abandoned, or is late by now
                    request.failures.pop()
                    raise request.error
            ticket = yield from self._admission(request)
            with attempt:
                request.reply = yield from self._send(request, ticket)
        assert request.reply is not None
        return request.reply

    def _retrying(self, request: ApiRequest, pause: Callable[[float], None]) -> Retrying:
        """Return the retry policy for a request; it hands each wait to ``pause`` instead of sleeping."""

        def may_wait(seconds: float) -> bool:
            rest = request.seconds_left() - seconds
            return rest > 0 and not time_is_up() and self._policy.open_for(rest) is None

        return retrying(
            self._policy.retry,
            last_error=lambda: request.error,
            may_wait=may_wait,
            on_failure=request.add_failure,
            pause=pause,
        )

    def _admission(self, request: ApiRequest) -> Generator[Wait, Any, QueueTicket]:
        """Wait until a request may be sent, and return its ticket.

        Raises:
            CircuitOpen: Nothing is sent to the provider for now.
            CostExceeded: The request would pass a ceiling of cost.
            RateLimited: The wait would be longer than the time allows.
            RequestTooLarge: It has more tokens than a whole minute may have.
            DeadlineExceeded: The time of the call is up.
        """
        policy, limiter = self._policy, self._policy.limiter
        if time_is_up():
            raise deadline_error(policy.label)
        policy.raise_if_open(policy.open_for(request.seconds_left()))
        if request.reserved is None:  # once for all attempts
            request.reserved = self._reserve(request)
        ticket = request.ticket = policy.ticket(sum(request.tokens))
        limiter.enqueue(ticket)
        try:
            start, backs_off = now(), limiter.backs_off
            while (wait := limiter.wait(ticket)) > 0:
                seconds = request.seconds_left()
                if seconds <= 0 or seconds <= wait < math.inf:
                    raise policy.limit_error(wait)
                yield Wait(min(wait, seconds), ticket.changed)
            if (waited := now() - start) >= _NOTED_WAIT:
                why = "as the provider had asked" if backs_off else f"to keep {policy.limits}"
                request.notes.append(f"waited {waited:.3g} s before sending, {why}")
            if time_is_up():
                raise deadline_error(policy.label)
            seconds = max(request.seconds_left(), 0.0)
            request.timeout = min(policy.timeout, seconds)
            if policy.breaker is not None:
                open_for, is_probe = limiter.circuit.enter(policy.breaker, ticket, request.timeout, seconds)
                policy.raise_if_open(open_for)
                if is_probe:
                    request.notes.append("the circuit was open, and this request was the probe")
        except BaseException:
            limiter.release(ticket, was_sent=False)
            raise
        return ticket

    def _reserve(self, request: ApiRequest) -> float:
        """Set the estimated cost of a request aside where there is a ceiling for it and for the rest of the call."""
        later = [self._tokens[part.start : part.stop] for part in self._parts]
        return self._policy.reserve(request.tokens, later, self._usage().cost or 0.0)

    def _send(self, request: ApiRequest, ticket: QueueTicket) -> Generator[Send, Any, Reply]:
        """Send a request once, and tell the limiter how it ended."""
        limiter = self._policy.limiter
        request.attempts += 1
        try:
            timeout = max(request.seconds_left(), _LEAST_TIMEOUT)
            reply: Reply = yield Send(request.exchange, min(self._policy.timeout, timeout))
        except BaseException as error:
            request.error = error
            limiter.circuit.leave(ticket, request.timeout, error)
            if isinstance(error, RateLimited) and error.retry_after is not None:
                limiter.back_off(error.retry_after)
            raise
        else:
            limiter.circuit.leave(ticket, request.timeout, None)
            return reply
        finally:
            limiter.release(ticket, was_sent=True)

    def scores(self, scale: Scale) -> Scores:
        """Put the scores of all requests together, by position."""
        if len(self._done) > 1:
            self._note(f"{len(self._texts)} texts went in {len(self._done)} requests, and the scores were put together")
        facts = {"requests": tuple(self._done), "notes": tuple(self._notes), "unscored": self._unscored}
        spans = [self._spans.get(i) for i in range(len(self._texts))] if self._spans else ()
        return Scores(self._values, scale, self._usage(), spans=spans, **facts)  # type: ignore[arg-type]

    def trace(self) -> Trace:
        """Return the trace node of this call, as of now."""
        current = self._current  # read once: a trace may be read from another thread while the call runs
        requests = (*self._done, *([current.trace()] if current else []))
        return Trace(
            step=self._policy.label,
            usage=Usage.total(request.usage for request in requests),
            attempts=sum(request.attempts for request in requests),
            failures=tuple(failure for request in requests for failure in request.failures),
            notes=tuple(self._notes),
            children=requests if len(requests) > 1 else (),
        )

    def _next_request(self) -> ApiRequest:
        part = self._parts.popleft()
        return ApiRequest(
            f"{self._policy.label}, texts {part.start} to {part.stop - 1}",
            part,
            self._exchange(self._texts[part.start : part.stop], part.start),
            self._tokens[part.start : part.stop],
            self._policy.retry.budget,
        )

    def _settle(self, request: ApiRequest) -> None:
        """Replace the estimates by what an answer says was read and billed, or give back what was reserved."""
        policy, cost = self._policy, 0.0
        if request.reply is not None:
            usage = request.reply.usage
            if usage.tokens is not None and "tokens" not in usage.estimated and request.ticket is not None:
                policy.limiter.correct(request.ticket, usage.tokens)
            request.bill = policy.bill(usage, request.tokens)
            cost = (usage.cost or 0.0) + (request.bill.cost or 0.0)
        policy.limiter.ledger.settle(request.reserved or 0.0, cost)
        self._note(*request.notes)

    def _end(self, trace: Trace) -> None:
        self._current = None
        self._done.append(trace)

    def _usage(self) -> Usage:
        return Usage.total(request.usage for request in self._done)

    def _note(self, *sentences: str) -> None:
        self._notes |= dict.fromkeys(sentences)


def _execute(step: Wait | Send, send: Callable[[Exchange, float], Reply]) -> Reply | None:
    if isinstance(step, Send):
        return send(step.exchange, step.timeout)
    if step.until is None:
        sleep(step.seconds)
    else:
        wait_for_any([step.until], step.seconds)
    return None


async def _aexecute(step: Wait | Send, send: Callable[[Exchange, float], Awaitable[Reply]]) -> Reply | None:
    if isinstance(step, Send):
        return await send(step.exchange, step.timeout)
    if step.until is None:
        await asleep(step.seconds)
        return None
    import asyncio

    sleeping = asyncio.ensure_future(asleep(step.seconds))
    try:
        await asyncio.wait({sleeping, asyncio.wrap_future(step.until)}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        sleeping.cancel()
    return None
