"""The base of the backends that call a provider over the network: a backend adds how to send one request."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, ClassVar
from urllib.parse import urlsplit

from rag_rerank._checks import finite_positive
from rag_rerank._lazy import load_once
from rag_rerank.backends.api.breaker import Breaker
from rag_rerank.backends.api.call import ApiCall
from rag_rerank.backends.api.exchange import Exchange, Reply
from rag_rerank.backends.api.limiter import CallPolicy, KeyLimiter, Limits, limiter_of
from rag_rerank.backends.api.message_redaction import redacted_message
from rag_rerank.backends.api.model_names import is_same_model
from rag_rerank.backends.api.pricing import Price, list_price, pair_tokens, search_units
from rag_rerank.backends.api.retry import RetryPolicy
from rag_rerank.base import PointwiseReranker
from rag_rerank.errors import ConfigError, ScaleWarning, SubstitutionWarning, UnusableKey
from rag_rerank.execution.calls import warn_once
from rag_rerank.execution.deadline import arun_in_thread, seconds_left
from rag_rerank.secret import Secret, check_key
from rag_rerank.text.unicode import is_blank
from rag_rerank.trace import Coverage, Usage
from rag_rerank.types import Scale, Scores

__all__ = ["ApiReranker", "find_key", "split"]


@dataclass(frozen=True, kw_only=True)
class ApiReranker(PointwiseReranker):
    """A reranker that calls a provider; a backend implements `_send` and `_asend`, for one request each.

    Args:
        model: The model's id at the provider.
        api_key: The key, or ``${VAR}`` for the environment variable that holds it, which is read at every call. Without
            it, the provider's usual variables are read. Two rerankers that differ only in their keys are equal.
        base_url: The address of the server. By default the provider's own.
        timeout: Seconds to wait for the answer to one request. The time of a whole call, with all its requests and
            retries, is limited by ``timeout`` of ``rerank`` or by a `Deadline`.
        retry: When and how often a request is sent again after a failure that may pass.
        limits: The most requests, tokens and dollars; the library keeps them before it sends anything. By default there
            are none.
        breaker: When nothing is sent to a failing provider for a while. By default never.
        price: What the provider charges, for ``usage.cost`` and for the limits of cost. By default the list price that
            this release knows, which holds at the provider's own server only and makes ``usage.cost`` an estimate.
        client: A client of the provider's SDK to use instead of a new one; its owner configures and closes it.
        async_client: The same for ``arerank``; without it, ``arerank`` calls ``client`` on a worker thread.

    Raises:
        ConfigError: A value that cannot be used, a key or base URL beside a client, which has its own, or a ceiling of
            cost where no price is known.
    """

    fields_without_effect: ClassVar[frozenset[str]] = PointwiseReranker.fields_without_effect | {
        *("api_key", "timeout", "retry", "limits", "breaker", "price")
    }

    key_variables: ClassVar[tuple[str, ...]]
    """Environment variables that hold the key; the first one that is set wins."""

    most_texts: ClassVar[int]
    """Texts in one request at most."""

    remote: ClassVar[bool] = True
    bare_clients: ClassVar[bool] = False
    """Whether an injected client only holds connections, so that URL and key are those of this reranker."""

    model_optional: ClassVar[bool] = False
    """Whether the model may be empty, for servers with just one."""

    model: str
    api_key: str | Secret | None = field(default=None, compare=False)
    base_url: str | None = None
    timeout: float = 10.0
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    limits: Limits = field(default_factory=Limits)
    breaker: Breaker | None = None
    price: Price | None = None
    client: Any = field(default=None, repr=False, compare=False, metadata={"live": True})
    async_client: Any = field(default=None, repr=False, compare=False, metadata={"live": True})

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.model and not self.model_optional:
            raise ConfigError("model is empty", path="model")
        finite_positive(self.timeout, "timeout")
        if self._has_foreign_client and (self.api_key is not None or self.base_url is not None):
            raise ConfigError("an injected client has its own key and URL; leave api_key and base_url out")
        if self.api_key is not None:
            object.__setattr__(self, "api_key", Secret(self.api_key, path="api_key"))
        if self.base_url is not None:
            object.__setattr__(self, "base_url", _checked_url(self.base_url))
        if self.limits.limits_cost:
            _ = self._price

    @property
    def scale(self) -> Scale:
        """The provider's own relevance, 0 to 1."""
        return "relevance"

    @property
    def why_not_cacheable(self) -> str | None:
        """Why no cache may keep the scores of an injected client: its server is not known here."""
        if self._has_foreign_client:
            return "which server an injected client calls is not known here; give base_url and a key instead"
        return None

    @abstractmethod
    def _send(self, exchange: Exchange, timeout: float) -> Reply:
        """Send one request and return the answer, or raise an error of ours; called for each attempt."""

    @abstractmethod
    async def _asend(self, exchange: Exchange, timeout: float) -> Reply:
        """Do what `_send` does without blocking the event loop."""

    def _discover(self) -> None:
        """Read what the server serves, if it has an endpoint for that; called before each call."""

    async def _adiscover(self) -> None:
        """Do what `_discover` does without blocking the event loop."""

    def _split(self, query: str, texts: Sequence[str]) -> list[range]:
        """Divide the texts, by position, into requests that the provider takes."""
        return split([0] * len(texts), self.most_texts, 0)

    def _tokens(self, query: str, texts: Sequence[str]) -> list[int]:
        """Estimate the tokens of each text with all that is read for it: for limits and costs."""
        return pair_tokens(query, texts)

    def _notes(self, query: str, texts: Sequence[str]) -> tuple[str, ...]:
        """Return notes for the trace on what the provider does to these texts without saying so, such as cutting."""
        return ()

    def _coverage(self, query: str, texts: Sequence[str]) -> Sequence[Coverage]:
        """Return an estimate of how much of each text is read; empty where nothing is cut or the window is unknown."""
        return ()

    def _find_substitute(self, models: Iterable[str]) -> str | None:
        """Return another model than the one asked for among those that answered; ``None`` if there is none."""
        return next((name for name in models if self.model and not is_same_model(self.model, name)), None)

    def score(self, query: str, texts: Sequence[str]) -> Scores:
        """Call the provider; more texts than it takes at once go in several requests, one after the other.

        Raises:
            BackendError: The provider failed, refused, or gave an answer that cannot be trusted.
        """
        if self._has_client and self.client is None:
            raise ConfigError(f"{self.label} was given async_client only; give client too, or call arerank")
        self._discover()
        call = self._call(query, texts)
        call.run(self._send)
        return self._finish(call, query, texts)

    async def ascore(self, query: str, texts: Sequence[str]) -> Scores:
        """Do what `score` does without blocking the event loop."""
        await self._adiscover()
        call = self._call(query, texts)
        await call.arun(self._send_in_thread if self._needs_thread else self._asend)
        return self._finish(call, query, texts)

    def _finish(self, call: ApiCall, query: str, texts: Sequence[str]) -> Scores:
        """Return the scores of a call, with what makes them doubtful: another model, or another scale."""
        scores = replace(call.scores(self.scale), coverage=self._coverage(query, texts))
        if (name := self._find_substitute(call.models)) is not None:
            model = redacted_message(name, self._key(), (query, *texts))
            reason = f"{self.label} was asked for the model {self.model!r}, and the server answered with {model!r}"
            warn_once(self, f"{reason}; name that model, or start the server with yours", SubstitutionWarning)
            scores = replace(scores, notes=(*scores.notes, reason), degraded=(*scores.degraded, reason))
        if self.scale == "sigmoid" and _look_like_probabilities(scores):
            reason = f"the scores of {self.label} are all in 0..1, as probabilities are, and were taken for logits"
            warn_once(self, f'{reason}; if they are none, give answers_on="relevance"', ScaleWarning)
            scores = replace(scores, notes=(*scores.notes, reason))
        return scores

    def estimate(self, query: str, texts: Sequence[str]) -> Usage:
        """Estimate requests, tokens and cost as ceilings do; blank texts are not sent, and a text is counted once."""
        self._key()
        texts = [text for text in texts if not is_blank(text)]
        if not texts:
            return Usage()
        tokens, price = self._tokens(query, texts), self._price
        requests = [tokens[part.start : part.stop] for part in self._split(query, texts)]
        by_units = price is not None and price.per_thousand_search_units is not None
        figures = {
            "tokens": sum(tokens),
            "search_units": float(sum(map(search_units, requests))) if by_units else None,
            "cost": None if price is None else sum(map(price.estimate, requests)),
        }
        names = tuple(sorted(name for name, value in figures.items() if value is not None))
        return Usage(texts=len(texts), requests=len(requests), estimated=names, **figures)  # type: ignore[arg-type]

    @property
    def total_cost(self) -> float:
        """US dollars that this process has spent with this reranker's provider, server and key, where prices are known.

        It counts the amounts that answers named as billed, and our estimates for answers that named none.
        """
        return self._limiter.ledger.total

    @property
    def _has_client(self) -> bool:
        return self.client is not None or self.async_client is not None

    @property
    def _has_foreign_client(self) -> bool:
        """Whether URL and key are those of an injected client."""
        return self._has_client and not self.bare_clients

    @property
    def _needs_thread(self) -> bool:
        """Whether ``arerank`` must call the injected client on a worker thread."""
        return self.client is not None and self.async_client is None

    async def _send_in_thread(self, exchange: Exchange, timeout: float) -> Reply:
        return await arun_in_thread(partial(self._send, exchange, timeout))

    def _call(self, query: str, texts: Sequence[str]) -> ApiCall:
        parts, notes = self._split(query, texts), self._notes(query, texts)
        return ApiCall(self._policy, texts, self._tokens(query, texts), parts, self._exchange(query), notes)

    def _exchange(self, query: str) -> partial[Exchange]:
        """Return a function that makes an exchange of texts and the position of the first."""
        return partial(Exchange, self.kind, self.model, query, key=self._key(), scale=self.scale, label=self.label)

    @property
    def _policy(self) -> CallPolicy:
        return CallPolicy(
            label=self.label,
            backend=self.kind,
            model=self.model,
            limiter=self._limiter,
            limits=self.limits,
            timeout=self.timeout,
            retry=self.retry,
            breaker=self.breaker,
            price=self._price,
            price_is_listed=self.price is None,
        )

    @property
    def _limiter(self) -> KeyLimiter:
        return self._own_limiter if self._has_foreign_client else limiter_of(self.kind, self._host(), self._key())

    @load_once
    def _own_limiter(self) -> KeyLimiter:
        return KeyLimiter()

    @property
    def _circuit_open(self) -> bool:
        """Whether the circuit is open, so that a call would send nothing."""
        return self._policy.open_for(seconds_left()) is not None

    def _host(self) -> str | None:
        """Return the URL of the server; ``None`` for the provider's own."""
        return self.base_url

    @property
    def endpoint(self) -> str | None:
        """The URL that requests are sent to; ``None`` where only an injected client or the SDK knows it.

        Raises:
            ConfigError: A part of it is missing, such as a region or a project.
        """
        return None

    @property
    def _price(self) -> Price | None:
        if self.price is not None:
            return self.price
        price = self._list_price
        if price is None and self.limits.limits_cost:
            raise ConfigError(
                f"a ceiling of cost needs a price, and none is known for {self.label} at this server; give price",
                path="limits",
            )
        return price

    @property
    def _list_price(self) -> Price | None:
        """The price at the provider's own server; ``None`` where it is not known, and at other servers."""
        elsewhere = self._has_foreign_client or self._host() is not None
        return None if elsewhere else list_price(self.kind, self.model)

    def _key(self) -> str:
        return "" if self._has_foreign_client else self.key()

    def check_environment(self) -> None:
        """Check that the key is there, and what else a request needs of this machine; nothing is sent.

        Raises:
            UnusableKey: There is no key, or a text that is none.
            ConfigError: Something else is missing.
        """
        self._key()

    def key(self) -> str:
        """Return the key that a request would carry now.

        Raises:
            UnusableKey: There is none, or a text that is no key.
        """
        return find_key(self.kind, self.api_key, self.key_variables)


