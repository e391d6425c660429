"""The rerank models of Amazon Bedrock, through a client of boto3."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from rag_rerank._lazy import forget, load_once, need
from rag_rerank.backends.api.base import ApiReranker
from rag_rerank.backends.api.breaker import Breaker
from rag_rerank.backends.api.exchange import Exchange, Reply, as_number, get_field, read_rows
from rag_rerank.backends.api.limiter import Limits
from rag_rerank.backends.api.pricing import Price, pair_tokens, search_units
from rag_rerank.backends.api.retry import RetryPolicy
from rag_rerank.errors import BackendError, ConfigError, RateLimited
from rag_rerank.execution.deadline import arun_in_thread
from rag_rerank.execution.http_clients import make_client
from rag_rerank.trace import Usage

__all__ = ["BedrockReranker", "Breaker", "Limits", "Price", "RetryPolicy"]

_SERVICE = "bedrock-agent-runtime"
_THROTTLED = ("ThrottlingException", "TooManyRequestsException")
_TIMEOUTS = ("ConnectTimeoutError", "ReadTimeoutError")
_CONNECTION_ERRORS = ("ConnectionClosedError", "EndpointConnectionError", "ProxyConnectionError", "SSLError")
_CREDENTIAL_ERRORS = ("NoCredentialsError", "NoRegionError", "PartialCredentialsError", "TokenRetrievalError")


@dataclass(frozen=True, kw_only=True)
class BedrockReranker(ApiReranker):
    """A rerank model of Amazon Bedrock, called by its Rerank API.

    Scores are the model's relevance, 0 to 1. An answer names no cost and no tokens, so ``usage`` has our estimate of
    search units: Bedrock bills a query with up to 100 texts as one, and splits long texts.

    AWS signs requests with its own credentials, which boto3 finds where it always does (environment, profile, role of
    the machine), so there is no ``api_key``. boto3's own retries are off. It has no async client: ``arerank`` calls it
    on a worker thread. All texts of a request are ranked, so none is lost by a cutoff at the server.

    Args:
        model: The model's id, ``cohere.rerank-v3-5:0`` or ``amazon.rerank-v1:0``, or its full ARN.
        region: The AWS region, such as ``us-west-2``. By default that of boto3's settings. Not every region has every
            model.
        base_url: The address of another endpoint, such as one inside your network (VPC). By default AWS's own.
        client: A client of boto3 for ``bedrock-agent-runtime`` to use instead of a new one. It must not retry by
            itself: make it with ``Config(retries={"total_max_attempts": 1})``. Its region is used for the ARN.

    Raises:
        ConfigError: Also for an ``api_key``, an ``async_client``, or a client that retries.
    """

    kind: ClassVar[str] = "bedrock"
    key_variables: ClassVar[tuple[str, ...]] = ()
    most_texts: ClassVar[int] = 1_000

    model: str = "cohere.rerank-v3-5:0"
    region: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.api_key is not None:
            raise ConfigError("AWS takes no key here; give boto3 your credentials, or a client", path="api_key")
        if self.async_client is not None:
            raise ConfigError("boto3 has no async client; give client, which runs on a thread", path="async_client")
        if self.client is not None and self.region is not None:
            raise ConfigError("an injected client has its own region; leave region out", path="region")
        if _retries(self.client):
            raise ConfigError(
                "the client retries by itself, and so does this reranker; make the client with "
                'Config(retries={"total_max_attempts": 1})',
                path="client",
            )

    def key(self) -> str:
        """Return nothing: requests are signed by boto3, which holds the credentials."""
        return ""

    def warm_up(self) -> None:
        """Import boto3 and make the client; nothing is sent."""
        if self.client is None:
            _ = self._client

    def close(self) -> None:
        """Close the client, unless it was injected."""
        if client := forget(self, "_client"):
            client.close()

    def _host(self) -> str | None:
        return self.base_url

    @property
    def endpoint(self) -> str:
        """The URL that requests are sent to.

        Raises:
            ConfigError: No region is known.
            MissingExtraError: boto3 is not installed.
        """
        client = self._client if self.client is None else self.client
        return f"{client.meta.endpoint_url}/rerank"

    def _identity_facts(self) -> Mapping[str, Any]:
        return {"base_url": self.base_url}

    @load_once
    def _client(self) -> Any:
        return make_client(self._new_client, self.label)

    def _new_client(self) -> Any:
        config = need("botocore.config", extra="bedrock").Config(
            connect_timeout=self.timeout, read_timeout=self.timeout, retries={"total_max_attempts": 1}
        )
        boto3, errors = need("boto3", extra="bedrock"), need("botocore.exceptions", extra="bedrock")
        try:
            return boto3.client(_SERVICE, region_name=self.region, endpoint_url=self.base_url, config=config)
        except errors.NoRegionError:
            raise ConfigError(
                f"{self.label} needs a region: set AWS_DEFAULT_REGION, or give region", path="region"
            ) from None

    def _send(self, exchange: Exchange, timeout: float) -> Reply:
        client = self._client if self.client is None else self.client
        request = _request(exchange, self._arn(client))
        return _read_reply(exchange, exchange.call_sdk(client.rerank, _translate_error, **request))

    async def _asend(self, exchange: Exchange, timeout: float) -> Reply:
        return await arun_in_thread(partial(self._send, exchange, timeout))

    def _arn(self, client: Any) -> str:
        """Return the model's ARN, in the region of the client."""
        if self.model.startswith("arn:"):
            return self.model
        region = getattr(getattr(client, "meta", None), "region_name", None) or self.region
        if not region:
            raise ConfigError(f"{self.label} needs a region, or the full ARN of the model", path="region")
        partition = getattr(getattr(client, "meta", None), "partition", None) or "aws"
        return f"arn:{partition}:bedrock:{region}::foundation-model/{self.model}"


