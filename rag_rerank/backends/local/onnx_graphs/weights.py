"""Read an encoder's weights from its ONNX file, by the names that its modules have in PyTorch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Array = npt.NDArray[np.float32]

__all__ = ["MARKER", "Constants", "Dense", "EncoderWeights", "Norm", "UnsupportedGraph", "Weights"]

MARKER = "embeddings.word_embeddings.weight"
"""End of a name that every encoder of the BERT family has; the part before it is the prefix of all its names."""


class UnsupportedGraph(Exception):
    """A graph that cannot be rewritten or quantised; the message is the reason. The model's own graph runs instead."""


@dataclass(frozen=True)
class Dense:
    """A linear layer: ``x @ weight + bias``, weight of shape (inputs, outputs)."""

    weight: Array
    bias: Array


@dataclass(frozen=True)
class Norm:
    """The factors and offsets of a layer norm."""

    gamma: Array
    beta: Array


class EncoderWeights(Protocol):
    """The weights of an encoder and of the head beside it, by the names that its modules have in PyTorch."""

    def array(self, name: str, *, head: bool = False) -> Array:
        """Return a weight of the encoder, or of the head beside it, in fp32.

        Raises:
            UnsupportedGraph: There is none of that name.
        """

    def dense(self, name: str, *, head: bool = False) -> Dense:
        """Return a linear layer."""

    def norm(self, name: str) -> Norm:
        """Return a layer norm."""


class Constants:
    """The constants of an ONNX model, by name: stored ones, and those that simple operators compute from stored ones.

    Matrices that are stored as int8 or int4 (see `rag_rerank.export.compact_weights`) are expanded. Equal
    constants are often stored once; the others are then copies of it by Identity.
    """

    def __init__(self, model: Any) -> None:
        self._stored = {tensor.name: tensor for tensor in model.graph.initializer}
        self._producers = {output: node for node in model.graph.node for output in node.output}

    def __iter__(self) -> Iterator[str]:
        """Iterate over all names that may be constants."""
        return iter((*self._stored, *self._producers))

    def producer(self, name: str) -> Any:
        """Return the node that computes a value, or ``None``."""
        return self._producers.get(name)

    def get(self, name: str) -> npt.NDArray[Any] | None:
        """Return the value of a constant, or ``None`` where the name is not one."""
        from onnx import numpy_helper

        if name in self._stored:
            stored: npt.NDArray[Any] = numpy_helper.to_array(self._stored[name])
            return stored
        node = self._producers.get(name)
        if node is None:
            return None
        if node.op_type == "Constant":
            attributes = {attribute.name: attribute for attribute in node.attribute}
            return numpy_helper.to_array(attributes["value"].t) if "value" in attributes else None
        if node.op_type not in _EXPANDING:
            return None
        parts = [self.get(part) for part in node.input]
        return None if any(part is None for part in parts) else self._compute(node, parts)

    @staticmethod
    def _compute(node: Any, parts: Sequence[Any]) -> Any:
        from onnx import helper

        attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
        if node.op_type == "Cast":
            return parts[0].astype(helper.tensor_dtype_to_np_dtype(attributes["to"]))
        if node.op_type == "Transpose":
            return parts[0].transpose(attributes.get("perm"))
        return _compute_numbers(node.op_type, parts, attributes)


_EXPANDING = ("Cast", "Concat", "Floor", "Identity", "Mul", "Reshape", "Sub", "Transpose")
"""Operators that expand stored constants."""


def _compute_numbers(op: str, parts: Sequence[Any], attributes: Mapping[str, Any]) -> Any:
    """Return the result of an operator that changes no types."""
    import numpy as np

    if op == "Mul":
        return parts[0] * parts[1]
    if op == "Sub":
        return parts[0] - parts[1]
    if op == "Floor":
        return np.floor(parts[0])
    if op == "Concat":
        return np.concatenate(parts, axis=attributes["axis"])
    if op == "Reshape":
        return parts[0].reshape(parts[1])
    return parts[0]


class Weights:
    """The weights of an encoder and of the head beside it.

    Exporters keep the names of biases, norms and embeddings, and often lose those of the matrices, which they fold
    transposed into ``onnx::MatMul_123``. Such a matrix is found by its bias, which is added to its product.

    Args:
        model: An ONNX model with its weights loaded.
        marker: End of a name that every encoder has; the part before it is the prefix of all its names.

    Raises:
        UnsupportedGraph: No constant's name ends with ``marker``.
    """

    def __init__(self, model: Any, marker: str) -> None:
        self._constants = Constants(model)
        self._matrix = dict(self._products(model.graph.node))
        matches = [name for name in self._constants if name.endswith(marker)]
        if len(matches) != 1:
            raise UnsupportedGraph(f"it has {len(matches)} constants named {marker}")
        self._encoder_prefix = matches[0].removesuffix(marker)
        self._model_prefix = self._encoder_prefix.removesuffix(".").rpartition(".")[0]

    def _products(self, nodes: Any) -> Iterator[tuple[str, str]]:
        """Yield the bias and the matrix of each MatMul that a bias is added to."""
        for node in nodes:
            if node.op_type != "Add":
                continue
            for bias, product in (node.input, reversed(node.input)):
                producer = self._constants.producer(product)
                if bias.endswith(".bias") and producer is not None and producer.op_type == "MatMul":
                    yield bias, producer.input[1]

    def _name(self, name: str, *, head: bool) -> str:
        prefix = f"{self._model_prefix}." if head and self._model_prefix else "" if head else self._encoder_prefix
        return f"{prefix}{name}"

    def array(self, name: str, *, head: bool = False) -> Array:
        """Return a constant of the encoder, or of the head beside it, in fp32.

        Raises:
            UnsupportedGraph: There is none of that name.
        """
        return self._constant(self._name(name, head=head))

    def dense(self, name: str, *, head: bool = False) -> Dense:
        """Return a linear layer."""
        full = self._name(name, head=head)
        bias = self._constant(f"{full}.bias")
        matrix = self._matrix.get(f"{full}.bias")
        weight = self._constant(matrix) if matrix is not None else self._constant(f"{full}.weight").T
        if weight.ndim != 2 or weight.shape[1] != len(bias):
            raise UnsupportedGraph(f"{name} has a weight of shape {weight.shape} and a bias of shape {bias.shape}")
        return Dense(weight, bias)

    def norm(self, name: str) -> Norm:
        """Return a layer norm."""
        return Norm(self.array(f"{name}.weight"), self.array(f"{name}.bias"))

    def _constant(self, name: str) -> Array:
        import numpy as np

        value = self._constants.get(name)
        if value is None:
            raise UnsupportedGraph(f"it has no constant named {name}")
        return np.asarray(value, dtype=np.float32)
