"""Linear layers in 8 bits, with a separate factor for each token and each output.

The activations of a token are scaled by the largest of them, at run time ("dynamic" quantisation); weights once, by the
largest of each output. So a score depends on its own pair only, never on the batch it was computed in, and a token with
large numbers does not lower the precision of other tokens.

Weights take 7 of the 8 bits: AVX2 without VNNI adds two products of an unsigned and a signed byte in 16 bits and
saturates, and 2 * 255 * 63 is the largest even sum that fits; so the same file gives the same scores on machines with
VNNI or AMX and on those without.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rag_rerank.backends.local.onnx_graphs.weights import Constants, UnsupportedGraph

__all__ = ["quantize"]

_OLDEST = 13
"""The first opset whose QuantizeLinear takes a factor for each row."""

_WEIGHT_STEPS = 63
_MIDDLE = 128
"""The position of zero among the 256 steps of an activation that may have either sign."""

_GELU_ZERO = 32
"""The position of zero after a GELU, whose lowest value is -0.17: the other steps are for the positive side."""

_GELU_LOWEST = 0.17

_TINY = 1e-6
"""Keeps the factor of a token of zeros from being zero."""


def quantize(model: Any, *, flat: bool) -> Any:
    """Return a copy of an fp32 ONNX model whose products with constant matrices are computed in 8 bits.

    Gemm operators, embeddings, and the products inside attention stay fp32.

    Args:
        model: The model, weights loaded.
        flat: Whether the inputs of all those products are known to be matrices.

    Raises:
        UnsupportedGraph: There is no such product, or the model's operators are too old and cannot be converted.
    """
    return _Quantizer(model, flat=flat).model


class _Quantizer:
    def __init__(self, model: Any, *, flat: bool) -> None:
        import onnx
        from onnx import helper

        if _opset(model) < _OLDEST:
            model = _convert(model)
        self.model = onnx.ModelProto()
        self.model.CopyFrom(model)
        self.flat = flat
        self.opset = _opset(model)
        if not any(entry.domain == "com.microsoft" for entry in self.model.opset_import):
            self.model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
        graph = self.model.graph
        self.stored = Constants(self.model)
        self.constants = {tensor.name: tensor for tensor in graph.initializer}
        self.nodes: list[Any] = []
        self.steps: dict[str, tuple[str, str, str]] = {}
        for node in graph.node:
            weight = self._matrix(node)
            if weight is None:
                self.nodes.append(node)
            else:
                self._product(node, weight)
        if not self.steps:
            raise UnsupportedGraph("it has no fp32 product with a constant matrix")
        names = set(_inputs(self.nodes))
        inputs = [value for value in graph.input if value.name in names or value.name not in self.constants]
        del graph.node[:], graph.initializer[:], graph.input[:]
        graph.node.extend(self.nodes)
        graph.initializer.extend(tensor for name, tensor in self.constants.items() if name in names)
        graph.input.extend(inputs)  # files before version 4 of the format list their constants there too

    def _matrix(self, node: Any) -> Any:
        """Return the constant that a node multiplies by, or ``None`` where it is no such product."""
        import numpy as np

        weight = self.stored.get(node.input[1]) if node.op_type == "MatMul" else None
        return weight if weight is not None and weight.ndim == 2 and weight.dtype == np.float32 else None

    def _node(self, op: str, inputs: list[str], output: str, domain: str = "", **attributes: Any) -> str:
        from onnx import helper

        self.nodes.append(helper.make_node(op, inputs, [output], name=output, domain=domain, **attributes))
        return output

    def _constant(self, name: str, value: Any) -> str:
        from onnx import numpy_helper

        if name not in self.constants:
            self.constants[name] = numpy_helper.from_array(value, name)
        return name

    def _product(self, node: Any, weight: Any) -> None:
        """Write ``x @ weight`` as a product of bytes, times the factors of the output and of the token."""
        import numpy as np

        x, matrix = node.input
        tokens, factors, zero = self._round(x, len(weight))
        largest = np.abs(weight).max(axis=0) / np.float32(_WEIGHT_STEPS)
        largest[largest == 0] = 1
        bytes_, name = np.round(weight / largest).astype(np.int8), node.output[0]
        inputs = [
            tokens,
            self._constant(f"{matrix}.7 bits", bytes_),
            self._constant("int8 one", np.float32(1)),
            self._constant(f"{matrix}.7 bits.factors", largest.astype(np.float32)),
            zero,
        ]
        product = self._node("MatMulIntegerToFloat", inputs, f"{name}.by token", "com.microsoft")
        if self.flat:
            self._node("Mul", [product, factors], name)
            return
        self._node("Mul", [product, factors], f"{name}.flat")
        self._constant(f"{name}.width", np.array([weight.shape[1]], dtype=np.int64))
        self._node("Concat", [f"{x}.outer shape", f"{name}.width"], f"{name}.shape", axis=0)
        self._node("Reshape", [f"{name}.flat", f"{name}.shape"], name)

    def _round(self, x: str, width: int) -> tuple[str, str, str]:
        """Return the bytes of an activation (tokens, width), the factor of each token, and the position of zero."""
        import numpy as np

        if x in self.steps:
            return self.steps[x]
        flat = x
        if not self.flat:
            self._constant("int8 start", np.array([0], dtype=np.int64))
            self._constant("int8 last", np.array([-1], dtype=np.int64))
            self._node("Shape", [x], f"{x}.shape")
            self._node("Slice", [f"{x}.shape", "int8 start", "int8 last"], f"{x}.outer shape")
            shape = self._constant(f"int8 flat {width}", np.array([-1, width], dtype=np.int64))
            flat = self._node("Reshape", [x, shape], f"{x}.flat")
        producer = self.stored.producer(x)
        gelu = producer is not None and producer.op_type in ("BiasGelu", "Gelu")
        zero = _GELU_ZERO if gelu else _MIDDLE
        steps = self._constant(f"int8 steps {zero}", np.float32(255 - zero))
        least = _GELU_LOWEST / _GELU_ZERO if gelu else _TINY
        largest = self._row_maximum(flat if gelu else self._node("Abs", [flat], f"{x}.size"), x)
        self._node("Div", [largest, steps], f"{x}.step")
        self._node("Max", [f"{x}.step", self._constant(f"int8 least {zero}", np.float32(least))], f"{x}.factors")
        each = self._constant("int8 each", np.array([-1], dtype=np.int64))
        self._node("Reshape", [f"{x}.factors", each], f"{x}.factor list")
        self._node("Shape", [f"{x}.factor list"], f"{x}.count")
        scalar = self._constant(f"int8 zero {zero}", np.array(zero, dtype=np.uint8))
        self._node("Expand", [scalar, f"{x}.count"], f"{x}.zeros")
        tokens = self._node("QuantizeLinear", [flat, f"{x}.factor list", f"{x}.zeros"], f"{x}.int8", axis=0)
        self.steps[x] = tokens, f"{x}.factors", scalar
        return self.steps[x]

    def _row_maximum(self, x: str, name: str) -> str:
        import numpy as np

        if self.opset < 18:
            return self._node("ReduceMax", [x], f"{name}.largest", axes=[-1], keepdims=1)
        axes = self._constant("int8 rows", np.array([-1], dtype=np.int64))
        return self._node("ReduceMax", [x, axes], f"{name}.largest", keepdims=1)


def _inputs(nodes: Any) -> Iterator[str]:
    """Yield the names that nodes read, also those in graphs inside them."""
    for node in nodes:
        yield from node.input
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                yield from _inputs(graph.node)
                yield from (output.name for output in graph.output)


def _convert(model: Any) -> Any:
    from onnx import version_converter

    try:
        return version_converter.convert_version(model, _OLDEST)
    except Exception as error:  # the converter raises bare RuntimeError and its own kinds
        raise UnsupportedGraph(f"its operators (opset {_opset(model)}) cannot be converted: {error}") from error


def _opset(model: Any) -> int:
    return next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)
