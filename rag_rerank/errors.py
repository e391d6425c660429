"""Every error the library raises on purpose, in one tree.

::

    RerankError
    ├── ConfigError (ValueError)         a wrong argument or file; starts with its path: stages[1].reranker.depth
    ├── MissingExtraError (ImportError)  an optional package is absent; names the install command
    ├── ModelLoadError                   weights absent, wrong revision, untrained head, unsafe or unreadable file
    ├── InputError (ValueError)          a query, a candidate or a cutoff that cannot be used as given
    │   └── InputTooLong                 more tokens than the window holds, and cutting was not allowed
    └── BackendError                     the thing that scores failed; .backend .model .status
        ├── TransientError               may pass: all that retries and Fallback look at; .retry_after (seconds)
        │   ├── BackendTimeout           no answer in time
        │   ├── RateLimited              429, or a limit of our own
        │   ├── BackendUnavailable       no connection, or 5xx
        │   ├── CircuitOpen              a provider that failed again and again is left alone for a while
        │   ├── CostExceeded             a ceiling of cost would be passed
        │   ├── Overloaded               as many calls as a local reranker takes are waiting or running
        │   ├── DeadlineExceeded         (TimeoutError) the time given for a call is spent
        │   └── AllFailed                every member of a composite failed; .errors
        ├── AuthenticationError          no key, or 401, 403, 498
        ├── BillingError                 402: no credit left
        ├── RequestRejected              400, 404, 405, 422, 501: the same request will fail again
        │   └── RequestTooLarge          413, or a documented size limit
        └── BadResponse                  an answer that cannot be trusted: wrong count, index twice, NaN, not JSON

A message says what is wrong, where, and how to mend it. No message holds a key or a document's text.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rag_rerank.trace import Trace

__all__ = [
    "AllFailed",
    "AuthenticationError",
    "BackendError",
    "BackendTimeout",
    "BackendUnavailable",
    "BadResponse",
    "BillingError",
    "CalibrationWarning",
    "CircuitOpen",
    "ConfigError",
    "CostExceeded",
    "DeadlineExceeded",
    "InputError",
    "InputTooLong",
    "MissingExtraError",
    "ModelLoadError",
    "Overloaded",
    "RateLimited",
    "RequestRejected",
    "RequestTooLarge",
    "RerankError",
    "TransientError",
    "TruncationWarning",
    "did_you_mean",
]


class RerankError(Exception):
    """Base of all errors of this library.

    ``trace`` is the tree of what had been done when the call failed, or ``None`` where nothing had begun.
    """

    trace: Trace | None = None


class ConfigError(RerankError, ValueError):
    """A wrong argument, config node or config file.

    Args:
        message: What is wrong and how to mend it.
        path: Where, from the root of the config: ``stages[1].reranker``. Empty at the root.
    """

    def __init__(self, message: str, *, path: str = "") -> None:
        self.message = message
        self.path = path
        super().__init__(f"{path}: {message}" if path else message)

    def under(self, parent: str) -> ConfigError:
        """Return the same error seen from one level further out; from the root, itself."""
        if not parent:
            return self
        joiner = "" if not self.path or self.path.startswith("[") else "."
        error = type(self)(self.message, path=f"{parent}{joiner}{self.path}")
        error.__cause__ = self.__cause__
        return error

    def __reduce__(self) -> tuple[object, ...]:
        return (_config_error, (self.message, self.path), self.__dict__)


def _config_error(message: str, path: str) -> ConfigError:
    return ConfigError(message, path=path)


class MissingExtraError(RerankError, ImportError):
    """An optional package is not installed; the message gives the command that installs it."""


class ModelLoadError(RerankError):
    """A model could not be loaded: files absent or unreadable, unsafe format, or a head that was never trained."""


class InputError(RerankError, ValueError):
    """A query, a candidate or a cutoff that cannot be used as given."""


class InputTooLong(InputError):
    """More tokens than the model's window holds, and cutting them was not allowed.

    Raised for a text with ``on_overflow="error"``, and always for a query that leaves no room for any text:
    a query is never cut.

    Args:
        message: How long it is, what fits, and how to mend it.
        position: Position among the texts that were scored, where one text is at fault.
    """

    def __init__(self, message: str, *, position: int | None = None) -> None:
        self.position = position
        super().__init__(message)


class BackendError(RerankError):
    """What scores failed.

    Args:
        message: What happened, without secrets and without document text.
        backend: Registry name of the backend, such as ``"cohere"``.
        model: Model asked for.
        status: HTTP status of the answer, where there was one.
    """

    def __init__(
        self, message: str, *, backend: str | None = None, model: str | None = None, status: int | None = None
    ) -> None:
        self.backend = backend
        self.model = model
        self.status = status
        super().__init__(message)


class TransientError(BackendError):
    """A failure that may pass: the only class that retries and Fallback look at.

    ``retry_after``: seconds to wait, when the provider said how long.
    """

    def __init__(
        self,
        message: str,
        *,
        retry_after: float | None = None,
        backend: str | None = None,
        model: str | None = None,
        status: int | None = None,
    ) -> None:
        self.retry_after = retry_after
        super().__init__(message, backend=backend, model=model, status=status)


class BackendTimeout(TransientError):
    """No answer came within the time allowed for one request."""


class RateLimited(TransientError):
    """The provider refused the request for now (429), or a limit of our own did.

    In the latter case nothing was sent, ``status`` is ``None`` and no retry policy tries again.
    """


class BackendUnavailable(TransientError):
    """The provider could not be reached, dropped the connection, or answered with a server error."""


class CircuitOpen(TransientError):
    """A provider failed so often in a row that it is left alone for a while (`Breaker`); nothing was sent.

    ``retry_after`` is the time until one request may try it; ``None`` while one does. No retry policy tries again, so
    that a Fallback moves on at once.
    """


class CostExceeded(TransientError):
    """The request would pass a ceiling (``limits.cost_per_call``, ``limits.cost_per_process``); it was not sent.

    It is a `TransientError` although waiting does not help, because the ceiling is a wish of the user's and no mistake
    that a Fallback could hide: it moves on, to a local reranker for example. No retry policy tries again.
    """


class Overloaded(TransientError):
    """A local reranker has as many calls waiting or running as its ``max_queue`` allows; nothing was begun.

    No retry policy of the library sees it, because those stand around requests to providers only; a Fallback moves on.
    """


class DeadlineExceeded(TransientError, TimeoutError):
    """The time given for a call, by ``timeout`` or by a `Deadline`, is spent.

    It goes up through everything that had this time in common. What stands outside may go on: a Fallback moves on from
    a member whose own `Deadline` is over.
    """


class AllFailed(TransientError):
    """Every member of a composite failed for a reason that may pass; ``errors`` holds them in order."""

    def __init__(self, message: str, *, errors: Sequence[TransientError] = ()) -> None:
        self.errors = tuple(errors)
        super().__init__(message)


class AuthenticationError(BackendError):
    """No key, or a key that the provider does not accept. Never tried again."""


class BillingError(BackendError):
    """The account has no credit left (402). Never tried again."""


class RequestRejected(BackendError):
    """The provider will not answer this request, however often it is sent."""


class RequestTooLarge(RequestRejected):
    """The request is over a size limit of the provider."""


class BadResponse(BackendError):
    """An answer that cannot be trusted: too few or too many scores, an index twice or out of range, NaN, not JSON."""


class TruncationWarning(UserWarning):
    """Some texts were longer than the model's window and were cut; each hit's coverage says by how much."""


class CalibrationWarning(UserWarning):
    """Probabilities may be off: a map was fitted on another revision of the model, or on little data."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the nearest known word, or the sorted list of known words."""
    import difflib

    names = sorted(known)
    near = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    return f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(names)}"
