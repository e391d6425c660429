"""One request to a provider and its answer: checked scores, or an error whose message holds no secret."""

from __future__ import annotations

import asyncio
import math
import re
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

from rag_rerank.backends.api.message_redaction import find_message, redacted_message
from rag_rerank.errors import (
    AuthenticationError,
    BackendError,
    BackendTimeout,
    BackendUnavailable,
    BadResponse,
    BillingError,
    RateLimited,
    RequestRejected,
    RequestTooLarge,
    RerankError,
    TransientError,
)
from rag_rerank.execution.http_clients import client_error
from rag_rerank.trace import Usage
from rag_rerank.types import RelevantSpan, Scale

__all__ = [
    *("Exchange", "Reply", "as_count", "as_name", "as_number", "describe", "get_field", "read_rows"),
    "seconds_to_wait",
]


def seconds_to_wait(headers: Mapping[str, str]) -> float | None:
    """Read ``retry-after-ms`` or ``Retry-After`` (seconds, or a date: RFC 9110, 10.2.3); ``None`` without either.

    A date is compared with the answer's own ``Date``, where it has one, so that clocks need not agree.
    """
    lowered = {name.lower(): value for name, value in headers.items()}
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        try:
            seconds = float(lowered[name]) / unit
        except (KeyError, ValueError):
            continue
        if math.isfinite(seconds):
            return max(0.0, seconds)
    try:
        until = parsedate_to_datetime(lowered["retry-after"]).timestamp()
        now = parsedate_to_datetime(lowered["date"]).timestamp() if "date" in lowered else time.time()
    except (KeyError, ValueError, OverflowError):
        return None
    return max(0.0, until - now)


T = TypeVar("T")
TranslateError = Callable[["Exchange", Exception], BackendError]

_BOUNDED: tuple[Scale, ...] = ("calibrated", "relevance")
_ROUNDING = 1e-6  # providers round scores; one may be this far outside 0..1

_BY_STATUS: Mapping[int, type[BackendError]] = {
    401: AuthenticationError,
    402: BillingError,
    403: AuthenticationError,
    408: BackendUnavailable,
    409: BackendUnavailable,
    413: RequestTooLarge,
    425: BackendUnavailable,
    429: RateLimited,
    498: AuthenticationError,
    501: RequestRejected,
}
_ADVICE: Mapping[type[BackendError], str] = {
    AuthenticationError: "check the key and what it may use",
    BillingError: "the account has no credit left",
    RequestTooLarge: "send fewer or shorter texts",
    RequestRejected: "the same request will fail again; check model, options and base_url",
}
_GATEWAY_TIMEOUTS = (504, 524)
"""Statuses by which a gateway says that the server behind it did not answer in time (524: Cloudflare)."""

_REQUEST_ID = re.compile(r"[\w.-]{1,64}")
"""Ids as they may be shown: a header can hold anything."""

_MOST_ESCAPED = 12
"""Bytes that JSON may need for one character: two escaped surrogates."""

_REDIRECT_ADVICE = "redirects are not followed, because the key would go along; set base_url to where the server is now"


