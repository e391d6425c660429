"""The two providers as the tests see them: how to make a reranker for a server, and what their wire looks like."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

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

Ask = Callable[..., Ranking]


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
        """Make a reranker for a server, with three attempts and without jitter."""
        defaults: dict[str, Any] = {"api_key": KEY, "base_url": self.url(server), "retry": RetryPolicy(jitter=0)}
        return self.make(**{**defaults, **options})


COHERE = Provider("cohere", "/v2/rerank", "message", CohereReranker, lambda server: server.url)
VOYAGE = Provider("voyage", "/v1/rerank", "detail", VoyageReranker, lambda server: server.voyage_url)


def ask_in_thread(reranker: Reranker, texts: Sequence[str] = TEXTS, query: str = QUERY) -> Ranking:
    """Rank by `rerank`."""
    return reranker.rerank(query, texts)


def ask_in_loop(reranker: Reranker, texts: Sequence[str] = TEXTS, query: str = QUERY) -> Ranking:
    """Rank by `arerank` in an event loop of its own, without `aclose`."""
    return asyncio.run(reranker.arerank(query, texts))
