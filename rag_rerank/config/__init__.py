"""Build rerankers from names, mappings and config files; write them back; the JSON Schema of config files.

The constructor of a reranker is its config schema. A node is ``{"type": NAME, **constructor arguments}``; an argument
that is a reranker is again a node. A name stands for a node (`rag_rerank.registry.parse_name`):
``"cohere:rerank-v3.5"`` for ``{"type": "cohere", "model": "rerank-v3.5"}``, and ``"minilm"`` for
``{"type": "onnx", "model": "minilm"}``.

In every text of a node ``${VAR}`` and ``${VAR:-default}`` stand for an environment variable, whose text becomes a value
of the field's type. A relative path in a config file is relative to the folder of that file.
"""

from rag_rerank.config.build import Spec, build, load
from rag_rerank.config.dump import to_config
from rag_rerank.config.schema import json_schema

__all__ = ["Spec", "build", "json_schema", "load", "to_config"]