@dataclass(frozen=True, slots=True)
class Reply:
    """A provider's answer to one request, not yet checked.

    Args:
        rows: Pairs of index and score, as the provider sent them.
        usage: The figures that were billed (or estimated), nothing else.
        remarks: The provider's warnings.
        model: The model that answered, if the answer names it.
        unscored: Index -> reason, for texts that the server failed on; their scores in ``rows`` mean nothing.
        spans: Index -> relevant spans, checked; empty where the provider says nothing of any text.
    """

    rows: object
    usage: Usage = field(default_factory=Usage)
    remarks: tuple[str, ...] = ()
    model: str | None = None
    unscored: Mapping[int, str] = field(default_factory=dict)
    spans: Mapping[int, tuple[RelevantSpan, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request, with what is needed to read its answer.

    Args:
        backend: Registry name of the backend.
        model: The model in the request.
        query: The query that is sent.
        texts: The texts that are sent.
        first: Position of the first of them among all texts of the call.
        key: The key that is sent, if it is known; never shown.
        scale: The scale that the scores are expected to have.
        instruction: The instruction that is sent, for a provider that takes one.
        label: The name of the reranker in messages; by default backend and model.
        timeout_advice: How to avoid a timeout, for a server that goes on with a request after it; such a request is not
            sent again.
        bounds_advice: What to do where scores are outside of 0..1.
    """

    backend: str
    model: str
    query: str = field(repr=False)
    texts: Sequence[str] = field(repr=False)
    first: int = 0
    key: str = field(default="", repr=False)
    scale: Scale = "relevance"
    instruction: str | None = field(default=None, repr=False)
    label: str = ""
    timeout_advice: str = ""
    bounds_advice: str = ""

    def call_sdk(self, send: Callable[..., T], translate_error: TranslateError, **arguments: Any) -> T:
        """Call an SDK, and translate what it raises into an error of ours.

        The SDK's error is not chained, not even as a context: its text and its attributes hold the provider's answer,
        and with it perhaps the key or the texts.
        """
        try:
            return send(**arguments)
        except RerankError:
            raise
        except Exception as error:
            failure = client_error(error, self._name) or translate_error(self, error)
        raise failure

    async def acall_sdk(
        self, send: Callable[..., Awaitable[T]], translate_error: TranslateError, **arguments: Any
    ) -> T:
        """Do what `call_sdk` does with a coroutine function."""
        try:
            return await send(**arguments)
        except RerankError:
            raise
        except Exception as error:
            failure = client_error(error, self._name) or translate_error(self, error)
        raise failure

    def scores(self, rows: object) -> list[float]:
        """Return one score for each text, in the order of the texts.

        Args:
            rows: Pairs of index and score as the provider sent them, in any order.

        Raises:
            BadResponse: Not exactly one finite score for each text, within 0..1 where the scale is; the message
                names the first one.
        """
        if not isinstance(rows, (list, tuple)):
            raise self.bad_response("it holds no list of scores")
        scores: dict[int, float] = {}
        for index, score in rows:
            if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < len(self.texts):
                raise self.bad_response(f"index {describe(index)} for {len(self.texts)} texts")
            where = self.first + index
            if index in scores:
                raise self.bad_response(f"two scores for text {where}")
            scores[index] = self.score(score, f"text {where}")
        missing = [self.first + i for i in range(len(self.texts)) if i not in scores]
        if missing:
            raise self.bad_response(
                f"no score for {len(missing)} of {len(self.texts)} texts, the first is text {missing[0]}"
            )
        return [scores[i] for i in range(len(self.texts))]

    def score(self, score: object, of_what: str) -> float:
        """Return a score that the provider sent.

        Raises:
            BadResponse: It is not a finite number, within 0..1 where the scale is.
        """
        value = as_number(score)
        if value is None:
            raise self.bad_response(f"score {describe(score)} for {of_what}, which is not a finite number")
        if self.scale in _BOUNDED and not -_ROUNDING <= value <= 1 + _ROUNDING:
            mend = f"; {self.bounds_advice}" if self.bounds_advice else ""
            raise self.bad_response(f"score {value:g} for {of_what}, which is outside 0..1{mend}")
        return value

    def http_error(
        self,
        status: int | None,
        headers: Mapping[str, str],
        body: object,
        *,
        kind: type[BackendError] | None = None,
        advice: str | None = None,
        request_id: str = "",
    ) -> BackendError:
        """Return the error for an answer that carries no scores.

        Args:
            status: HTTP status; ``None`` where the SDK does not give it, as some do with server errors.
            headers: Its headers, in any case.
            body: Its body, parsed where it was JSON.
            kind: The error class, where the provider's message says more than the status.
            advice: How to mend it, where the class alone does not say it.
            request_id: The provider's own name of the request, by which its support finds it.
        """
        if status is not None and status < 300:
            return self.bad_response("it is not JSON of the expected shape", status=status)
        if kind is None:
            is_server_error = status is None or status >= 500
            kind = _BY_STATUS.get(status or 0, BackendUnavailable if is_server_error else RequestRejected)
        is_timeout = status in _GATEWAY_TIMEOUTS and bool(self.timeout_advice)
        advice = self.timeout_advice if is_timeout else advice
        reason = self.redact(find_message(body))
        text = f"answered {status or 'with an error'}" + (f" ({reason})" if reason else "")
        if advice is None:
            advice = _REDIRECT_ADVICE if status is not None and 300 <= status < 400 else _ADVICE.get(kind)
        if issubclass(kind, RequestTooLarge) and len(self.texts) == 1:
            text += f", for text {self.first} alone"
        text += f"; {advice}" if advice else ""
        if _REQUEST_ID.fullmatch(request_id) and not (self.key and self.key in request_id):
            text += f" (request {request_id})"
        more = {"retry_after": seconds_to_wait(headers)} if issubclass(kind, TransientError) else {}
        error = self._error(kind, text, status=status, **more)
        if isinstance(error, TransientError):
            error.still_busy = is_timeout
        return error

    def wrong_server(self, problem: str) -> BackendError:
        """Return the error for a server that, by its own description, cannot serve the request."""
        return self._error(RequestRejected, self.redact(problem))

    def timeout_error(self, *, is_sent: bool = True) -> BackendError:
        """Return the error for no answer in time; ``is_sent`` is whether the server has the request by now."""
        still_busy = is_sent and bool(self.timeout_advice)
        advice = self.timeout_advice if still_busy else "a longer timeout or fewer texts may help"
        error = BackendTimeout(**self._facts(f"did not answer in time; {advice}"))
        error.still_busy = still_busy
        return error

    def connection_error(self, error: Exception) -> BackendError:
        """Return the error for a connection that could not be made, or broke."""
        return self._error(BackendUnavailable, f"could not be reached or hung up ({self._error_text(error)})")

    def bad_response(self, problem: str, *, status: int | None = None) -> BackendError:
        """Return the error for an answer that cannot be trusted."""
        return self._error(BadResponse, f"gave an answer that cannot be used: {problem}", status=status)

    def long_answer_error(self, most: int) -> BackendError:
        """Return the error for an answer of more than ``most`` bytes, which may repeat the texts.

        A server that sends that much where the texts cannot be the reason is not asked again with fewer of them.
        """
        characters = sum(map(len, (self.query, *self.texts)))
        problem = f"it is longer than {most // 2**20} MiB"
        if characters * _MOST_ESCAPED < most:
            return self.bad_response(problem)
        text = f"gave an answer that cannot be used: {problem}; if it repeats the texts, send fewer or shorter ones"
        return self._error(RequestTooLarge, text)

    def sdk_error(self, error: Exception) -> BackendError:
        """Return the error for an exception out of the SDK that is not one of its own."""
        if isinstance(error, (TimeoutError, asyncio.TimeoutError)):
            return self.timeout_error()
        if isinstance(error, OSError):
            return self.connection_error(error)
        if isinstance(error, (AttributeError, LookupError, TypeError, ValueError)):
            return self.bad_response(f"the SDK could not read it ({self._error_text(error)})")
        return self._error(BackendError, f"failed in its SDK ({self._error_text(error)})")

    def redact(self, text: str) -> str:
        """Return a provider's message, short, on one line, and without what was sent to it."""
        return redacted_message(text, self.key, (self.query, *self.texts))

    def _error_text(self, error: Exception) -> str:
        text = self.redact(str(error))
        return type(error).__name__ + (f": {text}" if text else "")

    def _error(self, kind: type[BackendError], text: str, **facts: Any) -> BackendError:
        return kind(**self._facts(text), **facts)

    def _facts(self, text: str) -> dict[str, Any]:
        return {"message": f"{self._name} {text}", "backend": self.backend, "model": self.model}

    @property
    def _name(self) -> str:
        return self.label or f"{self.backend}:{self.model}"


def read_rows(rows: object, get: Callable[[Any, str, None], object], score: str = "relevance_score") -> object:
    """Return the pairs of index and score of a reply's rows, or ``None`` where there is no list of rows.

    Args:
        rows: What the reply holds in place of the rows.
        get: Returns a field of a row, or the default: ``getattr`` for objects, `get_field` for JSON.
        score: The field with the score.
    """
    if not isinstance(rows, (list, tuple)):
        return None
    return [(get(row, "index", None), get(row, score, None)) for row in rows]


def get_field(row: Any, name: str, default: None) -> object:
    """Return a field of a JSON object, or the default, also where it is no object."""
    return row.get(name, default) if isinstance(row, Mapping) else default


def as_number(value: object) -> float | None:
    """Return a finite number that a provider sent, or ``None`` for anything else; never guesses from a string."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def as_count(value: object) -> float | None:
    """Return a number of tokens or units that a provider sent, or ``None`` for anything that can be none."""
    number = as_number(value)
    return number if number is not None and number >= 0 else None


def as_name(value: object) -> str | None:
    """Return a name that a provider sent, or ``None`` for anything else."""
    return value if isinstance(value, str) and value.strip() else None


def describe(value: object) -> str:
    """Return what a provider sent as a message may show it: a number, else its type."""
    return f"{value!r:.20}" if isinstance(value, (int, float, type(None))) else f"of type {type(value).__name__}"
