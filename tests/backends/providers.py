"""The two providers as the tests see them: how to make a reranker for a server, and what their wire looks like."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol

from backends.server import RerankServer

from rag_rerank import Ranking, Reranker
from rag_rerank.backends._api import ApiReranker
from rag_rerank.backends._retry import RetryPolicy
from rag_rerank.backends.cohere import CohereReranker
from rag_rerank.backends.voyage import VoyageReranker

QUERY = "how should a bearded dragon be kept warm?"
TEXTS = (
    "Cranes migrate along the coast in autumn, in long chevrons.",
    "A bearded dragon needs a warm basking spot of about forty degrees.",
)
KEY = "kEy-7f3aQz0Lw9"


@dataclass(frozen=True)
class Provider:
    """One of the providers.

    Args:
        kind: Name in the registry.
        path: Where the server hears it.
        said: The field of an error's body that holds the message.
        make: Makes the reranker.
        url: Base URL on a server.
    """

    kind: str
    path: str
    said: str
    make: Callable[..., ApiReranker]
    url: Callable[[RerankServer], str]

    def reranker(self, server: RerankServer, **options: Any) -> ApiReranker:
        """Return a reranker for a server, with three attempts and without jitter; the same one for the same options.

        One reranker is made for many requests, and Cohere's client takes 50 ms to make.
        """
        defaults: dict[str, Any] = {"api_key": KEY, "base_url": self.url(server), "retry": RetryPolicy(jitter=0)}
        return _made(self.make, tuple({**defaults, **options}.items()))


COHERE = Provider("cohere", "/v2/rerank", "message", CohereReranker, lambda server: server.url)
VOYAGE = Provider("voyage", "/v1/rerank", "detail", VoyageReranker, lambda server: server.voyage_url)


@cache
def _made(make: Callable[..., ApiReranker], options: tuple[tuple[str, Any], ...]) -> ApiReranker:
    return make(**dict(options))


class Ask(Protocol):
    """Ranks the two texts above, or others, by `rerank` or by `arerank`."""

    def __call__(self, reranker: Reranker, texts: Sequence[str] = TEXTS, query: str = QUERY) -> Ranking: ...
