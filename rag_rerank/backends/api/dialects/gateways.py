"""The dialects of gateways, which pass a request on to a provider of their choice."""

from __future__ import annotations

from collections.abc import Mapping

from rag_rerank.backends.api.dialects.dialect import Dialect

__all__ = ["GATEWAYS"]

GATEWAYS: Mapping[str, Dialect] = {
    # Cohere's v2 API elsewhere: Azure AI Foundry, LiteLLM, vLLM. LiteLLM passes on what the server behind it counts,
    # and has put tokens in the place of search units.
    "cohere": Dialect(title="the gateway", path="/v2/rerank", example_url="http://gateway:4000"),
    # It may answer with another model than the one that was asked for. An answer names what was billed, in credits,
    # which are US dollars, and repeats the texts.
    "openrouter": Dialect(
        title="OpenRouter",
        path="/rerank",
        units=("usage.search_units",),
        cost="usage.cost",
        default_url="https://openrouter.ai/api/v1",
        hosts=("openrouter.ai",),
        keys=("OPENROUTER_API_KEY",),
    ),
    # A bare model name stands for a pool; the answer names the endpoint that served it. Tokens are 0 where that
    # endpoint does not report them.
    "opper": Dialect(
        title="Opper",
        path="/v3/rerank",
        options={"return_documents": False},
        default_url="https://api.opper.ai",
        hosts=("opper.ai",),
        keys=("OPPER_API_KEY",),
    ),
    # Cohere's v1 and v2 API. The variable for the key is [?].
    "vercel": Dialect(
        title="Vercel's AI Gateway",
        path="/v2/rerank",
        default_url="https://ai-gateway.vercel.sh",
        hosts=("ai-gateway.vercel.sh",),
        keys=("AI_GATEWAY_API_KEY",),
    ),
}
"""Dialect -> its row, for gateways."""
