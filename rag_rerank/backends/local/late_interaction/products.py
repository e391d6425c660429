"""Matrix products on one thread, by ONNX Runtime.

NumPy gives a product of this size to all cores. Where other work runs beside it, its threads wait for each other: on a
busy machine of two cores a product took 2 to 27 times the processor time of one thread, depending on its size. A
worker of the pool has one core, so its products do too.
"""

from __future__ import annotations

import os
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]

__all__ = ["products"]

_BLOCK_ROWS = 1024
"""Rows that are turned into fp32 at once: 1.5 MB of 384 numbers each, which stay in the cache until multiplied."""


def products(rows: npt.NDArray[Any], others: Floats) -> Floats:
    """Return the product of each row with each of the others, of shape (rows, others).

    Args:
        rows: Numbers of the type fp32, fp16 or int8, of shape (rows, width).
        others: Of shape (others, width).
    """
    import numpy as np

    session, others = _session(rows.dtype.name, os.getpid()), np.ascontiguousarray(others)
    result: Floats = np.empty((len(rows), len(others)), dtype=np.float32)
    for start in range(0, len(rows) if len(others) else 0, _BLOCK_ROWS):
        block = slice(start, start + _BLOCK_ROWS)
        (result[block],) = session.run(None, {"rows": np.ascontiguousarray(rows[block]), "others": others})
    return result


@cache
def _session(kind: str, process: int) -> Any:
    """Return a session that multiplies rows of a type; after a fork, that of the parent process cannot be used."""
    import onnxruntime
    from onnx import TensorProto, helper

    from rag_rerank.backends.local.onnx_graphs.session import session_options
    from rag_rerank.backends.local.onnx_graphs.writer import OPSETS

    types = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16, "int8": TensorProto.INT8}
    inputs = [
        helper.make_tensor_value_info("rows", types[kind], ["rows", "width"]),
        helper.make_tensor_value_info("others", TensorProto.FLOAT, ["others", "width"]),
    ]
    output = helper.make_tensor_value_info("products", TensorProto.FLOAT, ["rows", "others"])
    nodes = [
        helper.make_node("Cast", ["rows"], ["numbers"], to=TensorProto.FLOAT),
        helper.make_node("Gemm", ["numbers", "others"], ["products"], transB=1),
    ]
    graph = helper.make_graph(nodes, "products", inputs, [output])
    opsets = [helper.make_opsetid(domain, version) for domain, version in OPSETS.items()]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    options = session_options(1, is_ready=False)
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
