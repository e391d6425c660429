"""Reading an encoder's weights out of its ONNX file, by the names that its modules have in PyTorch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Array = npt.NDArray[np.float32]

__all__ = ["Dense", "Norm", "UnknownGraph", "Weights"]


class UnknownGraph(Exception):
    """The file does not hold what is looked for; its own graph is run as it is."""


@dataclass(frozen=True)
class Dense:
    """A linear layer: ``x @ weight + bias``, weight of shape (inputs, outputs)."""

    weight: Array
    bias: Array


@dataclass(frozen=True)
class Norm:
    """A layer norm's factors and offsets."""

    gamma: Array
    beta: Array


class Weights:
    """The constants of an ONNX model.

    Exporters keep the names of biases, norms and embeddings, and often lose those of the matrices, which they fold
    transposed into ``onnx::MatMul_123``; a matrix is then found as the one whose product the named bias is added to.
    Matrices that are stored as int8 with factors (see `rag_rerank._compact`) are expanded. Equal constants are often
    stored once; the others are then copies of it by Identity.

    Args:
        model: An ONNX model with its weights loaded.
        marker: A name that the encoder surely has; what stands before it is the prefix of all its names.

    Raises:
        UnknownGraph: No constant's name ends with ``marker``.
    """

    def __init__(self, model: Any, marker: str) -> None:
        self._stored = {tensor.name: tensor for tensor in model.graph.initializer}
        self._maker = {output: node for node in model.graph.node for output in node.output}
        self._matrix = dict(self._products(model.graph.node))
        found = [name for name in (*self._stored, *self._maker) if name.endswith(marker)]
        if len(found) != 1:
            raise UnknownGraph(f"it has {len(found)} constants named {marker}")
        self._encoder = found[0].removesuffix(marker)
        self._whole = self._encoder.removesuffix(".").rpartition(".")[0]

    def _products(self, nodes: Any) -> Any:
        """Yield the bias and the matrix of each MatMul with a bias behind it."""
        for node in nodes:
            if node.op_type != "Add":
                continue
            for bias, product in (node.input, reversed(node.input)):
                maker = self._maker.get(product)
                if bias.endswith(".bias") and maker is not None and maker.op_type == "MatMul":
                    yield bias, maker.input[1]

    def _name(self, name: str, *, head: bool) -> str:
        prefix = f"{self._whole}." if head and self._whole else "" if head else self._encoder
        return f"{prefix}{name}"

    def array(self, name: str, *, head: bool = False) -> Array:
        """Return a constant of the encoder, or of the head beside it, in fp32.

        Raises:
            UnknownGraph: There is none of that name.
        """
        return self._constant(self._name(name, head=head))

    def dense(self, name: str, *, head: bool = False) -> Dense:
        """Return a linear layer."""
        full = self._name(name, head=head)
        bias = self._constant(f"{full}.bias")
        matrix = self._matrix.get(f"{full}.bias")
        weight = self._constant(matrix) if matrix is not None else self._constant(f"{full}.weight").T
        if weight.ndim != 2 or weight.shape[1] != len(bias):
            raise UnknownGraph(f"{name} has a weight of shape {weight.shape} and a bias of shape {bias.shape}")
        return Dense(weight, bias)

    def norm(self, name: str) -> Norm:
        """Return a layer norm."""
        return Norm(self.array(f"{name}.weight"), self.array(f"{name}.bias"))

    def _constant(self, name: str) -> Array:
        import numpy as np
        from onnx import numpy_helper

        maker = self._maker.get(name)
        if name in self._stored:
            value = numpy_helper.to_array(self._stored[name])
        elif maker is not None and maker.op_type == "Mul":
            value = self._constant(maker.input[0]) * self._constant(maker.input[1])
        elif maker is not None and maker.op_type in ("Cast", "Identity"):
            value = self._constant(maker.input[0])
        else:
            raise UnknownGraph(f"it has no constant named {name}")
        return np.asarray(value, dtype=np.float32)
