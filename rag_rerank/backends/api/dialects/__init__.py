"""The dialects of rerank servers and providers, one row each: how a request looks, and where its answer has what.

The facts come from the servers themselves (Infinity 0.0.78 and vLLM 0.32.0, run with a small model), from source code
(TEI 1.9.3, llama.cpp, LiteLLM 1.110.2), from the providers' SDKs (Mixedbread 0.54.0, OpenRouter 1.3.84, ZeroEntropy
0.1.0a11, Contextual 0.11.0, Pinecone 10.2.0, Together 3.1.1, Google discoveryengine 0.20.5), and from the vendors'
documentation. None of these confirms a fact that a comment marks with [?]. No live service was called.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, cast

from rag_rerank.backends.api.dialects.clouds import CLOUDS
from rag_rerank.backends.api.dialects.dialect import Dialect, Refusal
from rag_rerank.backends.api.dialects.gateways import GATEWAYS
from rag_rerank.backends.api.dialects.providers import PROVIDERS
from rag_rerank.backends.api.dialects.servers import SERVERS

__all__ = ["DIALECTS", "Dialect", "Name", "Refusal"]

Name = Literal[
    "cloudflare",
    "cohere",
    "contextual",
    "dashscope",
    "deepinfra",
    "fireworks",
    "google",
    "infinity",
    "jina",
    "llamacpp",
    "mixedbread",
    "nim",
    "novita",
    "openrouter",
    "opper",
    "pinecone",
    "prime",
    "scaleway",
    "sglang",
    "siliconflow",
    "tei",
    "together",
    "vercel",
    "vllm",
    "watsonx",
    "zeroentropy",
]

DIALECTS: Mapping[Name, Dialect] = MappingProxyType(
    cast("dict[Name, Dialect]", dict(sorted({**CLOUDS, **GATEWAYS, **PROVIDERS, **SERVERS}.items())))
)
"""Dialect -> its row. The registry takes its names for providers and servers from here."""
