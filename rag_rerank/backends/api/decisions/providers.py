"""Who serves decision models, one row each: the address, the wire format, the key, and how much a request may hold.

No live service was called. The facts are from the packages typesafe-sdk 0.7.5, openai 3.57.0, openrouter 1.3.84,
litellm 1.110.2 and clef-compactor 0.2.1, and from the vendors' documentation as of November 2026. None of these
confirms a fact that a comment marks with [?].
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal
from urllib.parse import urlsplit

from rag_rerank.errors import ConfigError

__all__ = ["PROVIDERS", "SERVERS", "DecisionProvider", "ProviderName", "WireName", "find_provider", "join_url"]

ProviderName = Literal[
    "azure",
    "cloudflare",
    "fireworks",
    "laya",
    "lmstudio",
    "ollama",
    "openai",
    "openrouter",
    "perplexity",
    "typesafe",
    "vllm",
]
WireName = Literal["openai", "systemone"]


@dataclass(frozen=True, kw_only=True, slots=True)
class DecisionProvider:
    """One provider of decision models, or one kind of server.

    Args:
        name: Its name in a config; empty for a server that is none of the providers.
        title: Its name in messages.
        wire: The format of its requests and answers.
        path: The path behind the base URL; ``{model}`` in it is the model.
        default_url: Its own base URL; ``None`` where each account or server has another one.
        example_url: What a base URL looks like, for the message where it is needed.
        default_model: The model that is asked where none is named.
        hosts: Its own hosts, with all their subdomains. They need a key; other servers need none, and never get one
            from the environment.
        keys: Environment variables with the key for its own hosts.
        key_header: The header of the key, where it is not a bearer token.
        most_questions: Questions in one request at most.
        state_tokens: Tokens of the state and the longest question together at most.
        request_tokens: Tokens of the state and all questions together at most.
        envelope: Field that holds the answer, beside ``success`` and ``errors``.
        request_id: Header with the id of a request.
        names_deployment: Whether the model in a request is a name that the user gave it, so that the answered one
            cannot be compared with it.
        is_word: Whether its name alone names a reranker, since no other type has a provider of that name.
    """

    name: ProviderName | Literal[""] = ""
    title: str
    wire: WireName = "systemone"
    path: str = "/v1/systemone"
    default_url: str | None = None
    example_url: str = "http://gpu-box:8000"
    default_model: str = ""
    hosts: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    key_header: str | None = None
    most_questions: int = 1_000
    state_tokens: int = 8_192
    request_tokens: int = 8_192
    envelope: str | None = None
    request_id: str = "x-request-id"
    names_deployment: bool = False
    is_word: bool = False

    def is_own_host(self, url: str) -> bool:
        """Whether a base URL is the provider's own, and not a server of the user's."""
        host = (urlsplit(url).hostname or "").rstrip(".")
        return any(host == name or host.endswith(f".{name}") for name in self.hosts)

    def headers_with(self, key: str) -> dict[str, str]:
        """Return the headers of a request with a key; nothing without one."""
        if not key:
            return {}
        return {"authorization": f"Bearer {key}"} if self.key_header is None else {self.key_header: key}

    def check_settings(self, wire: WireName | None, base_url: str | None) -> None:
        """Raise a `ConfigError` for another wire format than its own, or where it needs a base URL and has none."""
        if wire not in (None, self.wire):
            raise ConfigError(
                f"{self.title} has the wire format {self.wire!r}; leave wire out, or, for your own server, provider",
                path="wire",
            )
        if base_url is None and self.default_url is None:
            raise ConfigError(
                f"provider {self.name!r} needs base_url, where your server or account is: {self.example_url}",
                path="base_url",
            )


SERVERS: Mapping[WireName, DecisionProvider] = MappingProxyType(
    {
        "openai": DecisionProvider(title="the server", wire="openai", path="/v1/decisions", most_questions=400),
        "systemone": DecisionProvider(title="the server"),
    }
)
"""What is assumed of a server that is none of the providers; its window is a guess, which ``state_tokens`` replaces."""

PROVIDERS: Mapping[ProviderName, DecisionProvider] = MappingProxyType(
    {
        # The model in a request is the name of the deployment. The window is that of Microsoft-Decision-1.
        "azure": DecisionProvider(
            name="azure",
            title="Azure",
            path="/providers/microsoft/v1/systemone",
            example_url="https://RESOURCE.services.ai.azure.com",
            hosts=("services.ai.azure.com",),
            keys=("AZURE_AI_API_KEY",),
            key_header="api-key",
            state_tokens=32_768,
            request_tokens=32_768,
            names_deployment=True,
        ),
        "cloudflare": DecisionProvider(
            name="cloudflare",
            title="Cloudflare",
            path="/ai/run/@cf/cloudflare/{model}",
            example_url="https://api.cloudflare.com/client/v4/accounts/${CLOUDFLARE_ACCOUNT_ID}",
            default_model="clef",
            hosts=("api.cloudflare.com",),
            keys=("CLOUDFLARE_API_TOKEN", "CLOUDFLARE_API_KEY"),
            most_questions=64,
            state_tokens=64_000,
            request_tokens=64_000,
            envelope="result",
            request_id="cf-ray",
        ),
        "fireworks": DecisionProvider(
            name="fireworks",
            title="Fireworks",
            default_url="https://api.fireworks.ai/inference",
            default_model="accounts/fireworks/models/rune",
            hosts=("fireworks.ai",),
            keys=("FIREWORKS_API_KEY",),
            state_tokens=262_144,
            request_tokens=262_144,
        ),
        # The smallest of its models reads 512 tokens, the multilingual one 1,024 to 8,192.
        "laya": DecisionProvider(
            name="laya", title="Laya", keys=("LAYA_API_KEY",), state_tokens=512, request_tokens=512, is_word=True
        ),
        "lmstudio": DecisionProvider(name="lmstudio", title="LM Studio", keys=("LM_STUDIO_API_KEY",), is_word=True),
        # The window is that of nimble. Ollama's own cloud, and nothing else, needs a key.
        "ollama": DecisionProvider(
            name="ollama",
            title="Ollama",
            default_url="http://localhost:11434",
            default_model="nimble",
            hosts=("ollama.com",),
            keys=("OLLAMA_API_KEY",),
            is_word=True,
        ),
        "openai": DecisionProvider(
            name="openai",
            title="OpenAI",
            wire="openai",
            path="/v1/decisions",
            default_url="https://api.openai.com",
            default_model="gpt-6-luna",
            hosts=("api.openai.com",),
            keys=("OPENAI_API_KEY",),
            most_questions=400,
            state_tokens=922_000,
            request_tokens=922_000,
        ),
        # The limits are those of the models behind it: Jev's tokens, and GPT-6 Luna's 200 questions.
        "openrouter": DecisionProvider(
            name="openrouter",
            title="OpenRouter",
            path="/api/alpha/decisions",
            default_url="https://openrouter.ai",
            default_model="~typesafe/jev-latest",
            hosts=("openrouter.ai",),
            keys=("OPENROUTER_API_KEY",),
            most_questions=200,
            state_tokens=32_768,
            request_tokens=65_536,
        ),
        "perplexity": DecisionProvider(
            name="perplexity",
            title="Perplexity",
            path="/v1/decisions",
            default_url="https://api.perplexity.ai",
            default_model="pplx-decider-latest",
            hosts=("perplexity.ai",),
            keys=("PERPLEXITY_API_KEY", "PERPLEXITYAI_API_KEY"),
            state_tokens=262_144,
            request_tokens=262_144,
        ),
        # A header raises the limits to 262,144 tokens; it is not sent. [?]: the most questions in a request.
        "typesafe": DecisionProvider(
            name="typesafe",
            title="TypeSafe",
            default_url="https://api.typesafe.ai",
            default_model="jev-latest",
            hosts=("typesafe.ai",),
            keys=("TYPESAFE_API_KEY",),
            state_tokens=32_768,
            request_tokens=65_536,
            request_id="x-typesafe-request-id",
            is_word=True,
        ),
        "vllm": DecisionProvider(name="vllm", title="vLLM", keys=("HOSTED_VLLM_API_KEY",)),
    }
)


def find_provider(name: ProviderName | None, wire: WireName | None, base_url: str | None) -> DecisionProvider:
    """Return the provider with this name, or the one whose host a base URL has; else what is assumed of a server.

    Args:
        name: The name.
        wire: The wire format, where no name is given; by default System One.
        base_url: The base URL. Without name and base URL, it is TypeSafe, or OpenAI for its wire format.
    """
    if name is not None:
        return PROVIDERS[name]
    wire = wire or "systemone"
    if base_url is None:
        return PROVIDERS["openai" if wire == "openai" else "typesafe"]
    rows = (row for row in PROVIDERS.values() if row.wire == wire and row.is_own_host(base_url))
    return next(rows, SERVERS[wire])


def join_url(base_url: str, path: str) -> str:
    """Return the URL of a path; what the base URL ends with and the path begins with counts once, such as ``/v1``."""
    folders, base_path = path.split("/"), urlsplit(base_url).path
    for count in range(len(folders) - 1, 1, -1):
        beginning = "/".join(folders[:count])
        if base_path.endswith(beginning):
            return base_url + path.removeprefix(beginning)
    return base_url + path
