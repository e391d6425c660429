"""What the backends that ask a provider over the network share; a backend adds how to send one request."""

from __future__ import annotations

import math
import os
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar
from urllib.parse import urlsplit

from rag_rerank._lazy import load_once
from rag_rerank.backends.api.attempts import AdmittedRequest, CallPolicy, RetryPolicy
from rag_rerank.backends.api.breaker import Breaker
from rag_rerank.backends.api.call import ApiCall, pair_tokens, split
from rag_rerank.backends.api.exchange import Exchange, Reply
from rag_rerank.backends.api.limiter import KeyLimiter, Limits, limiter_of
from rag_rerank.backends.api.pricing import Price, list_price, search_units
from rag_rerank.base import PointwiseReranker
from rag_rerank.errors import AuthenticationError, ConfigError
from rag_rerank.execution.deadline import seconds_left
from rag_rerank.secret import Secret
from rag_rerank.text.unicode import is_blank
from rag_rerank.trace import Usage
from rag_rerank.types import Scale, Scores

__all__ = ["ApiReranker", "find_key"]


@dataclass(frozen=True, kw_only=True)
class ApiReranker(PointwiseReranker):
    """A reranker that asks a provider; a backend gives `_send` and `_asend`, one request each.

    Args:
        model: Model id at the provider.
        api_key: The key, or ``"${VAR}"`` for the environment variable that holds it, read at every call. Without
            it, the provider's usual variables are read. Two rerankers that differ only in their keys are equal.
        base_url: Where the server is; ``None`` for the provider's own.
        timeout: Seconds to wait for the answer to one request.
        retry: When a request is sent again.
        limits: How much is asked for, and spent, at most; see `Limits`.
        breaker: When a failing provider is left alone for a while; see `Breaker`. ``None`` for never.
        price: What the provider charges, for ``usage.cost`` and ceilings. By default that of ``prices.json``, which
            holds at the provider's own server only and makes ``usage.cost`` an estimate.
        client: A client of the provider's SDK to use instead of an own one; its owner configures and closes it.
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
    """Whether an injected client is nothing but connections, so that URL and key are this reranker's own."""

    model_optional: ClassVar[bool] = False
    """Whether a server may be left to choose its model, with an empty name."""

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
        if not (self.timeout > 0 and math.isfinite(self.timeout)):
            raise ConfigError(f"timeout must be more than 0 seconds, got {self.timeout}", path="timeout")
        if self._foreign and (self.api_key is not None or self.base_url is not None):
            raise ConfigError("an injected client has its own key and URL; leave api_key and base_url out")
        if self.api_key is not None:
            object.__setattr__(self, "api_key", Secret(self.api_key))
        if self.base_url is not None:
            object.__setattr__(self, "base_url", _checked_url(self.base_url))
        if self.limits.priced:
            _ = self._price

    @property
    def scale(self) -> Scale:
        """The provider's own relevance, 0 to 1."""
        return "relevance"

    @property
    def why_not_cacheable(self) -> str | None:
        """An injected client, whose server is not known here."""
        if self._foreign:
            return "which server an injected client asks is not known here; give base_url and a key instead"
        return None

    @abstractmethod
    def _send(self, exchange: Exchange, timeout: float) -> Reply:
        """Send one request and return the answer, or raise an error of ours; called anew for each attempt."""

    @abstractmethod
    async def _asend(self, exchange: Exchange, timeout: float) -> Reply:
        """Do what `_send` does without blocking the event loop."""

    def _meet(self) -> None:
        """Ask the server what it takes, where it is one that tells; called before each call."""

    async def _ameet(self) -> None:
        """Do what `_meet` does without blocking the event loop."""

    def _parts(self, query: str, texts: Sequence[str]) -> list[range]:
        """Divide the texts, by position, into requests that the provider takes."""
        return split([0] * len(texts), self.most_texts, 0)

    def _remarks(self, query: str, texts: Sequence[str]) -> tuple[str, ...]:
        """Say what the provider will do to these texts without telling, such as cutting them."""
        return ()

    def score(self, query: str, texts: Sequence[str]) -> Scores:
        """Ask the provider; more texts than it takes at once go in several requests, one after the other.

        Raises:
            BackendError: The provider failed, refused, or answered with something that cannot be trusted.
        """
        if self._injected and self.client is None:
            raise ConfigError(f"{self.label} was given async_client only; give client too, or call arerank")
        self._meet()
        call = self._call(query, texts)
        for request in call.pending():
            with call.watched(request):
                request.reply = request.attempts.run(partial(self._attempt, request.exchange))
        return call.scores(self.scale)

    async def ascore(self, query: str, texts: Sequence[str]) -> Scores:
        """Do what `score` does without blocking the event loop."""
        await self._ameet()
        call = self._call(query, texts)
        for request in call.pending():
            with call.watched(request):
                request.reply = await request.attempts.arun(partial(self._aattempt, request.exchange))
        return call.scores(self.scale)

    def estimate(self, query: str, texts: Sequence[str]) -> Usage:
        """Estimate requests, tokens and money as ceilings do; blank texts are not sent, and a text is counted once."""
        self._known_key()
        sent = [text for text in texts if not is_blank(text)]
        if not sent:
            return Usage()
        tokens, price = pair_tokens(query, sent), self._price
        requests = [tokens[part.start : part.stop] for part in self._parts(query, sent)]
        by_units = price is not None and price.per_thousand_search_units is not None
        found = {
            "tokens": sum(tokens),
            "search_units": float(sum(map(search_units, requests))) if by_units else None,
            "cost": None if price is None else sum(map(price.estimate, requests)),
        }
        told = tuple(sorted(name for name, value in found.items() if value is not None))
        return Usage(texts=len(sent), requests=len(requests), estimated=told, **found)  # type: ignore[arg-type]

    @property
    def spent(self) -> float:
        """US dollars that this process has spent with this reranker's provider, server and key, where prices are known.

        Counted is what answers said was billed, or our estimate where they did not say it.
        """
        return self._gate.ledger.spent

    @property
    def _injected(self) -> bool:
        return self.client is not None or self.async_client is not None

    @property
    def _foreign(self) -> bool:
        """Whether URL and key are those of an injected client."""
        return self._injected and not self.bare_clients

    def _exchange(self, query: str) -> partial[Exchange]:
        """Return what makes an exchange of texts and the position of the first."""
        return partial(
            Exchange, self.kind, self.model, query, key=self._known_key(), scale=self.scale, label=self.label
        )

    def _call(self, query: str, texts: Sequence[str]) -> ApiCall:
        return ApiCall(
            self.label,
            self._exchange(query),
            query,
            texts,
            self._parts(query, texts),
            self.retry,
            self._remarks(query, texts),
            self._terms(),
        )

    def _terms(self) -> CallPolicy:
        return CallPolicy(
            label=self.label,
            backend=self.kind,
            model=self.model,
            gate=self._gate,
            limits=self.limits,
            timeout=self.timeout,
            breaker=self.breaker,
            price=self._price,
            listed=self.price is None,
        )

    @property
    def _gate(self) -> KeyLimiter:
        return self._own_gate if self._foreign else limiter_of(self.kind, self._host(), self._known_key())

    @load_once
    def _own_gate(self) -> KeyLimiter:
        return KeyLimiter()

    @property
    def _left_alone(self) -> bool:
        """Whether the circuit is open, so that a call would send nothing."""
        return AdmittedRequest(self._terms()).shut(seconds_left()) is not None

    def _host(self) -> str | None:
        """Return the server that is asked; ``None`` for the provider's own."""
        return self.base_url

    @property
    def _price(self) -> Price | None:
        if self.price is not None:
            return self.price
        known = None if self._foreign or self._host() is not None else list_price(self.kind, self.model)
        if known is None and self.limits.priced:
            raise ConfigError(
                f"a ceiling of cost needs a price, and none is known for {self.label} at this server; give price",
                path="limits",
            )
        return known

    def _attempt(self, exchange: Exchange, left: float) -> Reply:
        return self._send(exchange, min(self.timeout, left))

    async def _aattempt(self, exchange: Exchange, left: float) -> Reply:
        if self.client is not None and self.async_client is None:
            import asyncio

            return await asyncio.to_thread(self._attempt, exchange, left)
        return await self._asend(exchange, min(self.timeout, left))

    def _known_key(self) -> str:
        return "" if self._foreign else self.key()

    def key(self) -> str:
        """Return the key that a request would carry now.

        Raises:
            AuthenticationError: There is none, or it holds what no header can hold.
        """
        return find_key(self.kind, self.api_key, self.key_variables)


