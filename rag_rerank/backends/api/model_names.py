"""Whether two names of a model mean the same one: what a request asks for, and what a server says it has."""

from __future__ import annotations

import re

__all__ = ["is_same_model"]

_CACHE_FOLDER = re.compile(r"(?:^|/)models--([^/]+)(?:/snapshots/[^/]*)?/*$")
"""A folder of the Hugging Face cache: ``models--org--name/snapshots/COMMIT``."""

_RESOURCE = re.compile(r"(?:^|/)(?:accounts|publishers)/([^/]+)/models/")
"""Where clouds keep a model: ``accounts/fireworks/models/qwen3-reranker-8b``, ``publishers/google/models/...``."""

_FOLDER = re.compile(r"^(?:[a-z]:)?/|^[.~]")
_FILE = re.compile(r"\.(?:gguf|onnx|safetensors|bin)$")
_BUILD = re.compile(r"-(?:gguf|onnx|ggml|i?q\d(?:-\w+)*|[bf]p?\d{1,2}|int[48]|awq|gptq)$")
"""What files with other weights of the same model add to its name: ``-Q8_0``, ``-f16``, ``-GGUF``."""

_PROVIDER = re.compile(r"^(?:amazon|azure|cohere|voyage)-")
_EDITION = r"(?:latest|\d{4}-\d{2}(?:-\d{2})?|\d{6,8}|v?\d+(?:-\d+)*)"
_DATE = re.compile(r"-(?:latest|\d{4}-\d{2}(?:-\d{2})?|\d{6,8})$")
_LATEST = re.compile(rf"-{_EDITION}$")


def is_same_model(name: str, other: str) -> bool:
    """Whether two names mean the same model, as far as names can say.

    Not counted: the case, a revision (``@main``), a tag (``:latest``), a provider in front (``cohere/rerank-v3.5``,
    ``hosted_vllm/BAAI/bge-reranker-base``, ``accounts/fireworks/models/...``), a folder (``/models/bge-reranker-base``,
    or the Hugging Face cache's), the ending and the number format of a file (``-Q8_0.gguf``), a date behind
    (``rerank-v3.5-2024-12-02``), and the version that ``-latest`` stands for. ``BAAI/bge-reranker-base`` and
    ``me/bge-reranker-base`` are two models.
    """
    ours, theirs = _parts(name), _parts(other)
    if _is_folder(name) or _is_folder(other):
        ours, theirs = ours[-1:], theirs[-1:]
    count = min(len(ours), len(theirs))
    return _stem(ours[-1], theirs[-1]) == _stem(theirs[-1], ours[-1]) and ours[-count:-1] == theirs[-count:-1]


def _plain(name: str) -> str:
    return name.strip().lower().replace("\\", "/")


def _is_folder(name: str) -> bool:
    plain = _plain(name)
    return bool(_FOLDER.match(plain)) and not _CACHE_FOLDER.search(plain)


def _parts(name: str) -> list[str]:
    """Return organisation and name, with what stands before them, in one spelling."""
    plain = _plain(name)
    if cached := _CACHE_FOLDER.search(plain):
        plain = cached[1].replace("--", "/")
    plain = _RESOURCE.sub(r"\1/", plain.lstrip("@")).rstrip("/").partition("@")[0]
    folder, slash, last = plain.rpartition("/")
    last = _FILE.sub("", last.partition(":")[0]) or last
    parts = [part for part in f"{folder}{slash}{last}".split("/") if part]
    parts[-1:] = _split_provider(parts[-1]) if parts else [""]
    return [re.sub(r"[._\s]+", "-", part) for part in parts]


def _split_provider(name: str) -> list[str]:
    """Split Bedrock's ``cohere.rerank-v3-5``."""
    provider, dot, rest = name.partition(".")
    return [provider, rest] if dot and provider.isalpha() and len(rest) > 2 and rest[0].isalpha() else [name]


def _stem(name: str, other: str) -> str:
    """Return a name without date and number format; without its version, if the other one is the latest of its kind."""
    while (shorter := _BUILD.sub("", name)) != name:
        name = shorter
    shorter = (_LATEST if name.endswith("-latest") or other.endswith("-latest") else _DATE).sub("", name)
    return _PROVIDER.sub("", re.sub(r"-v(?=\d)", "-", shorter))
