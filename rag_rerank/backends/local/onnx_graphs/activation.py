"""The activation at the end of a graph: a sigmoid or softmax is left out, so that the graph gives logits.

Undoing it on the numbers would lose what fp32 cannot hold near 0 and 1: all logits above 17 have the sigmoid 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rag_rerank.errors import ModelLoadError

__all__ = ["cut_activation"]

_PASSING = ("Cast", "Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze")
"""Operators that hand on the numbers they get."""

_CHOOSING = ("Gather", "Slice")
"""Operators that hand on some of them: the probability of one label."""

_ACTIVATIONS = ("Sigmoid", "Softmax", "LogSoftmax")


def cut_activation(model: Any, name: str, config: Mapping[str, Any]) -> str | None:
    """Replace the activation that makes a graph's first output, so that the output is a logit, or one for each label.

    Of a softmax from which one label's probability is taken, the logit is that label's less the other's.

    Args:
        model: The ONNX model; changed in place. Its weights are not needed.
        name: The model's name, for messages.
        config: The transformers config of the model, for the number of labels.

    Returns:
        The name of the activation; ``None`` where the graph ends in none.

    Raises:
        ModelLoadError: The output is the softmax of one number, which is 1 for every pair, or one of several labels'.
    """
    graph = model.graph
    producers = {output: node for node in graph.node for output in node.output}
    node = producers.get(graph.output[0].name) if graph.output else None
    is_chosen = False
    while node is not None and node.op_type in (*_PASSING, *_CHOOSING):
        is_chosen = is_chosen or node.op_type in _CHOOSING
        node = producers.get(node.input[0])
    if node is None:
        return None
    if node.op_type == "Div":
        return _cut_written_out(node, producers, graph)
    if node.op_type == "FusedGemm":
        return _cut_fused(node)
    if node.op_type not in _ACTIVATIONS or node.domain not in ("", "ai.onnx"):
        return None
    activation: str = node.op_type
    if activation != "Sigmoid":
        labels = len(config.get("id2label") or (0, 1))  # two is the default of transformers
        shape = graph.output[0].type.tensor_type.shape.dim
        if not is_chosen and len(shape) > 1 and shape[-1].dim_value == 1:
            raise ModelLoadError(f"{name}: its ONNX file ends in a softmax over one number, which is 1 for every pair")
        if is_chosen and labels > 2:
            raise ModelLoadError(
                f"{name}: its ONNX file gives the probability of one of {labels} labels, not of relevance against the "
                "rest"
            )
    if activation != "Sigmoid" and is_chosen:
        _subtract_other(node, graph)
    else:
        node.op_type = "Identity"
        del node.attribute[:]
    return activation.lower()


def _subtract_other(node: Any, graph: Any) -> None:
    """Turn the softmax of two numbers into each number less the other."""
    import numpy as np
    from onnx import helper, numpy_helper

    (source,), (target,) = node.input, node.output
    swap, swapped = f"{target}.swap", f"{target}.swapped"
    graph.initializer.append(numpy_helper.from_array(np.array([1, 0], dtype=np.int64), swap))
    place = list(graph.node).index(node)
    graph.node.insert(place, helper.make_node("Gather", [source, swap], [swapped], axis=-1))
    node.op_type = "Sub"
    node.input[:] = [source, swapped]
    del node.attribute[:]


def _cut_fused(node: Any) -> str | None:
    """Do the same for a sigmoid that ONNX Runtime has fused with the last layer."""
    if not any(a.name == "activation" and a.s == b"Sigmoid" for a in node.attribute):
        return None
    others = [a for a in node.attribute if not a.name.startswith("activation")]
    del node.attribute[:]
    node.attribute.extend(others)
    node.op_type, node.domain = "Gemm", ""
    return "sigmoid"


def _cut_written_out(node: Any, producers: Mapping[str, Any], graph: Any) -> str | None:
    """Do the same for a sigmoid that is written as ``1 / (1 + exp(-x))``."""
    ones = {tensor.name for tensor in graph.initializer if _is_one(tensor)}
    ones |= {
        output
        for constant in graph.node
        if constant.op_type == "Constant" and any(a.name == "value" and _is_one(a.t) for a in constant.attribute)
        for output in constant.output
    }
    total = producers.get(node.input[1])
    if node.input[0] not in ones or total is None or total.op_type != "Add":
        return None
    for one, other in (tuple(total.input), tuple(total.input)[::-1]):
        exponential = producers.get(other)
        if one in ones and exponential is not None and exponential.op_type == "Exp":
            negative = producers.get(exponential.input[0])
            if negative is not None and negative.op_type == "Neg":
                node.op_type = "Identity"
                node.input[:] = [negative.input[0]]
                return "sigmoid"
    return None


def _is_one(tensor: Any) -> bool:
    from onnx import external_data_helper, numpy_helper

    if external_data_helper.uses_external_data(tensor) or any(size != 1 for size in tensor.dims):
        return False
    return float(numpy_helper.to_array(tensor).reshape(-1)[0]) == 1.0
