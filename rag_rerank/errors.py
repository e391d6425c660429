"""Every error the library raises on purpose, in one tree.

::

    RerankError
    ├── ConfigError (ValueError)         a wrong argument or file; starts with its path: stages[1].reranker.depth
    ├── MissingExtraError (ImportError)  an optional package is absent; names the install command
    ├── ModelLoadError                   weights absent, wrong revision, untrained head, unsafe or unreadable file
    ├── VerificationError                a model gives other scores than those that were published for it
    ├── InputError (ValueError)          a query, a candidate or a cutoff that cannot be used as given
    │   └── InputTooLong                 more tokens than the model reads, and cutting was not allowed
    └── BackendError                     the model or the provider failed; .backend .model .status
        ├── TransientError               may pass: only these are retried, and make Fallback go on; .retry_after
        │   ├── BackendTimeout           no answer in time
        │   ├── RateLimited              429, or a limit that the user set
        │   ├── BackendUnavailable       no connection, or 5xx
        │   ├── CircuitOpen              a provider failed repeatedly, and gets no requests for a while
        │   ├── CostExceeded             the request would exceed a cost limit
        │   ├── UnreadableText           a query or a text in a script or language that the model cannot read
        │   ├── Overloaded               a local reranker has its maximum of waiting and running calls
        │   ├── ModelUnavailable         (ModelLoadError) files not here, and the hub cannot be asked now; .reason
        │   ├── DeadlineExceeded         (TimeoutError) the time limit of a call is over
        │   └── AllFailed                every member of a composite failed; .errors
        ├── AuthenticationError          a key that the provider does not accept: 401, 403, 498
        │   └── UnusableKey (ConfigError)  no key, or a text that is no key; nothing was sent
        ├── BillingError                 402: no credit left
        ├── RequestRejected              400, 404, 405, 422, 501: the same request will fail again
        │   └── RequestTooLarge          413, or a documented size limit
        └── BadResponse                  an invalid answer: wrong count, an index twice, NaN, not JSON

A message says what is wrong, where, and how to mend it. No message holds a key or a document's text. Where a page of
the documentation says more, ``.url`` is its address; a traceback shows it in a line of its own.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from rag_rerank.documentation import PAGES, page_url

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
    "ContextWarning",
    "CostExceeded",
    "DeadlineExceeded",
    "InputError",
    "InputTooLong",
    "LtrWarning",
    "MissingExtraError",
    "ModelLoadError",
    "ModelUnavailable",
    "Overloaded",
    "QueryTruncationWarning",
    "RateLimited",
    "ReadabilityWarning",
    "RequestRejected",
    "RequestTooLarge",
    "RerankError",
    "RerankWarning",
    "ScaleWarning",
    "SubstitutionWarning",
    "TransientError",
    "TruncationWarning",
    "UnreadableText",
    "UnusableKey",
    "VerificationError",
    "caller_stacklevel",
    "did_you_mean",
]


class _HasPage:
    """A class whose ``page`` is that of its name in `PAGES`, else that of its base."""

    page: str = ""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.page = PAGES.get(cls.__name__, cls.page)

    @property
    def url(self) -> str | None:
        """The address of ``page``; ``None`` where no page says more."""
        return page_url(self.page) if self.page else None


class RerankError(_HasPage, Exception):
    """Base of all errors of this library.

    ``trace`` is the tree of what was done before the call failed, or ``None`` if it failed before the first step.
    ``page`` is the page of the documentation that says more, such as ``"how-to/fallback/"``; empty where none does.
    """

    trace: Trace | None = None

    def __init__(self, *args: object) -> None:
        super().__init__(*args)
        if self.page:
            self.__notes__: list[str] = [f"More: {self.url}"]  # as `add_note` of Python 3.11; older ones ignore it


class ConfigError(RerankError, ValueError):
    """A wrong argument, config node or config file.

    Args:
        message: What is wrong and how to mend it.
        path: Its place in the config: ``stages[1].reranker``. Empty at the root.
        page: The page that says more, if it is not that of the class.
    """

    def __init__(self, message: str, *, path: str = "", page: str = "") -> None:
        self.message = message
        self.path = path
        if page:
            self.page = page
        super().__init__(f"{path}: {message}" if path else message)

    def under(self, parent: str, *, page: str = "") -> ConfigError:
        """Return the same error with its path below a parent, and with a page unless it has one of its own."""
        own_page = self.page if self.page != ConfigError.page else ""
        if not parent and (own_page or not page):
            return self
        joiner = "." if parent and self.path and not self.path.startswith("[") else ""
        error = type(self)(self.message, path=f"{parent}{joiner}{self.path}", page=own_page or page)
        error.__cause__ = self.__cause__
        return error

    def __reduce__(self) -> tuple[object, ...]:
        return (_config_error, (type(self), self.message, self.path), self.__dict__)


def _config_error(kind: type[ConfigError], message: str, path: str) -> ConfigError:
    return kind(message, path=path)


class MissingExtraError(RerankError, ImportError):
    """An optional package is not installed; the message gives the command that installs it."""


class ModelLoadError(RerankError):
    """A model that cannot be loaded: files absent or unreadable, an unsafe format, or a head that was never trained."""


class VerificationError(RerankError):
    """A model gives other scores than those published for it; the message has both numbers and the likely causes."""


class InputError(RerankError, ValueError):
    """A query, a candidate or a cutoff that cannot be used as given."""


class InputTooLong(InputError):
    """An input has more tokens than the model reads, and may not be cut.

    Raised for a text with ``on_overflow="error"``, for a query with ``on_long_query="error"``, and always for a window
    without room for a text.

    Args:
        message: How long it is, what fits, and how to mend it.
        position: Position of the text among those that were scored; ``None`` if the query is too long.
    """

    def __init__(self, message: str, *, position: int | None = None) -> None:
        self.position = position
        super().__init__(message)


class BackendError(RerankError):
    """The model or the provider that scores failed.

    Args:
        message: What happened, without secrets and without document text.
        backend: Registry name of the backend, such as ``"cohere"``.
        model: The model in the request.
        status: HTTP status of the answer; ``None`` without an answer.
    """

    def __init__(
        self, message: str, *, backend: str | None = None, model: str | None = None, status: int | None = None
    ) -> None:
        self.backend = backend
        self.model = model
        self.status = status
        super().__init__(message)


class TransientError(BackendError):
    """A failure that may pass: retries and Fallback react to this class only.

    ``retry_after``: seconds to wait, if the provider said how long. ``still_busy``: whether the provider goes on with
    the request although nobody waits for it; then it is not sent again.
    """

    still_busy: bool = False

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
    """The provider refused the request for now (429), or the user's own limit did.

    In the latter case nothing was sent, ``status`` is ``None``, and the request is not retried.
    """


class BackendUnavailable(TransientError):
    """The provider could not be reached, dropped the connection, or answered with a server error."""


class CircuitOpen(TransientError):
    """A provider failed so often in a row that it gets no requests for a while (`Breaker`); nothing was sent.

    ``retry_after`` is the time until one request may try it again; ``None`` while that request runs. The error is not
    retried, so that a Fallback goes on to its next member at once.
    """


class CostExceeded(TransientError):
    """The request would exceed ``limits.cost_per_call`` or ``limits.cost_per_process``; it was not sent.

    It is a `TransientError`, although waiting does not help, so that a Fallback goes on, for example to a local
    reranker: the limit is the user's intention, not a mistake that a Fallback could hide. The error is not retried.
    """


class Overloaded(TransientError):
    """A local reranker has as many waiting and running calls as its ``max_queue`` allows; this one was not started.

    It is not retried, because the library retries only requests to providers; a Fallback goes on to its next member.
    """


class ModelUnavailable(TransientError, ModelLoadError):
    """A model's files are not on this machine, and cannot be fetched now: no network, an outage, or offline mode.

    It is a `TransientError`, so that a Fallback goes on: the model is not at fault. A name that the hub does not have,
    or does not show to this user, is a plain `ModelLoadError`.

    Args:
        message: What is absent, why it cannot be fetched, and the command that fetches it.
        reason: The same without name and command, for ``ranking.degraded``.
        backend: Registry name of the backend that needs the files.
        model: The model as the user named it.
        status: HTTP status of the hub's answer; ``None`` without an answer.
    """

    def __init__(
        self,
        message: str,
        *,
        reason: str = "",
        backend: str | None = None,
        model: str | None = None,
        status: int | None = None,
    ) -> None:
        self.reason = reason
        super().__init__(message, backend=backend, model=model, status=status)


class UnreadableText(TransientError):
    """The query or a text is in a script or a language that the model cannot read, and ``on_unreadable`` is "error".

    It is a `TransientError`, although waiting does not help, so that a Fallback goes on to a model for that language.
    """


class DeadlineExceeded(TransientError, TimeoutError):
    """The time limit of a call, from ``timeout`` or from a `Deadline`, is over.

    The error passes through every reranker that shares this limit. A reranker outside of it can go on: a Fallback goes
    on to its next member if the `Deadline` of one member is over.
    """


class AllFailed(TransientError):
    """Every member of a composite failed with a `TransientError`; ``errors`` holds them in order."""

    def __init__(self, message: str, *, errors: Sequence[TransientError] = ()) -> None:
        self.errors: tuple[TransientError, ...] = tuple(errors)
        super().__init__(message)


class AuthenticationError(BackendError):
    """No key (`UnusableKey`), or a key that the provider does not accept. Never retried."""


class UnusableKey(AuthenticationError, ConfigError):
    """There is no key, or a text that is no key: a placeholder, a reference that nothing replaced, white space.

    Nothing was sent. It is a `ConfigError` too, because the mistake is in the config or in the environment.
    """

    def __init__(self, message: str, *, path: str = "", page: str = "", backend: str | None = None) -> None:
        super().__init__(message, backend=backend)
        ConfigError.__init__(self, message, path=path, page=page)


class BillingError(BackendError):
    """The account has no credit left (402). Never retried."""


class RequestRejected(BackendError):
    """The provider rejects this request, however often it is sent."""


class RequestTooLarge(RequestRejected):
    """The request exceeds a size limit of the provider."""


class BadResponse(BackendError):
    """An invalid answer: too few or too many scores, an index twice or out of range, NaN, not JSON."""


class RerankWarning(_HasPage, UserWarning):
    """Base of the warnings of this library. A warning ends with the address of its ``page``, which says more."""

    def __init__(self, message: str = "") -> None:
        link = f" ({page_url(self.page)})" if self.page else ""
        super().__init__(message if message.endswith(link) else message + link)  # a copy is made of the whole text


class TruncationWarning(RerankWarning):
    """Some texts were longer than the model reads and were cut; the coverage of each hit says by how much."""


class QueryTruncationWarning(TruncationWarning):
    """Queries were longer than their share of the window, and were cut; the trace says by how much."""


class ReadabilityWarning(RerankWarning):
    """A model met a query or texts that it cannot read; the trace of each ranking says how much of them."""


class CalibrationWarning(RerankWarning):
    """Probabilities may be wrong: a map was fitted on another revision of the model, or on little data."""


class LtrWarning(RerankWarning):
    """A model of type ``ltr`` has other rerankers than in its training, or was trained on little data."""


class SubstitutionWarning(RerankWarning):
    """Another model answered than the one that was asked for; ``ranking.degraded`` says which."""


class ScaleWarning(RerankWarning):
    """Scores seem to be on another scale than the one that was declared for them."""


class ContextWarning(RerankWarning):
    """The best hit is not in the context, because it does not fit; a lesser one may be in its place."""


def caller_stacklevel() -> int:
    """Return the ``stacklevel`` of the first frame outside this package, for a warning; composites nest."""
    package, levels = __name__.partition(".")[0], 0
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == package:
        frame, levels = frame.f_back, levels + 1
    return levels + 1


def did_you_mean(word: str, choices: Iterable[str], *, or_list: bool = True) -> str:
    """Return ``"; did you mean 'x'?"`` with the nearest choice, in any case; else a list of all choices, or nothing."""
    import difflib

    names = {choice.casefold(): choice for choice in sorted(choices)}
    near = difflib.get_close_matches(word.casefold(), names, n=1, cutoff=0.6)
    if near:
        return f"; did you mean {names[near[0]]!r}?"
    return f"; known: {', '.join(names.values())}" if or_list else ""
