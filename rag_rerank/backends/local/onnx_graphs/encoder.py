"""The embeddings and layers of BERT and RoBERTa, which all supported architectures share.

Operators are those that ONNX Runtime runs fastest on a CPU: tokens of all rows in one matrix, so that linear layers are
plain matrix products; its fused attention and GELU; but Add and LayerNormalization instead of its fused
SkipLayerNormalization, which took seven times as long (ONNX Runtime 1.31, AVX2; ``benchmarks/README.md``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rag_rerank.backends.local.onnx_graphs.weights import EncoderWeights, Norm, UnsupportedGraph
from rag_rerank.backends.local.onnx_graphs.writer import Writer

__all__ = ["EncoderWriter"]


class EncoderWriter(Writer):
    """A writer for encoders; tokens are a matrix of shape (batch * sequence, hidden), rows one after the other.

    Args:
        weights: The weights of the model.
        config: The transformers config of the model.
    """

    def __init__(self, weights: EncoderWeights, config: Mapping[str, Any]) -> None:
        super().__init__()
        self.weights = weights
        self.hidden, self.heads = (_count(config, name) for name in ("hidden_size", "num_attention_heads"))
        self.layers = _count(config, "num_hidden_layers", least=0)  # none: a table of vectors
        self.epsilon: float = config.get("layer_norm_eps", 1e-12)

    def embeddings(self, *others: str) -> str:
        """Return the embedded tokens, flattened: word embeddings plus others of shape (batch, sequence, hidden)."""
        words = self.constant("words", self.weights.array("embeddings.word_embeddings.weight"))
        self.node("Concat", ["shape", self.integers("hidden", self.hidden)], "by row", axis=0)
        total = self.node("Gather", [words, "input_ids"], "words here")
        for other in others:
            total = self.node("Add", [total, other], f"{total} and {other}")
        flat = self.node("Reshape", [total, self.integers("flat", -1, self.hidden)], "embedded tokens")
        return self.layer_norm(flat, self.weights.norm("embeddings.LayerNorm"), "tokens 0")

    def layer_norm(self, x: str, norm: Norm, name: str) -> str:
        """Return the layer norm of ``x``, with the model's epsilon."""
        return self.norm(x, norm, name, self.epsilon)

    def layer(self, tokens: str, number: int, *, first_only: bool = False, apart: str = "", mask: str = "") -> str:
        """Return the output of a layer.

        Args:
            tokens: Its input.
            number: Its number, from 0.
            first_only: Whether the output is needed for the first token of each row only.
            apart: Bias added to the attention scores, of shape (batch, 1, sequence, sequence); none where empty.
            mask: 1 for tokens that may be attended to, int32 of shape (batch, sequence); all may where empty.
        """
        source, name = f"encoder.layer.{number}", f"layer {number}"
        queries = tokens
        if first_only:
            self.node("Reshape", [tokens, "by row"], f"{name} rows")
            queries = self.node("Gather", [f"{name} rows", self.integer("first", 0)], f"{name} first", axis=1)
        masks = (mask, apart) if apart else (mask,) if mask else ()
        attended = self.attention(queries, tokens, f"{source}.attention.self", name, first_only, masks)
        output = self.weights.dense(f"{source}.attention.output.dense")
        mixed = self.dense(attended, output, f"{name} mixed", few=first_only)
        self.node("Add", [mixed, queries], f"{name} attention")
        norm = self.weights.norm(f"{source}.attention.output.LayerNorm")
        between = self.layer_norm(f"{name} attention", norm, f"{name} between")
        inner = self.weights.dense(f"{source}.intermediate.dense")
        wide = self.matrix(between, inner, f"{name} wide", few=first_only)
        bias = self.constant(f"{name} wide.bias", inner.bias)
        active = self.node("BiasGelu", [wide, bias], f"{name} active", "com.microsoft")
        narrow = self.dense(active, self.weights.dense(f"{source}.output.dense"), f"{name} narrow", few=first_only)
        self.node("Add", [narrow, between], f"{name} feed-forward")
        last = self.weights.norm(f"{source}.output.LayerNorm")
        return self.layer_norm(f"{name} feed-forward", last, f"tokens {number + 1}")

    def attention(
        self, queries: str, tokens: str, source: str, name: str, first_only: bool, masks: tuple[str, ...]
    ) -> str:
        """Return the attention output of the query tokens over all tokens of their row."""
        import numpy as np

        parts = {part: self.weights.dense(f"{source}.{part}") for part in ("query", "key", "value")}
        shaped = []
        for part, layer in parts.items():
            few = first_only and part == "query"
            product = self.matrix(queries if few else tokens, layer, f"{name} {part}", few=few)
            shape = self.integers("one token a row", -1, 1, self.hidden) if few else "by row"
            shaped.append(self.node("Reshape", [product, shape], f"{name} {part}"))
        bias = self.constant(f"{name} biases", np.concatenate([layer.bias for layer in parts.values()]))
        inputs = [*shaped, bias, *masks]
        attended = self.node("MultiHeadAttention", inputs, f"{name} heads", "com.microsoft", num_heads=self.heads)
        return self.node("Reshape", [attended, "flat"], f"{name} attended")


def _count(config: Mapping[str, Any], name: str, least: int = 1) -> int:
    value = config.get(name)
    if not isinstance(value, int) or value < least:
        raise UnsupportedGraph(f"its config gives {value!r} as {name}")
    return value