_ENOUGH_SCORES = 4
"""Scores that differ, from which on it is not chance that all are in 0..1; logits are spread over -10..10."""


def _look_like_probabilities(scores: Scores) -> bool:
    values = {value for i, value in enumerate(scores.values) if i not in scores.unscored}
    return len(values) >= _ENOUGH_SCORES and all(0 <= value <= 1 for value in values)


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


def find_key(backend: str, api_key: str | Secret | None, variables: Sequence[str], *, optional: bool = False) -> str:
    """Return the key for a provider: ``api_key``, or that of the first environment variable that is not blank.

    Without either, or with ``"${VAR:-}"``, it is empty where it is ``optional``.

    Raises:
        UnusableKey: There is none, or a text that is no key.
    """
    variable = None if api_key is not None else next((v for v in variables if os.environ.get(v, "").strip()), None)
    key = Secret(api_key).reveal() if api_key is not None else os.environ[variable] if variable else ""
    if variable:
        check_key(key, where=f"the key in {variable}")
    if not key and not optional:
        usual = f"set {' or '.join(variables)} in the environment, or " if variables else ""
        raise UnusableKey(
            f'{backend} needs an API key: {usual}give api_key="${{VAR}}" with the name of the variable that holds it',
            backend=backend,
        )
    return key


def _checked_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:  # its message may repeat a password in the URL
        raise ConfigError(
            "base_url has no valid host or port; it must look like https://host:port/path", path="base_url"
        ) from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError("base_url must look like https://host/path", path="base_url")
    if parts.username or parts.password:
        raise ConfigError("base_url must not hold a user or a password; give api_key", path="base_url")
    if parts.query or parts.fragment:
        raise ConfigError("base_url ends with its path; nothing may follow it after ? or #", path="base_url")
    return url.rstrip("/")
