"""The reranker of a component: built from a config in which Haystack's secrets may stand for keys."""

import os
from collections.abc import Mapping
from typing import Any

import rag_rerank
from haystack.utils import Secret
from haystack.utils.auth import SecretType
from rag_rerank import Reranker, Spec

__all__ = ["build_reranker", "prebuild"]


def build_reranker(reranker: Spec) -> Reranker:
    """Return the reranker of a name, mapping, file or object.

    In a mapping, a key may be a Haystack ``Secret``, or what its ``to_dict`` returns. The secret of an environment
    variable becomes a reference to it, so that the key is never written. Of several variables it is the first one that
    is set now.

    Raises:
        ConfigError: It cannot be built.
    """
    return rag_rerank.build(_replace_secrets(reranker) if isinstance(reranker, Mapping) else reranker)


def prebuild(data: dict[str, Any]) -> dict[str, Any]:
    """Return the dictionary of a component with its reranker built.

    Haystack takes a mapping with a ``type`` for one of its own objects, and would import what the type names.
    """
    parameters = data.get("init_parameters", {})
    if not isinstance(parameters.get("reranker"), Mapping):
        return data
    return {**data, "init_parameters": {**parameters, "reranker": build_reranker(parameters["reranker"])}}


def _replace_secrets(value: Any) -> Any:
    if isinstance(value, Secret):
        return _convert(value)
    if isinstance(value, Mapping):
        if value.get("type") == "env_var" and "env_vars" in value:
            return _convert(Secret.from_dict(dict(value)))
        return {key: _replace_secrets(item) for key, item in value.items()}
    return [_replace_secrets(item) for item in value] if isinstance(value, (list, tuple)) else value


def _convert(secret: Secret) -> rag_rerank.Secret:
    """Return a secret of ours that reads the same variable, or holds the same token."""
    if secret.type is SecretType.TOKEN:
        return rag_rerank.Secret(str(secret.resolve_value()))
    facts = secret.to_dict()
    names = facts["env_vars"]
    name = next((name for name in names if os.environ.get(name)), names[0])
    return rag_rerank.Secret(f"${{{name}}}" if facts["strict"] else f"${{{name}:-}}")
