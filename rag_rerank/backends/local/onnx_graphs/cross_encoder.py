"""BERT and RoBERTa cross-encoders, whose score is read from the first token.

In the last layer only the parts that the score needs are computed: keys and values of all tokens, but query, attention
output and feed-forward of the first token alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rag_rerank.backends.local.onnx_graphs.encoder import EncoderWriter
from rag_rerank.backends.local.onnx_graphs.weights import EncoderWeights, UnsupportedGraph

__all__ = ["BertWriter", "RobertaWriter"]


class BertWriter(EncoderWriter):
    """A writer for BERT cross-encoders: a pooler and a linear layer over it."""

    inner = "pooler.dense", False
    outer = "classifier", True

    def __init__(self, weights: EncoderWeights, config: Mapping[str, Any]) -> None:
        super().__init__(weights, config)
        self.segments = (config.get("type_vocab_size") or 1) > 1
        self.pad: int = config.get("pad_token_id") or 0

    def write(self) -> Any:
        """Write the graph, and return the model."""
        self.node("Shape", ["input_ids"], "shape")
        positions = self.weights.array("embeddings.position_embeddings.weight")
        segments = self.weights.array("embeddings.token_type_embeddings.weight")
        others = []
        if self.segments:
            table = self.constant("segments", segments)
            others.append(self.node("Gather", [table, "token_type_ids"], "segments here"))
        else:
            positions = positions + segments[0]  # all tokens have the one segment
        tokens = self.embeddings(*others, self.positions(positions))
        for layer in range(self.layers):
            tokens = self.layer(tokens, layer, first_only=layer == self.layers - 1)
        self.head(tokens)
        return self.model(["input_ids", *(["token_type_ids"] if self.segments else [])])

    def positions(self, table: Any) -> str:
        """Return the embedded positions, the same for all rows."""
        self.node("Slice", ["shape", self.integers("one", 1), self.integers("two", 2)], "length")
        numbers = [self.constant("positions", table), self.integers("zero", 0), "length", "zero"]
        return self.node("Slice", numbers, "positions here")

    def head(self, first: str) -> None:
        """Write the logits, of the first token of each row."""
        inner, outer = (self.weights.dense(name, head=head) for name, head in (self.inner, self.outer))
        if outer.weight.shape[1] != 1:
            raise UnsupportedGraph(f"it gives {outer.weight.shape[1]} numbers a pair")
        self.node("Tanh", [self.dense(first, inner, "pooled", few=True)], "active")
        self.dense("active", outer, "logits", few=True)


class RobertaWriter(BertWriter):
    """A writer for RoBERTa cross-encoders: two linear layers, and positions that leave padding tokens out."""

    inner = "classifier.dense", True
    outer = "classifier.out_proj", True

    def positions(self, table: Any) -> str:
        """Return the embedded positions of each row.

        They count from the padding token's id on and leave padding tokens out, also where a text spells one.
        """
        from onnx import TensorProto

        self.node("Equal", ["input_ids", self.integer("pad", self.pad)], "padding")
        self.node("Not", ["padding"], "counted")
        ones = self.node("Cast", ["counted"], "ones", to=TensorProto.INT64)
        self.node("CumSum", [ones, self.integer("along the row", 1)], "count")
        self.node("Mul", ["count", ones], "numbers")
        return self.node("Gather", [self.constant("positions", table[self.pad :]), "numbers"], "positions here")
