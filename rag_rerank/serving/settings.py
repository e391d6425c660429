"""What a server allows: keys, sizes, callers at once."""

from __future__ import annotations

import hmac
from dataclasses import dataclass

from rag_rerank._checks import at_least
from rag_rerank.errors import ConfigError
from rag_rerank.execution.deadline import check_timeout
from rag_rerank.secret import Secret

__all__ = ["UNAUTHORIZED", "ServerSettings"]

UNAUTHORIZED = "no or a wrong key; send Authorization: Bearer KEY"
"""What a request without one of the keys is told."""


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """The limits of a server.

    Args:
        api_keys: Keys, or ``${VAR}`` for the environment variable of one. A request must bring one of them as
            ``Authorization: Bearer KEY``. Without any, everyone who reaches the server is served.
        model_names: The names of models that requests may ask for. Without any, every name is accepted; the answer
            says which model it was.
        max_body_bytes: The largest body of a request, in bytes.
        max_texts: The most texts in a request.
        concurrency: How many requests are reranked at once; later ones wait.
        max_queue: How many requests may wait. The next one gets status 429 and ``Retry-After``.
        timeout: Seconds for each request, from the moment it is reranked; ``None`` for no limit.

    Raises:
        ConfigError: A limit is out of its range, or a text is no key.
        InputError: The timeout is not more than 0.
    """

    api_keys: tuple[str | Secret, ...] = ()
    model_names: tuple[str, ...] = ()
    max_body_bytes: int = 20_000_000
    max_texts: int = 1_000
    concurrency: int = 64
    max_queue: int = 256
    timeout: float | None = 60.0

    def __post_init__(self) -> None:
        for name in ("max_body_bytes", "max_texts", "concurrency"):
            at_least(getattr(self, name), 1, name)
        at_least(self.max_queue, 0, "max_queue")
        check_timeout(self.timeout)
        object.__setattr__(self, "api_keys", tuple(Secret(key, path="api_keys") for key in self.api_keys))
        if not all(Secret(key).reveal() for key in self.api_keys):
            raise ConfigError("a key is empty and would let everyone in; give a key, or none at all", path="api_keys")

    def accepts_authorization(self, header: str) -> bool:
        """Whether a request with this ``Authorization`` header is served.

        A variable is read each time, so a new key takes effect at once.

        Raises:
            UnusableKey: The variable of a key holds none any more.
        """
        if not self.api_keys:
            return True
        scheme, _, key = header.partition(" ")
        key_bytes = key.strip().encode() if scheme.lower() == "bearer" else b""
        matches = [hmac.compare_digest(key_bytes, secret.reveal().encode()) for secret in map(Secret, self.api_keys)]
        return any(matches)
