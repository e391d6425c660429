"""Write an ONNX graph operator by operator, with its weights."""

from __future__ import annotations

from typing import Any

from rag_rerank.backends.local.onnx_graphs.weights import Dense, Norm

__all__ = ["OPSETS", "Writer"]

OPSETS = {"": 17, "com.microsoft": 1}

_IR_VERSION = 8  # of opset 17; ONNX Runtime from 1.13 on reads it


class Writer:
    """A list of nodes and constants in the order in which they are written; a node has the name of its output."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: dict[str, Any] = {}

    def model(self, inputs: list[str], output: str = "logits", *shape: int | str) -> Any:
        """Return the whole as a model, from int64 ``inputs`` of shape (batch, sequence).

        The output is fp32, of shape (batch, 1) unless ``shape`` says how it goes on after the batch.
        """
        from onnx import TensorProto, helper

        infos = [helper.make_tensor_value_info(n, TensorProto.INT64, ["batch", "sequence"]) for n in inputs]
        info = helper.make_tensor_value_info(output, TensorProto.FLOAT, ["batch", *(shape or (1,))])
        graph = helper.make_graph(self.nodes, "encoder", infos, [info], list(self.constants.values()))
        opsets = [helper.make_opsetid(domain, version) for domain, version in OPSETS.items()]
        return helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION, producer_name="rag_rerank")

    def node(
        self, op: str, inputs: list[str], output: str, domain: str = "", also: tuple[str, ...] = (), **attributes: Any
    ) -> str:
        """Write an operator, and return its first output; ``also`` names the others that it must have."""
        from onnx import helper

        self.nodes.append(helper.make_node(op, inputs, [output, *also], name=output, domain=domain, **attributes))
        return output

    def constant(self, name: str, value: Any) -> str:
        """Return a constant; write it if there is none of that name."""
        import numpy as np
        from onnx import numpy_helper

        if name not in self.constants:
            self.constants[name] = numpy_helper.from_array(np.array(value, order="C"), name)
        return name

    def integers(self, name: str, *values: int) -> str:
        """Return a list of int64."""
        import numpy as np

        return self.constant(name, np.array(values, dtype=np.int64))

    def integer(self, name: str, value: int) -> str:
        """Return a scalar int64."""
        import numpy as np

        return self.constant(name, np.array(value, dtype=np.int64))

    def number(self, value: float) -> str:
        """Return a scalar fp32 number."""
        import numpy as np

        return self.constant(f"number {value}", np.array(value, dtype=np.float32))

    def dense(self, x: str, layer: Dense, name: str, *, few: bool = False) -> str:
        """Return ``x @ weight + bias``."""
        product = self.matrix(x, layer, name, few=few)
        return self.node("Add", [product, self.constant(f"{name}.bias", layer.bias)], name)

    def matrix(self, x: str, layer: Dense, name: str, *, few: bool = False) -> str:
        """Return ``x @ weight``; the next operator adds the bias.

        A product of ``few`` tokens is written as Gemm, which `quantize` leaves in fp32: it costs next to nothing.
        """
        weight = self.constant(f"{name}.weight", layer.weight)
        return self.node("Gemm" if few else "MatMul", [x, weight], f"{name}.product")

    def norm(self, x: str, norm: Norm, name: str, epsilon: float) -> str:
        """Return the layer norm of ``x``."""
        factors = [self.constant(f"{name}.gamma", norm.gamma), self.constant(f"{name}.beta", norm.beta)]
        return self.node("LayerNormalization", [x, *factors], name, axis=-1, epsilon=epsilon)