def find_key(backend: str, given: str | Secret | None, variables: Sequence[str], *, optional: bool = False) -> str:
    """Return the key that a provider asks for: the given one, or that of the first variable that is set.

    Without either, it is empty where it is ``optional``.

    Raises:
        AuthenticationError: There is none, or it holds what no header can hold.
    """
    if given is not None:
        key = Secret(given).reveal().strip()
    else:
        key = next(filter(None, (os.environ.get(name, "").strip() for name in variables)), "")
    if not key and optional and given is None:
        return ""
    if not key:
        usual = f"set {' or '.join(variables)} in the environment, or " if variables else ""
        raise AuthenticationError(
            f'{backend} needs an API key: {usual}give api_key="${{VAR}}" with the name of the variable that holds it',
            backend=backend,
        )
    if not key.isascii() or not key.isprintable() or " " in key:
        raise AuthenticationError(f"the API key for {backend} holds characters that no key has", backend=backend)
    return key


def _checked_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:  # whose words may repeat what the URL holds
        raise ConfigError(
            "base_url has a host or a port that is none; it must look like https://host:port/path", path="base_url"
        ) from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError("base_url must look like https://host/path", path="base_url")
    if parts.username or parts.password:
        raise ConfigError("base_url must not hold a user or a password; give api_key", path="base_url")
    if parts.query or parts.fragment:
        raise ConfigError("base_url ends with its path; nothing may follow it after ? or #", path="base_url")
    return url.rstrip("/")
