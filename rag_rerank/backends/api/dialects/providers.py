"""The dialects of providers that run models and need no more than a key."""

from __future__ import annotations

from collections.abc import Mapping

from rag_rerank.backends.api.dialects.dialect import Dialect, Refusal
from rag_rerank.errors import AuthenticationError, BackendUnavailable, BillingError, RateLimited

__all__ = ["PROVIDERS"]

_NO_TEXTS = {"return_documents": False}
"""Spares an answer that repeats the texts."""

PROVIDERS: Mapping[str, Dialect] = {
    # The combined length of query, instruction and one text is at most 8,000 tokens, and longer ones are refused [?].
    # Scores are cut to eight decimals. A request may have 400,000 tokens.
    "contextual": Dialect(
        title="Contextual AI",
        path="/rerank",
        instruction="instruction",
        most_tokens=400_000,
        cuts=False,
        default_url="https://api.contextual.ai/v1",
        hosts=("contextual.ai",),
        keys=("CONTEXTUAL_API_KEY",),
    ),
    # The workspace of an international account is part of its host: https://WORKSPACE.ap-southeast-1.maas.aliyuncs.com.
    # The path is /compatible-api/v1/reranks; /compatible-mode/v1/reranks leads nowhere. An error can come with status
    # 200. Its codes are in the refusals by their beginning. [?]: the field of the instruction.
    "dashscope": Dialect(
        title="DashScope",
        path="/reranks",
        instruction="instruct",
        options=_NO_TEXTS,
        error="code",
        default_url="https://dashscope.aliyuncs.com/compatible-api/v1",
        hosts=("dashscope.aliyuncs.com", "dashscope-intl.aliyuncs.com", "maas.aliyuncs.com"),
        keys=("DASHSCOPE_API_KEY",),
        refusals=(
            Refusal(status=200, words="throttling", kind=RateLimited),
            Refusal(status=200, words="invalidapikey", kind=AuthenticationError),
            Refusal(status=200, words="accessdenied", kind=AuthenticationError),
            Refusal(status=200, words="arrearage", kind=BillingError),
            Refusal(status=200, words="internalerror", kind=BackendUnavailable),
        ),
    ),
    # The queries are as many as the texts. The scores stand alone, in the order of the texts.
    "deepinfra": Dialect(
        title="DeepInfra",
        path="/v1/inference/{model}",
        query="queries",
        repeats_query=True,
        instruction="instruction",
        rows="scores",
        score=None,
        tokens=("input_tokens", "inference_status.tokens_input"),
        cost="inference_status.cost",
        default_url="https://api.deepinfra.com",
        hosts=("deepinfra.com",),
        keys=("DEEPINFRA_API_KEY", "DEEPINFRA_TOKEN"),
    ),
    # An answer names accounts/fireworks/models/NAME where fireworks/NAME was asked for.
    "fireworks": Dialect(
        title="Fireworks",
        path="/inference/v1/rerank",
        options=_NO_TEXTS,
        rows="data",
        default_url="https://api.fireworks.ai",
        hosts=("fireworks.ai",),
        keys=("FIREWORKS_API_KEY", "FIREWORKS_AI_API_KEY"),
    ),
    # Jina says that its model v3 gives cosines and reads the texts of a request together. [?]: that its API sends
    # the cosines unchanged, that v1 and v2 score within 0..1, and the most texts in a request.
    "jina": Dialect(
        title="Jina",
        path="/rerank",
        options=_NO_TEXTS,
        cosine="jina-reranker-v3",
        cut_field="truncation",
        default_url="https://api.jina.ai/v1",
        hosts=("jina.ai",),
        keys=("JINA_API_KEY",),
        refusals=(Refusal(status=403, words="insufficient_balance", kind=BillingError),),
    ),
    # The base URL and the most texts in a request are [?]. Long texts are cut, by the API reference.
    "mixedbread": Dialect(
        title="Mixedbread",
        path="/v1/reranking",
        texts="input",
        options={"return_input": False},
        rows="data",
        score="score",
        default_url="https://api.mixedbread.com",
        hosts=("mixedbread.com", "mixedbread.ai"),
        keys=("MXBAI_API_KEY",),
    ),
    "novita": Dialect(
        title="Novita",
        path="/rerank",
        default_url="https://api.novita.ai/openai/v1",
        hosts=("novita.ai",),
        keys=("NOVITA_API_KEY",),
    ),
    # The version is that of the SDK. Pinecone may answer with another model, and names it. The most texts in a request
    # are [?]: 100 is the number for bge-reranker-v2-m3, and the smallest of its models. A rerank unit is a search unit.
    "pinecone": Dialect(
        title="Pinecone",
        path="/rerank",
        key_header="api-key",
        key_prefix="",
        headers={"x-pinecone-api-version": "2026-07"},
        text="text",
        options={"rank_fields": ["text"], **_NO_TEXTS},
        rows="data",
        score="score",
        most_texts=100,
        units=("usage.rerank_units",),
        default_url="https://api.pinecone.io",
        hosts=("pinecone.io",),
        keys=("PINECONE_API_KEY",),
    ),
    # Texts that are too long are refused. Rows come in the order of the logits, which are not sent; the scores of two
    # texts can both be 1. The header names the team that pays. [?]: return_documents.
    "prime": Dialect(
        title="Prime Inference",
        path="/rerank",
        headers={"x-prime-team-id": "{project}"},
        instruction="instruction",
        options=_NO_TEXTS,
        cuts=False,
        default_url="https://api.pinference.ai/api/v1",
        hosts=("pinference.ai",),
        keys=("PRIME_API_KEY",),
    ),
    "scaleway": Dialect(
        title="Scaleway",
        path="/rerank",
        default_url="https://api.scaleway.ai/v1",
        hosts=("scaleway.ai",),
        keys=("SCW_SECRET_KEY",),
    ),
    # Its Qwen3 models take an instruction [?]; long texts are cut into chunks, of which the best counts, where the
    # request asks for it (max_chunks_per_doc).
    "siliconflow": Dialect(
        title="SiliconFlow",
        path="/rerank",
        instruction="instruction",
        options=_NO_TEXTS,
        default_url="https://api.siliconflow.cn/v1",
        hosts=("siliconflow.cn", "siliconflow.com"),
        keys=("SILICONFLOW_API_KEY",),
    ),
    "together": Dialect(
        title="Together",
        path="/v1/rerank",
        options=_NO_TEXTS,
        default_url="https://api.together.ai",
        hosts=("together.ai", "together.xyz"),
        keys=("TOGETHER_API_KEY",),
    ),
    # 2,500,000 bytes a minute are answered within a second; beyond that, requests take 2 to 20 seconds, unless latency
    # is "fast" (then 429). So no request is larger than that.
    "zeroentropy": Dialect(
        title="ZeroEntropy",
        path="/models/rerank",
        most_bytes=2_500_000,
        tokens=("total_tokens",),
        default_url="https://api.zeroentropy.dev/v1",
        hosts=("zeroentropy.dev",),
        keys=("ZEROENTROPY_API_KEY",),
    ),
}
"""Dialect -> its row, for providers that need no more than a key."""
