"""Whether two names mean the same model."""

from __future__ import annotations

import pytest

from rag_rerank.backends.api.model_names import is_same_model

SAME = [
    ("tiny", "Tiny "),
    ("rerank-v3.5", "cohere/rerank-v3.5"),
    ("rerank-v3.5", "rerank-v3.5-2024-12-02"),
    ("rerank-v3.5", "cohere.rerank-v3-5:0"),
    ("Cohere-rerank-v4.0-pro", "cohere/rerank-v4.0-pro"),
    ("qwen3-reranker-0.6b", "qwen3-reranker-0.6b-20250601"),
    ("jev-latest", "jev-1.14.0"),
    ("BAAI/bge-reranker-v2-m3", "bge-reranker-v2-m3"),
    ("BAAI/bge-reranker-v2-m3", "hosted_vllm/BAAI/bge-reranker-v2-m3"),
    ("BAAI/bge-reranker-v2-m3", "BAAI/bge-reranker-v2-m3@953dc6f"),
    ("BAAI/bge-reranker-v2-m3", "/models/bge-reranker-v2-m3/"),
    ("BAAI/bge-reranker-v2-m3", "C:\\models\\bge-reranker-v2-m3"),
    ("BAAI/bge-reranker-v2-m3", "/srv/hub/models--BAAI--bge-reranker-v2-m3/snapshots/953dc6f"),
    ("bge-reranker-v2-m3", "/m/bge-reranker-v2-m3-Q4_K_M.gguf"),
    ("bge-reranker-v2-m3", "bge-reranker-v2-m3-f16.gguf"),
    ("ggml-org/Qwen3-Reranker-0.6B-Q8_0-GGUF", "Qwen3-Reranker-0.6B-Q8_0-GGUF"),
    ("./small", "/srv/small"),
    ("~typesafe/jev-latest", "typesafe/jev-1.14.0"),
    ("~typesafe/jev-latest", "jev-1.13.0"),
    ("fireworks/qwen3-reranker-8b", "accounts/fireworks/models/qwen3-reranker-8b"),
    ("semantic-ranker-default@latest", "publishers/google/models/semantic-ranker-default"),
    ("cohere/rerank-v3.5", "cohere/rerank-v3.5-20241202"),
    ("nvidia/nemotron-3.5-rerank-8b:free", "nvidia/nemotron-3.5-rerank-8b"),
    ("qwen/qwen3-reranker-8b", "Qwen/Qwen3-Reranker-8B"),
    ("BAAI/bge-reranker-v2-m3", "Pro/BAAI/bge-reranker-v2-m3"),
    ("bge-reranker-v2-m3", "berget/bge-reranker-v2-m3"),
    ("rerank-v3.5", "aws/cohere/rerank-v3.5"),
    ("cohere-rerank-3.5", "cohere/rerank-v3.5"),
    ("@cf/baai/bge-reranker-base", "@cf/baai/bge-reranker-base"),
    ("cohere.rerank-v3-5:0", "arn:aws:bedrock:us-west-2::foundation-model/cohere.rerank-v3-5:0"),
    ("Salesforce/Llama-Rank-v1", "Salesforce/Llama-Rank-V1"),
]
OTHER = [
    ("rerank-2", "rerank-2.5"),
    ("rerank-2.5", "rerank-2.5-lite"),
    ("rerank-v3.5", "rerank-v4.0-fast"),
    ("rerank-v3.5", "rerank-v3"),
    ("rerank-english-v3.0", "rerank-multilingual-v3.0"),
    ("model-v1", "model-v2"),
    ("zerank-1", "zerank-1-small"),
    ("bge-reranker-base", "bge-reranker-large"),
    ("BAAI/bge-reranker-base", "me/bge-reranker-base"),
    ("ms-marco-MiniLM-L6-v2", "ms-marco-MiniLM-L12-v2"),
    ("Qwen/Qwen3-Reranker-0.6B", "Qwen/Qwen3-Reranker-4B"),
    ("m", "/data/other"),
    ("BAAI/bge-reranker-base", "/srv/hub/models--me--bge-reranker-base/snapshots/953dc6f"),
    ("tiny", "default/not-specified"),
    ("pinecone-rerank-v0", "bge-reranker-v2-m3"),
    ("cohere-rerank-3.5", "cohere-rerank-v4.0-fast"),
    ("@cf/baai/bge-reranker-base", "@cf/baai/bge-reranker-large"),
    ("fireworks/qwen3-reranker-8b", "accounts/fireworks/models/qwen3-reranker-4b"),
    ("fireworks/qwen3-reranker-8b", "accounts/mine/models/qwen3-reranker-8b"),
    ("ctxl-rerank-v2-instruct-multilingual", "ctxl-rerank-v2-instruct-multilingual-mini"),
]


@pytest.mark.parametrize(("name", "other"), [*SAME, *((b, a) for a, b in SAME), *((a, a) for a, _ in SAME + OTHER)])
def test_spellings_of_one_model(name: str, other: str) -> None:
    assert is_same_model(name, other)


@pytest.mark.parametrize(("name", "other"), [*OTHER, *((b, a) for a, b in OTHER)])
def test_two_models(name: str, other: str) -> None:
    assert not is_same_model(name, other)


@pytest.mark.parametrize("name", ["", "/", "@", ".", "//", "a@", ":", ".gguf", "models--", "a/b/", "\\", "-latest"])
def test_any_name_can_be_compared(name: str) -> None:
    assert is_same_model(name, name)
    assert not is_same_model(name, "bge-reranker-base")
