"""One call of a backend that asks a provider: its texts in as many requests as it takes, and one list of scores."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property, partial

from rag_rerank.backends.api.attempts import AdmittedRequest, Attempts, CallPolicy, RetryPolicy
from rag_rerank.backends.api.exchange import Exchange, Reply
from rag_rerank.errors import RequestTooLarge, RerankError
from rag_rerank.execution.clock import now
from rag_rerank.execution.deadline import deadline_error, publish_partial_trace, time_is_up
from rag_rerank.trace import Trace, Usage
from rag_rerank.types import Scale, Scores

__all__ = ["ApiCall", "estimated_tokens", "pair_tokens", "split"]


class ApiRequest:
    """One request of a call: the texts at some positions."""

    def __init__(self, label: str, part: range, exchange: Exchange, retry: RetryPolicy, visit: AdmittedRequest) -> None:
        self.part = part
        self.exchange = exchange
        self.attempts = Attempts(retry, visit)
        self.visit = visit
        self.reply: Reply | None = None
        self._step = f"{label}, texts {part.start} to {part.stop - 1}"
        self._started = now()

    def trace(self, error: RerankError | None = None) -> Trace:
        """Tell what became of the request."""
        if error is not None:
            return replace(self.unfinished(), error=f"{type(error).__name__}: {error}")
        done = self.unfinished()
        return replace(done, usage=done.usage + Usage(texts=len(self.part)))

    def unfinished(self) -> Trace:
        """Tell what became of the request so far."""
        seconds = now() - self._started
        sent = Usage(requests=self.attempts.count, seconds=seconds)
        return Trace(
            step=self._step,
            seconds=seconds,
            usage=Usage.total((sent, self.reply.usage if self.reply else Usage(), self.visit.bill)),
            attempts=self.attempts.count,
            failures=tuple(self.attempts.failures),
        )


class ApiCall:
    """The requests of one call, one after the other, and what came of them.

    Args:
        label: How traces call the reranker.
        exchange: Makes the exchange of one request from its texts and the position of the first.
        query: The query of the call.
        texts: Its texts.
        parts: Their positions, divided into requests.
        retry: When a request is sent again.
        notes: What there is to say before anything is sent.
        terms: What its requests keep to.
    """

    def __init__(
        self,
        label: str,
        exchange: Callable[[Sequence[str], int], Exchange],
        query: str,
        texts: Sequence[str],
        parts: Sequence[range],
        retry: RetryPolicy,
        notes: Sequence[str],
        terms: CallPolicy,
    ) -> None:
        self._label = label
        self._exchange = exchange
        self._query = query
        self._texts = texts
        self._todo = deque(parts)
        self._retry = retry
        self._terms = terms
        self._notes = dict.fromkeys(notes)
        self._values = [math.nan] * len(texts)
        self._done: list[Trace] = []
        self._sending: ApiRequest | None = None
        publish_partial_trace(self._so_far)

    def pending(self) -> Iterator[ApiRequest]:
        """Yield each request that is to be sent, also those that turn up on the way.

        Raises:
            DeadlineExceeded: The time is up, or nobody waits any more, and some are left.
        """
        while self._todo:
            if self._done and time_is_up():
                raise deadline_error(self._label)
            part = self._todo.popleft()
            exchange = self._exchange(self._texts[part.start : part.stop], part.start)
            visit = AdmittedRequest(self._terms, partial(self._weigh, (part, *self._todo)), self._usage().cost)
            self._sending = ApiRequest(self._label, part, exchange, self._retry, visit)
            yield self._sending

    @contextmanager
    def watched(self, request: ApiRequest) -> Iterator[None]:
        """Take the answer to a request, and put the request into the trace, also when it failed.

        A request that is too large for the provider is halved: the halves are other requests, not repetitions.
        """
        part = request.part
        try:
            try:
                yield
            finally:
                request.visit.settle(None if request.reply is None else request.reply.usage)
                self._note(*request.visit.notes)
            assert request.reply is not None
            self._values[part.start : part.stop] = request.exchange.scores(request.reply.rows)
        except RerankError as error:
            self._end(request.trace(error))
            if not isinstance(error, RequestTooLarge) or len(part) == 1:
                error.trace = self._so_far()
                raise
            middle = part.start + len(part) // 2
            self._todo.extendleft((range(middle, part.stop), range(part.start, middle)))
            self._note(f"{len(part)} texts were too large for one request, which was halved")
        else:
            self._end(request.trace())
            self._note(*map(request.exchange.safe, request.reply.remarks))

    def scores(self, scale: Scale) -> Scores:
        """Put the scores of all requests together, by position."""
        if len(self._done) > 1:
            self._note(f"{len(self._texts)} texts went in {len(self._done)} requests, and the scores were put together")
        return Scores(self._values, scale, self._usage(), requests=tuple(self._done), notes=tuple(self._notes))

    @cached_property
    def _tokens(self) -> list[int]:
        return pair_tokens(self._query, self._texts)

    def _weigh(self, parts: Sequence[range]) -> list[list[int]]:
        return [self._tokens[part.start : part.stop] for part in parts]

    def _usage(self) -> Usage:
        return Usage.total(request.usage for request in self._done)

    def _note(self, *sentences: str) -> None:
        self._notes |= dict.fromkeys(sentences)

    def _end(self, trace: Trace) -> None:
        self._sending = None
        self._done.append(trace)

    def _so_far(self) -> Trace:
        requests = (*self._done, *([self._sending.unfinished()] if self._sending else []))
        return Trace(
            step=self._label,
            usage=Usage.total(request.usage for request in requests),
            attempts=sum(request.attempts for request in requests),
            failures=tuple(failure for request in requests for failure in request.failures),
            notes=tuple(self._notes),
            children=requests if len(requests) > 1 else (),
        )


def split(weights: Sequence[float], most: int, heaviest: float) -> list[range]:
    """Divide positions, in their order, into ranges of at most ``most`` positions and a total weight of ``heaviest``.

    A position that alone is over the weight gets a range of its own.
    """
    ranges = []
    start, total = 0, 0.0
    for i, weight in enumerate(weights):
        if i > start and (i - start == most or total + weight > heaviest):
            ranges.append(range(start, i))
            start, total = i, 0.0
        total += weight
    return [*ranges, range(start, len(weights))]


def pair_tokens(query: str, texts: Sequence[str]) -> list[int]:
    """Estimate the tokens that providers count for each text: its own and the query's."""
    asked = estimated_tokens(query)
    return [asked + estimated_tokens(text) for text in texts]


def estimated_tokens(text: str) -> int:
    """Estimate the tokens of a text as a quarter of its UTF-8 bytes, rounded up.

    For English prose that is the usual rule of four characters a token; scripts with two or three bytes a
    character have more tokens a character, which the bytes follow. Numbers and code can need twice as many.
    """
    return -(-len(text.encode()) // 4)
