"""Store the weights of an ONNX file as int8 or int4, at a quarter or a seventh of the size and the same speed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]

__all__ = ["CompactWeights", "compact"]

CompactWeights = Literal["int8", "int4"]

_SMALLEST = 65_536
"""Matrices with fewer numbers stay as they are, because they would save little."""

_NARROWEST = 8
"""Columns of a matrix that is stored with a factor a row, at least: a factor takes the place of four int8 numbers."""

_SMALLEST_TABLE = 2**20
"""Embedding tables with fewer numbers are never stored as int4: those of positions are added to every token."""

BLOCK = 32
"""Numbers that share a factor in int4."""


def compact(source: Path, target: Path, weights: CompactWeights = "int8") -> None:
    """Write a copy of an fp32 ONNX file with its weight matrices in fewer bits.

    - ``int8``: one fp32 factor for each output. Symmetric rounding: ``factor = max(abs(column)) / 127``,
      ``stored = round(weight / factor)``. Factors go along the rows of embedding tables and of transposed matrices
      (Gather, Gemm), and along the columns of the others.
    - ``int4``: one fp16 factor for each block of 32 inputs of an output, as in llama.cpp's ``Q4_0``: the number of
      largest size in a block becomes -8. Weights that were stored in this way before come out unchanged. A matrix
      whose inputs do not divide into blocks, and a small table, is stored as int8.

    The graph expands them by simple operators, which ONNX Runtime folds once at load, so the model computes in fp32 as
    before; memory is that of the fp32 model.
    """
    import numpy as np
    import onnx
    from onnx import numpy_helper

    model = onnx.load(source)
    graph = model.graph
    read_by_row = {name for node in graph.node for name in _tables(node)}
    gathered = {node.input[0] for node in graph.node if node.op_type == "Gather"}
    constants: list[Any] = []
    expanding: list[Any] = []
    for tensor in graph.initializer:
        matrix = numpy_helper.to_array(tensor)
        is_matrix = matrix.ndim == 2 and matrix.dtype == np.float32 and min(matrix.shape) >= _NARROWEST
        if not is_matrix or matrix.size < _SMALLEST:
            constants.append(tensor)
            continue
        by_row = tensor.name in read_by_row
        in_blocks = matrix.shape[1 if by_row else 0] % BLOCK == 0
        is_small_table = tensor.name in gathered and matrix.size < _SMALLEST_TABLE
        write = _as_int4 if weights == "int4" and in_blocks and not is_small_table else _as_int8
        tensors, nodes = write(tensor.name, matrix, by_row)
        constants += tensors
        expanding += nodes
    nodes = [*expanding, *graph.node]
    del graph.initializer[:], graph.node[:]
    graph.initializer.extend({constant.name: constant for constant in constants}.values())
    graph.node.extend(nodes)
    onnx.checker.check_model(model)
    onnx.save(model, target)


def _as_int8(name: str, matrix: Floats, by_row: bool) -> tuple[list[Any], list[Any]]:
    """Return the constants of a matrix, and the nodes that expand them."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    factors = np.abs(matrix).max(axis=1 if by_row else 0, keepdims=True) / np.float32(127)
    factors[factors == 0] = 1
    stored = np.round(matrix / factors).astype(np.int8)
    return [
        numpy_helper.from_array(stored, f"{name}.int8"),
        numpy_helper.from_array(factors.astype(np.float32), f"{name}.factors"),
    ], [
        helper.make_node("Cast", [f"{name}.int8"], [f"{name}.fp32"], to=TensorProto.FLOAT),
        helper.make_node("Mul", [f"{name}.fp32", f"{name}.factors"], [name]),
    ]


def _as_int4(name: str, matrix: Floats, by_row: bool) -> tuple[list[Any], list[Any]]:
    """Return the constants of a matrix, and the nodes that expand them; an output is a row in what is stored.

    A byte holds number i of a block in its lower half, and number i + 16 in its upper half.
    """
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    rows = matrix if by_row else matrix.T
    blocks = np.ascontiguousarray(rows).reshape(len(rows), -1, BLOCK)
    largest = np.take_along_axis(blocks, np.abs(blocks).argmax(axis=2, keepdims=True), axis=2)
    factors = (largest / np.float32(-8)).astype(np.float16)
    divisors = np.where(factors == 0, np.float32(1), factors.astype(np.float32))
    numbers = np.clip(np.round(blocks / divisors) + 8, 0, 15).astype(np.uint8)
    stored = numbers[:, :, : BLOCK // 2] | (numbers[:, :, BLOCK // 2 :] << 4)

    def number(value: float) -> str:
        return f"int4 {value:g}"

    def step(op: str, inputs: list[str], output: str, **attributes: Any) -> Any:
        return helper.make_node(op, inputs, [output], **attributes)

    expanded = name if by_row else f"{name}.rows"
    constants = [numpy_helper.from_array(np.float32(value), number(value)) for value in (1 / 16, 16, 8)]
    constants += [
        numpy_helper.from_array(stored, f"{name}.int4"),
        numpy_helper.from_array(factors, f"{name}.factors"),
        numpy_helper.from_array(np.array(rows.shape, dtype=np.int64), f"{name}.shape"),
    ]
    nodes = [
        step("Cast", [f"{name}.int4"], f"{name}.bytes", to=TensorProto.FLOAT),
        step("Mul", [f"{name}.bytes", number(1 / 16)], f"{name}.sixteenths"),
        step("Floor", [f"{name}.sixteenths"], f"{name}.upper"),
        step("Mul", [f"{name}.upper", number(16)], f"{name}.upper in place"),
        step("Sub", [f"{name}.bytes", f"{name}.upper in place"], f"{name}.lower"),
        step("Concat", [f"{name}.lower", f"{name}.upper"], f"{name}.numbers", axis=2),
        step("Sub", [f"{name}.numbers", number(8)], f"{name}.signed"),
        step("Cast", [f"{name}.factors"], f"{name}.fp32 factors", to=TensorProto.FLOAT),
        step("Mul", [f"{name}.signed", f"{name}.fp32 factors"], f"{name}.blocks"),
        step("Reshape", [f"{name}.blocks", f"{name}.shape"], expanded),
    ]
    if not by_row:
        nodes.append(step("Transpose", [expanded], name, perm=[1, 0]))
    return constants, nodes


def _tables(node: Any) -> Iterator[str]:
    """Yield the weights of a node whose outputs lie along the rows."""
    if node.op_type == "Gather":
        yield node.input[0]
    elif node.op_type == "Gemm" and any(a.name == "transB" and a.i for a in node.attribute):
        yield node.input[1]
