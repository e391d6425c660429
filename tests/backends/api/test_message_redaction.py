"""Messages of providers: no key survives, and names of errors, models and options do."""

from __future__ import annotations

import builtins
import json
import random
import string
from urllib.parse import quote

import pytest

import rag_rerank
from rag_rerank.backends.api.message_redaction import redacted_message

NAMES = [
    "ContextWindowExceededError",
    "litellm.ContextWindowExceededError",
    "UnprocessableEntityError",
    "ServiceUnavailableError",
    "HostedVllmException",
    "ModelNotDeployedError",
    "InternalServerErrorException",
    "RepositoryNotFoundError",
    "org.springframework.web.client.HttpClientErrorException",
    "AutoModelForSequenceClassification",
    "XLMRobertaForSequenceClassification",
    "Qwen3ForSequenceClassification",
    "DebertaV2ForSequenceClassification",
    "exceed_context_size_error",
    "truncate_prompt_tokens",
    "--max-num-batched-tokens",
    "max_client_batch_size",
    "INPUT_MODEL_NOT_FOUND",
    "AUTHZ_INSUFFICIENT_BALANCE",
    "RATE_CONCURRENCY_LIMIT_EXCEEDED",
    "VLLM_CPU_OMP_THREADS_BIND",
    "jina-reranker-v2-base-multilingual",
    "rerank-multilingual-v3.0",
    "mixedbread-ai/mxbai-rerank-large-v2",
    "cross-encoder/ms-marco-MiniLM-L12-v2",
    "nvidia/llama-nemotron-rerank-1b-v2",
    "models--BAAI--bge-reranker-v2-m3",
    "ggml-org/Qwen3-Reranker-0.6B-Q8_0-GGUF",
    "bge-reranker-v2-m3-Q4_K_M.gguf",
    "cohere.rerank-v3-5:0",
    "http://127.0.0.1:8000/v1/rerank",
    "2026-11-30T14:12:10.123Z",
    "gte-multilingual-reranker-base",
]
ALPHABETS = {
    "letters and digits": string.ascii_letters + string.digits,
    "hexadecimal": "0123456789abcdef",
    "base64": string.ascii_letters + string.digits + "+/",
    "base64 for URLs": string.ascii_letters + string.digits + "-_",
    "small letters and digits": string.ascii_lowercase + string.digits,
    "capitals and digits": string.ascii_uppercase + string.digits,
}
PLACES = ("{}", "invalid api key {}", "key={}&x=1", "'{}' is wrong", "Bearer {}", "a,{},b", "x" * 190 + " {}")


@pytest.mark.parametrize("name", [*NAMES, *rag_rerank.errors.__all__, *dir(builtins)])
def test_names_are_shown(name: str) -> None:
    assert redacted_message(f"failed: {name}, sorry", "kEy-7f3aQz0Lw9", ()) == f"failed: {name}, sorry"


@pytest.mark.parametrize("alphabet", ALPHABETS)
def test_no_key_that_was_sent_survives(alphabet: str) -> None:
    source = random.Random(alphabet)
    for _ in range(300):
        key = "".join(source.choices(ALPHABETS[alphabet], k=source.randint(8, 64)))
        for place in PLACES:
            for spelling in (key, key.upper(), key.lower(), quote(key, safe=""), json.dumps(key)[1:-1]):
                text = redacted_message(place.format(spelling), key, ())
                assert key.lower() not in text.lower()
                assert quote(key, safe="") not in text


@pytest.mark.parametrize("key", [*NAMES, "correct-horse-battery-staple", "S3cret+/=$(x)", "k.*y[0]\\d"])
def test_a_key_that_looks_like_a_name_or_a_pattern_is_masked(key: str) -> None:
    for place in PLACES:
        assert key not in redacted_message(place.format(key), key, ())


@pytest.mark.parametrize("alphabet", ALPHABETS)
def test_keys_of_others_are_masked_by_their_looks(alphabet: str) -> None:
    source = random.Random(alphabet)
    for _ in range(300):
        key = "".join(source.choices(ALPHABETS[alphabet], k=48))
        assert key not in redacted_message(f"the server behind says {key} is wrong", "", ())


@pytest.mark.parametrize(
    "words",
    [
        "Incorrect API key provided: sk-abc",
        "api_key=hunter2",
        "password: hunter2",
        "Authorization: Basic dXNlcjpwYXNz",
        "with sk-proj-abcdefghijklmnop",
        "with hf_abcdefghij",
        "with jina_1234abcd",
        "with AKIAIOSFODNN7EXAMPLE",
        "with eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc",
    ],
)
def test_what_is_called_a_key_or_begins_like_one_is_masked(words: str) -> None:
    assert redacted_message(words, "", ()).endswith("***")


def test_a_short_key_is_masked_as_a_word_alone() -> None:
    text = "BadRequestError: K may not send 513 input tokens (K)"
    assert redacted_message(text, "K", ()) == "BadRequestError: *** may not send 513 input tokens (***)"


@pytest.mark.parametrize(
    "words",
    [
        "no such key in the table: monkey business",
        "invalid token: token contains blocked text",
        "unexpected end at token: 512",
        "input_tokens=513 is more than max_tokens: 512",
    ],
)
def test_prose_about_keys_and_tokens_is_shown(words: str) -> None:
    assert redacted_message(words, "kEy-7f3aQz0Lw9", ()) == words
