"""The fast graph of a BERT or RoBERTa cross-encoder, written anew from its weights.

It computes what the exported graph computes, with three differences that leave the logits as they are but for
rounding:

- All inputs of a batch have the same length, so there is no padding, no attention mask, and no row whose numbers could
  depend on another's.
- Of the last layer, only what the score reads is computed: keys and values of all tokens, but query, attention output
  and feed-forward of the first token alone.
- Operators are those that ONNX Runtime runs fastest on a CPU: tokens of all rows in one matrix, so that linear layers
  are plain matrix products; its fused attention and GELU; but Add and LayerNormalization instead of its fused
  SkipLayerNormalization, which took seven times as long (ONNX Runtime 1.31, AVX2; ``benchmarks/README.md``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rag_rerank.backends._graphs.weights import Dense, Norm, UnknownGraph, Weights

__all__ = ["ARCHITECTURES", "OPSETS", "fused"]

ARCHITECTURES = ("bert", "roberta", "xlm-roberta")
"""``model_type`` of the transformers configs that are known here."""

OPSETS = {"": 17, "com.microsoft": 1}

_IR_VERSION = 8  # of opset 17; ONNX Runtime from 1.13 on reads it


def fused(model: Any, config: Mapping[str, Any]) -> Any:
    """Return the fast graph of an exported cross-encoder as an ONNX model.

    Inputs are ``input_ids`` and, where the model has segments, ``token_type_ids``, both int64 of shape (batch,
    sequence); the output ``logits`` is fp32 of shape (batch, 1).

    Args:
        model: The exported ONNX model, weights loaded.
        config: The transformers config of the model.

    Raises:
        UnknownGraph: The architecture or something in its config or file is not known here.
    """
    kind = config.get("model_type")
    if kind not in ARCHITECTURES:
        raise UnknownGraph(f"no faster graph is known for {kind}")
    if config.get("hidden_act") != "gelu" or config.get("position_embedding_type", "absolute") != "absolute":
        raise UnknownGraph("its activation or its kind of positions is not known")
    return _Writer(Weights(model, "embeddings.word_embeddings.weight"), config).model()


class _Writer:
    def __init__(self, weights: Weights, config: Mapping[str, Any]) -> None:
        self.weights = weights
        self.roberta = config["model_type"] != "bert"
        self.hidden, self.heads, self.layers = (
            _count(config, name) for name in ("hidden_size", "num_attention_heads", "num_hidden_layers")
        )
        self.epsilon: float = config.get("layer_norm_eps", 1e-12)
        self.segments = (config.get("type_vocab_size") or 1) > 1
        self.pad: int = config.get("pad_token_id") or 0
        self.nodes: list[Any] = []
        self.constants: dict[str, Any] = {}

    def model(self) -> Any:
        from onnx import TensorProto, helper

        tokens = self.embeddings()
        for layer in range(self.layers):
            tokens = self.layer(tokens, layer, last=layer == self.layers - 1)
        self.head(tokens)
        names = ["input_ids", *(["token_type_ids"] if self.segments else [])]
        inputs = [helper.make_tensor_value_info(n, TensorProto.INT64, ["batch", "sequence"]) for n in names]
        output = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 1])
        graph = helper.make_graph(self.nodes, "cross_encoder", inputs, [output], list(self.constants.values()))
        opsets = [helper.make_opsetid(domain, version) for domain, version in OPSETS.items()]
        return helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION, producer_name="rag_rerank")

    def node(self, op: str, inputs: list[str], output: str, domain: str = "", **attributes: Any) -> str:
        from onnx import helper

        self.nodes.append(helper.make_node(op, inputs, [output], name=output, domain=domain, **attributes))
        return output

    def constant(self, name: str, value: Any) -> str:
        import numpy as np
        from onnx import numpy_helper

        if name not in self.constants:
            self.constants[name] = numpy_helper.from_array(np.array(value, order="C"), name)
        return name

    def integers(self, name: str, *values: int) -> str:
        import numpy as np

        return self.constant(name, np.array(values, dtype=np.int64))

    def dense(self, x: str, layer: Dense, name: str, *, few: bool = False) -> str:
        """Return ``x @ weight + bias``."""
        product = self.matrix(x, layer, name, few=few)
        return self.node("Add", [product, self.constant(f"{name}.bias", layer.bias)], name)

    def matrix(self, x: str, layer: Dense, name: str, *, few: bool = False) -> str:
        """Return ``x @ weight``; the bias is added by the operator behind it.

        A product of ``few`` tokens is written as Gemm, which `int8.quantised` leaves alone: it costs nothing in fp32.
        """
        weight = self.constant(f"{name}.weight", layer.weight)
        return self.node("Gemm" if few else "MatMul", [x, weight], f"{name}.product")

    def norm(self, x: str, norm: Norm, name: str) -> str:
        factors = [self.constant(f"{name}.gamma", norm.gamma), self.constant(f"{name}.beta", norm.beta)]
        return self.node("LayerNormalization", [x, *factors], name, axis=-1, epsilon=self.epsilon)

    def embeddings(self) -> str:
        """Return the embedded tokens of all rows, of shape (batch * sequence, hidden)."""
        positions = self.weights.array("embeddings.position_embeddings.weight")
        segments = self.weights.array("embeddings.token_type_embeddings.weight")
        words = self.constant("words", self.weights.array("embeddings.word_embeddings.weight"))
        self.node("Shape", ["input_ids"], "shape")
        self.node("Concat", ["shape", self.integers("hidden", self.hidden)], "by row", axis=0)
        if not self.segments:
            positions = positions + segments[0]  # all tokens are of the one segment
        self.positions(positions)
        total = self.node("Gather", [words, "input_ids"], "words here")
        if self.segments:
            self.node("Gather", [self.constant("segments", segments), "token_type_ids"], "segments here")
            total = self.node("Add", [total, "segments here"], "words and segments")
        self.node("Add", [total, "positions here"], "embedded")
        flat = self.node("Reshape", ["embedded", self.integers("flat", -1, self.hidden)], "embedded tokens")
        return self.norm(flat, self.weights.norm("embeddings.LayerNorm"), "tokens 0")

    def positions(self, table: Any) -> None:
        """Write the embedded positions of all tokens.

        RoBERTa counts from its padding token's id on and leaves padding tokens out, also where a text spells one.
        """
        from onnx import TensorProto

        if not self.roberta:
            self.node("Slice", ["shape", self.integers("one", 1), self.integers("two", 2)], "length")
            numbers = [self.constant("positions", table), self.integers("zero", 0), "length", "zero"]
            self.node("Slice", numbers, "positions here")
            return
        self.node("Equal", ["input_ids", self.constant("pad", _scalar(self.pad))], "padding")
        self.node("Not", ["padding"], "counted")
        ones = self.node("Cast", ["counted"], "ones", to=TensorProto.INT64)
        self.node("CumSum", [ones, self.constant("along the row", _scalar(1))], "count")
        self.node("Mul", ["count", ones], "numbers")
        self.node("Gather", [self.constant("positions", table[self.pad :]), "numbers"], "positions here")

    def layer(self, tokens: str, number: int, *, last: bool) -> str:
        """Return a layer's output for all tokens; of the last layer, for the first token of each row."""
        source, name = f"encoder.layer.{number}", f"layer {number}"
        asking = tokens
        if last:
            self.node("Reshape", [tokens, "by row"], f"{name} rows")
            asking = self.node("Gather", [f"{name} rows", self.constant("first", _scalar(0))], f"{name} first", axis=1)
        attended = self.attention(asking, tokens, f"{source}.attention.self", name, last=last)
        mixed = self.dense(attended, self.weights.dense(f"{source}.attention.output.dense"), f"{name} mixed", few=last)
        self.node("Add", [mixed, asking], f"{name} attention")
        norm = self.weights.norm(f"{source}.attention.output.LayerNorm")
        between = self.norm(f"{name} attention", norm, f"{name} between")
        inner = self.weights.dense(f"{source}.intermediate.dense")
        wide = self.matrix(between, inner, f"{name} wide", few=last)
        bias = self.constant(f"{name} wide.bias", inner.bias)
        active = self.node("BiasGelu", [wide, bias], f"{name} active", "com.microsoft")
        narrow = self.dense(active, self.weights.dense(f"{source}.output.dense"), f"{name} narrow", few=last)
        self.node("Add", [narrow, between], f"{name} feed-forward")
        return self.norm(
            f"{name} feed-forward", self.weights.norm(f"{source}.output.LayerNorm"), f"tokens {number + 1}"
        )

    def attention(self, asking: str, tokens: str, source: str, name: str, *, last: bool) -> str:
        import numpy as np

        parts = {part: self.weights.dense(f"{source}.{part}") for part in ("query", "key", "value")}
        shaped = []
        for part, layer in parts.items():
            only_first = last and part == "query"
            product = self.matrix(asking if only_first else tokens, layer, f"{name} {part}", few=only_first)
            shape = self.integers("one token a row", -1, 1, self.hidden) if only_first else "by row"
            shaped.append(self.node("Reshape", [product, shape], f"{name} {part}"))
        bias = self.constant(f"{name} biases", np.concatenate([layer.bias for layer in parts.values()]))
        attended = self.node(
            "MultiHeadAttention", [*shaped, bias], f"{name} heads", "com.microsoft", num_heads=self.heads
        )
        return self.node("Reshape", [attended, "flat"], f"{name} attended")

    def head(self, first: str) -> None:
        if self.roberta:
            inner = self.weights.dense("classifier.dense", head=True)
            outer = self.weights.dense("classifier.out_proj", head=True)
        else:
            inner = self.weights.dense("pooler.dense")
            outer = self.weights.dense("classifier", head=True)
        if outer.weight.shape[1] != 1:
            raise UnknownGraph(f"it gives {outer.weight.shape[1]} numbers a pair")
        self.node("Tanh", [self.dense(first, inner, "pooled", few=True)], "active")
        self.dense("active", outer, "logits", few=True)


def _count(config: Mapping[str, Any], name: str) -> int:
    value = config.get(name)
    if not isinstance(value, int) or value < 1:
        raise UnknownGraph(f"its config gives {value!r} as {name}")
    return value


def _scalar(value: int) -> Any:
    import numpy as np

    return np.array(value, dtype=np.int64)
