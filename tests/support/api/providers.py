"""The services as the tests see them: how to make a reranker for a server, and what their requests look like."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Protocol, get_args

from support.api.rerank_server import RerankServer
from support.api.wire_formats import logit, relevance

from rag_rerank import Ranking, Reranker
from rag_rerank.backends.api.base import ApiReranker
from rag_rerank.backends.api.dialects import Name
from rag_rerank.backends.api.retry import RetryPolicy
from rag_rerank.backends.cohere import CohereReranker
from rag_rerank.backends.decisions import DecisionsReranker
from rag_rerank.backends.http import HttpReranker
from rag_rerank.backends.voyage import VoyageReranker

QUERY = "how should a bearded dragon be kept warm?"
TEXTS = (
    "Cranes migrate along the coast in autumn, in long chevrons.",
    "A bearded dragon needs a warm basking spot of about forty degrees.",
)
KEY = "kEy-7f3aQz0Lw9"


@dataclass(frozen=True)
class Provider:
    """One of the services.

    Args:
        kind: Name in the registry.
        path: Path of its requests.
        message_field: The field of an error's body that holds the message.
        make: Makes the reranker.
        url: Its base URL on a server.
        package: The package that it imports.
        dialect: Its dialect, where it has no SDK.
        names_tokens: Whether its answers name the tokens that were read.
        score: The score that it gives for a query and a text.
        most: Texts in one request.
        options: Further arguments of the reranker.
    """

    kind: str
    path: str
    message_field: str
    make: Callable[..., ApiReranker]
    url: Callable[[RerankServer], str]
    package: str
    dialect: str = ""
    names_tokens: bool = True
    score: Callable[[str, str], float] = relevance
    most: int = 1000
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """The beginning of its messages."""
        return f"{self.kind}:{self.dialect}" if self.dialect else self.kind

    def reranker(self, server: RerankServer, **options: Any) -> ApiReranker:
        """Return a reranker for a server, with three attempts and without jitter; the same one for the same options.

        One reranker is made for many requests, and Cohere's client takes 50 ms to make.
        """
        defaults: dict[str, Any] = {"api_key": KEY, "base_url": self.url(server), "retry": RetryPolicy(jitter=0)}
        return _make(self.make, tuple({**self.options, **defaults, **options}.items()))


COHERE = Provider(
    *("cohere", "/v2/rerank", "message", CohereReranker, lambda server: server.url, "cohere"), names_tokens=False
)
VOYAGE = Provider("voyage", "/v1/rerank", "detail", VoyageReranker, lambda server: server.voyage_url, "voyageai")
SDKS = (COHERE, VOYAGE)

_MESSAGE_FIELDS = {
    "cohere": "message",
    "infinity": "detail",
    "jina": "message",
    "mixedbread": "detail",
    "nim": "detail",
}
_LIMITS = {"google": 200, "infinity": 32, "nim": 512, "pinecone": 100, "tei": 32}
_LOGITS = ("infinity", "llamacpp", "nim", "tei", "watsonx")
_WITHOUT_TOKENS = ("cloudflare", "cohere", "contextual", "google", "pinecone", "sglang", "vercel")
_PROJECTS = ("cloudflare", "google", "watsonx")


def _provider_of(dialect: str) -> Provider:
    return Provider(
        kind="http",
        path=f"/{dialect}{_PATHS.get(dialect, '/rerank')}",
        message_field=_MESSAGE_FIELDS.get(dialect, "error"),
        make=HttpReranker,
        url=lambda server: server.base(dialect),
        package="httpx",
        dialect=dialect,
        names_tokens=dialect not in _WITHOUT_TOKENS,
        score=logit if dialect in _LOGITS else relevance,
        most=_LIMITS.get(dialect, 1000),
        options={"dialect": dialect, "model": "m", **({"project": PROJECT} if dialect in _PROJECTS else {})},
    )


PROJECT = "my-project"
_PATHS = {
    "cloudflare": f"/accounts/{PROJECT}/ai/run/m",
    "cohere": "/v2/rerank",
    "dashscope": "/reranks",
    "deepinfra": "/v1/inference/m",
    "fireworks": "/inference/v1/rerank",
    "google": f"/v1/projects/{PROJECT}/locations/global/rankingConfigs/default_ranking_config:rank",
    "mixedbread": "/v1/reranking",
    "nim": "/v1/ranking",
    "opper": "/v3/rerank",
    "sglang": "/v1/rerank",
    "together": "/v1/rerank",
    "vercel": "/v2/rerank",
    "vllm": "/v1/rerank",
    "watsonx": "/ml/v1/text/rerank?version=2024-03-13",
    "zeroentropy": "/models/rerank",
}
DIALECTS = {dialect: _provider_of(dialect) for dialect in get_args(Name)}
TEI = DIALECTS["tei"]


def _decisions_of(wire: str, path: str) -> Provider:
    return Provider(
        kind="decisions",
        path=f"/{wire}{path}",
        message_field="detail" if wire == "systemone" else "error",
        make=DecisionsReranker,
        url=lambda server: server.base(wire),
        package="httpx",
        most=400 if wire == "openai" else 1000,
        options={"wire": wire, "ask": "yesno", "model": "m", "state_tokens": 10_000_000},
    )


DECISIONS = {
    "systemone": _decisions_of("systemone", "/v1/systemone"),
    "openai": _decisions_of("openai", "/v1/decisions"),
}
"""Decision models in both wire formats, asked for yes or no, so that a score is the server's number."""


@cache
def _make(make: Callable[..., ApiReranker], options: tuple[tuple[str, Any], ...]) -> ApiReranker:
    return make(**dict(options))


class Ask(Protocol):
    """Ranks the two texts above, or others, by `rerank` or by `arerank`."""

    def __call__(self, reranker: Reranker, texts: Sequence[str] = TEXTS, query: str = QUERY) -> Ranking: ...
