"""One request to a provider and its answer: scores that can be trusted, or an error that says what went wrong."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from rag_rerank.backends._words import message, seconds_to_wait, shown
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
from rag_rerank.trace import Usage
from rag_rerank.types import Scale

__all__ = ["Exchange", "Reply", "figure", "item", "read_rows"]

T = TypeVar("T")
Explain = Callable[["Exchange", Exception], BackendError]

_BOUNDED: tuple[Scale, ...] = ("calibrated", "relevance")
_ROUNDING = 1e-6  # providers round scores; one may stand this far outside 0..1

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
_REDIRECTED = "redirects are not followed, because the key would go along; set base_url to where the server is now"


@dataclass(frozen=True, slots=True)
class Reply:
    """What a provider answered to one request, not yet checked.

    Args:
        rows: Pairs of index and score, as they came.
        usage: The figures that were billed (or estimated), nothing else.
        remarks: The provider's warnings.
    """

    rows: object
    usage: Usage = field(default_factory=Usage)
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request, as far as reading its answer needs it.

    Args:
        backend: Registry name of the backend.
        model: Model asked for.
        query: The query that is sent.
        texts: The texts that are sent.
        first: Position of the first of them among all texts of the call.
        key: The key that is sent, if it is known; never shown.
        scale: What the scores are expected to be.
        label: How messages call the backend and its model; by default by those two.
    """

    backend: str
    model: str
    query: str = field(repr=False)
    texts: Sequence[str] = field(repr=False)
    first: int = 0
    key: str = field(default="", repr=False)
    scale: Scale = "relevance"
    label: str = ""

    def sent(self, send: Callable[..., T], explain: Explain, **arguments: Any) -> T:
        """Call an SDK, and turn what it raises into an error of ours.

        The SDK's error is not chained, not even as a context: its text and its attributes hold the provider's answer,
        and with it perhaps the key or the texts.
        """
        try:
            return send(**arguments)
        except RerankError:
            raise
        except Exception as error:
            failure = explain(self, error)
        raise failure

    async def asent(self, send: Callable[..., Awaitable[T]], explain: Explain, **arguments: Any) -> T:
        """Do what `sent` does with a coroutine function."""
        try:
            return await send(**arguments)
        except RerankError:
            raise
        except Exception as error:
            failure = explain(self, error)
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
            raise self.bad("it holds no list of scores")
        found: dict[int, float] = {}
        for index, score in rows:
            if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < len(self.texts):
                raise self.bad(f"index {_described(index)} for {len(self.texts)} texts")
            where = self.first + index
            if index in found:
                raise self.bad(f"two scores for text {where}")
            value = figure(score)
            if value is None:
                raise self.bad(f"score {_described(score)} for text {where}, which is not a finite number")
            if self.scale in _BOUNDED and not -_ROUNDING <= value <= 1 + _ROUNDING:
                raise self.bad(f"score {value:g} for text {where}, which is outside 0..1")
            found[index] = value
        missing = [self.first + i for i in range(len(self.texts)) if i not in found]
        if missing:
            raise self.bad(f"no score for {len(missing)} of {len(self.texts)} texts, the first is text {missing[0]}")
        return [found[i] for i in range(len(self.texts))]

    def refused(
        self,
        status: int | None,
        headers: Mapping[str, str],
        body: object,
        *,
        kind: type[BackendError] | None = None,
        advice: str | None = None,
    ) -> BackendError:
        """Return the error for an answer that carries no scores.

        Args:
            status: HTTP status; ``None`` where the SDK does not tell it, which some do with server errors.
            headers: Its headers, in any case.
            body: Its body, parsed where it was JSON.
            kind: The error class, where the provider's words say more than the status.
            advice: How to mend it, where the class does not say it well enough.
        """
        if status is not None and status < 300:
            return self.bad("it is not JSON of the expected shape", status=status)
        if kind is None:
            server_error = status is None or status >= 500
            kind = _BY_STATUS.get(status or 0, BackendUnavailable if server_error else RequestRejected)
        said = self.safe(message(body))
        text = f"answered {status or 'with an error'}" + (f" ({said})" if said else "")
        if advice is None:
            advice = _REDIRECTED if status is not None and 300 <= status < 400 else _ADVICE.get(kind)
        text += f"; {advice}" if advice else ""
        more = {"retry_after": seconds_to_wait(headers)} if issubclass(kind, TransientError) else {}
        return self._error(kind, text, status=status, **more)

    def rejected(self, what: str) -> BackendError:
        """Return the error for a server that cannot do what it is there for."""
        return self._error(RequestRejected, self.safe(what))

    def late(self) -> BackendError:
        """Return the error for no answer in time."""
        return self._error(BackendTimeout, "did not answer in time; a longer timeout or fewer texts may help")

    def lost(self, error: Exception) -> BackendError:
        """Return the error for a connection that could not be made, or broke."""
        return self._error(BackendUnavailable, f"could not be reached or hung up ({self._told(error)})")

    def bad(self, what: str, *, status: int | None = None) -> BackendError:
        """Return the error for an answer that cannot be trusted."""
        return self._error(BadResponse, f"gave an answer that cannot be used: {what}", status=status)

    def failed(self, error: Exception) -> BackendError:
        """Return the error for an exception that the SDK let through and that is not its own."""
        if isinstance(error, (TimeoutError, asyncio.TimeoutError)):
            return self.late()
        if isinstance(error, OSError):
            return self.lost(error)
        if isinstance(error, (AttributeError, LookupError, TypeError, ValueError)):
            return self.bad(f"the SDK could not read it ({self._told(error)})")
        return self._error(BackendError, f"failed in its SDK ({self._told(error)})")

    def safe(self, words: str) -> str:
        """Return a provider's words, short, on one line, and without what was sent to it."""
        return shown(words, self.key, (self.query, *self.texts))

    def _told(self, error: Exception) -> str:
        said = self.safe(str(error))
        return type(error).__name__ + (f": {said}" if said else "")

    def _error(self, kind: type[BackendError], text: str, **facts: Any) -> BackendError:
        return kind(
            f"{self.label or f'{self.backend}:{self.model}'} {text}", backend=self.backend, model=self.model, **facts
        )


def read_rows(rows: object, get: Callable[[Any, str, None], object], score: str = "relevance_score") -> object:
    """Return the pairs of index and score of a reply's rows, or ``None`` where there is no list of rows.

    Args:
        rows: What the reply holds in their place.
        get: Reads a field of a row, or gives the default: ``getattr`` for objects, `item` for JSON.
        score: The field with the score.
    """
    if not isinstance(rows, (list, tuple)):
        return None
    return [(get(row, "index", None), get(row, score, None)) for row in rows]


def item(row: Any, name: str, default: None) -> object:
    """Return a field of a JSON object, or the default, also where it is no object."""
    return row.get(name, default) if isinstance(row, Mapping) else default


def figure(value: object) -> float | None:
    """Return a finite number that a provider sent, or ``None`` for anything else; never guesses from a string."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _described(value: object) -> str:
    return f"{value!r:.20}" if isinstance(value, (int, float, type(None))) else f"of type {type(value).__name__}"