def _retries(client: Any) -> bool:
    """Whether a client of boto3 sends a failed request again, which it does unless it is told not to."""
    config = getattr(getattr(client, "meta", None), "config", None)
    if config is None:
        return False  # not boto3's: a double in a test, or a wrapper
    retries = getattr(config, "retries", None) or {}  # botocore turns max_attempts into total_max_attempts
    return bool(retries.get("total_max_attempts") != 1)


def _request(exchange: Exchange, arn: str) -> dict[str, Any]:
    """Return the arguments of boto3's ``rerank``; ``numberOfResults`` above the number of sources is an error."""
    sources = [
        {"type": "INLINE", "inlineDocumentSource": {"type": "TEXT", "textDocument": {"text": text}}}
        for text in exchange.texts
    ]
    ranking = {"numberOfResults": len(exchange.texts), "modelConfiguration": {"modelArn": arn}}
    return {
        "queries": [{"type": "TEXT", "textQuery": {"text": exchange.query}}],
        "sources": sources,
        "rerankingConfiguration": {
            "type": "BEDROCK_RERANKING_MODEL",
            "bedrockRerankingConfiguration": ranking,
        },
    }


def _read_reply(exchange: Exchange, answer: Any) -> Reply:
    units = float(search_units(pair_tokens(exchange.query, exchange.texts)))
    return Reply(
        rows=read_rows(get_field(answer, "results", None), get_field, "relevanceScore"),
        usage=Usage(search_units=units, estimated=("search_units",)),
    )


def _translate_error(exchange: Exchange, error: Exception) -> BackendError:
    """Translate an error of botocore by its name and its fields: a client may be of another installation."""
    names = {kind.__name__ for kind in type(error).__mro__}
    if names & set(_TIMEOUTS):
        return exchange.timeout_error(is_sent="ReadTimeoutError" in names)
    if names & set(_CONNECTION_ERRORS):
        return exchange.connection_error(error)
    if names & set(_CREDENTIAL_ERRORS):
        return exchange.http_error(401, {}, str(error), advice="boto3 found no credentials or no region for AWS")
    answer = getattr(error, "response", None)
    if not isinstance(answer, Mapping):
        return exchange.sdk_error(error)
    details, meta = get_field(answer, "Error", None), get_field(answer, "ResponseMetadata", None)
    code, status = get_field(details, "Code", None), as_number(get_field(meta, "HTTPStatusCode", None))
    headers = get_field(meta, "HTTPHeaders", None)
    return exchange.http_error(
        None if status is None else int(status),
        headers if isinstance(headers, Mapping) else {},
        {"message": f"{code}: {get_field(details, 'Message', None)}"},
        kind=RateLimited if code in _THROTTLED else None,
    )
