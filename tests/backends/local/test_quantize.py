"""Linear layers in 8 bits, against the same scheme written in numpy, and against fp32."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from support import tiny_checkpoints

from rag_rerank import ModelLoadError, build
from rag_rerank.backends.local.onnx_graphs.quantize import quantize
from rag_rerank.backends.local.onnx_graphs.weights import UnsupportedGraph
from rag_rerank.backends.onnx import OnnxReranker

WIDTH, OUTPUTS = 48, 24
WEIGHT = np.random.default_rng(0).normal(0, 0.3, (WIDTH, OUTPUTS)).astype(np.float32)


def layer(opset: int, *, shape: tuple[str | int, ...] = ("rows", WIDTH), gelu: bool = False) -> Any:
    """Return a model of one product with a matrix, optionally with a GELU before it."""
    nodes = [helper.make_node("MatMul", ["x", "weight"], ["y"])]
    imports = [helper.make_opsetid("", opset)]
    if gelu:
        zeros = numpy_helper.from_array(np.zeros(WIDTH, np.float32), "zeros")
        nodes = [
            helper.make_node("BiasGelu", ["x", "zeros"], ["active"], domain="com.microsoft"),
            helper.make_node("MatMul", ["active", "weight"], ["y"]),
        ]
        imports.append(helper.make_opsetid("com.microsoft", 1))
    graph = helper.make_graph(
        nodes,
        "layer",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, list(shape))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [*shape[:-1], OUTPUTS])],
        [numpy_helper.from_array(WEIGHT, "weight"), *([zeros] if gelu else [])],
    )
    return helper.make_model(graph, opset_imports=imports, ir_version=8)


def run(model: Any, x: np.ndarray) -> np.ndarray:
    return onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": x.astype(np.float32)})[0]


def parts(x: np.ndarray, zero: int, least: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return bytes and factors of activations and of weights."""
    largest = (x if zero < 128 else np.abs(x)).max(axis=-1, keepdims=True)
    factors = np.maximum(largest.astype(np.float32) / np.float32(255 - zero), np.float32(least))
    tokens = np.clip(np.rint(x / factors) + zero, 0, 255).astype(np.uint8)
    outputs = np.abs(WEIGHT).max(axis=0) / np.float32(63)
    return tokens, factors, np.rint(WEIGHT / outputs).astype(np.int8), outputs


def emulated(x: np.ndarray, *, gelu: bool = False) -> np.ndarray:
    x = x.astype(np.float32)
    zero, least = (32, 0.17 / 32) if gelu else (128, 1e-6)
    tokens, factors, weights, outputs = parts(x, zero, least)
    return (tokens.astype(np.int32) - zero) @ weights.astype(np.int32) * outputs * factors


def rows(count: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, WIDTH)).astype(np.float32)


def gelu(x: np.ndarray) -> np.ndarray:
    return np.array([[v / 2 * (1 + math.erf(v / math.sqrt(2))) for v in row] for row in x], np.float32)


@pytest.mark.parametrize("opset", [11, 12, 13, 17, 18, 21])
def test_a_layer_computes_the_scheme_at_every_opset(opset: int) -> None:
    x = rows(9)
    np.testing.assert_allclose(run(quantize(layer(opset), flat=True), x), emulated(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("flat", [True, False])
def test_matrices_are_computed_alike_whether_they_are_known_to_be_or_not(flat: bool) -> None:
    x = rows(9)
    np.testing.assert_allclose(run(quantize(layer(17), flat=flat), x), emulated(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("opset", [13, 18])
def test_tokens_of_several_rows_are_computed_each_by_itself(opset: int) -> None:
    x = rows(12).reshape(3, 4, WIDTH)
    output = run(quantize(layer(opset, shape=("batch", "sequence", WIDTH)), flat=False), x)
    np.testing.assert_allclose(output, emulated(x), rtol=1e-5, atol=1e-5)


def test_the_rounded_layer_is_close_to_the_fp32_one() -> None:
    """Half a step of 127 for activations and of 63 for weights, summed over the width as independent errors."""
    x = rows(200)
    expected = x @ WEIGHT
    error = np.sqrt(np.mean((run(quantize(layer(17), flat=True), x) - expected) ** 2))
    step = np.abs(x).max(axis=1).mean() / 127, np.abs(WEIGHT).max(axis=0).mean() / 63
    expected = math.sqrt(WIDTH / 12) * math.hypot(step[0] * WEIGHT.std(), step[1] * x.std())
    assert 0.5 * expected < error < 2 * expected


def test_a_token_with_large_numbers_costs_the_others_nothing() -> None:
    model, x = quantize(layer(17), flat=True), rows(5)
    expected = run(model, x)
    x[2, 3] = 1e6
    output = run(model, x)
    assert (np.delete(output, 2, axis=0) == np.delete(expected, 2, axis=0)).all()
    np.testing.assert_allclose(output[2], x[2, 3] * WEIGHT[3], rtol=0.02, atol=0.02 * 1e6 * WEIGHT.std())


def test_a_token_does_not_depend_on_those_beside_it() -> None:
    model, x = quantize(layer(17), flat=True), rows(33)
    alone = np.concatenate([run(model, row[None]) for row in x])
    assert (run(model, x) == alone).all()


def test_tokens_of_zeros_and_of_tiny_numbers_are_nothing() -> None:
    x = np.concatenate([np.zeros((1, WIDTH)), np.full((1, WIDTH), 1e-30), rows(1) * 1e-9])
    output = run(quantize(layer(17), flat=True), x)
    assert (output[0] == 0).all() and np.abs(output).max() < 1e-5


def test_an_output_without_weights_is_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    model = layer(17)
    weight = WEIGHT.copy()
    weight[:, 5] = 0
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(weight, "weight"))
    output = run(quantize(model, flat=True), rows(4))
    assert (output[:, 5] == 0).all() and np.isfinite(output).all()


def test_what_is_not_finite_stays_so() -> None:
    x = rows(3)
    x[1, 0] = np.nan
    x[2, 0] = np.inf
    output = run(quantize(layer(17), flat=True), x)
    assert np.isfinite(output[0]).all() and not np.isfinite(output[1:]).any()


def test_the_steps_behind_a_gelu_begin_below_its_lowest_value() -> None:
    fine = np.linspace(-1, -0.5, 200_001)
    lowest = min(v / 2 * (1 + math.erf(v / math.sqrt(2))) for v in fine)
    assert -0.17 < lowest < -0.1699
    x = np.concatenate([rows(20) * 3, np.full((1, WIDTH), -0.7517916), np.full((1, WIDTH), -30.0)])
    output = run(quantize(layer(17, gelu=True), flat=True), x)
    np.testing.assert_allclose(output, emulated(gelu(x), gelu=True), rtol=1e-3, atol=2e-2)
    np.testing.assert_allclose(output, gelu(x) @ WEIGHT, atol=0.3)


def test_no_sum_of_two_products_saturates_16_bits() -> None:
    """As AVX2 adds them (vpmaddubsw): the largest possible bytes, and those of random numbers."""
    assert 2 * 255 * 63 <= 2**15 - 1 < 2 * 255 * 65
    large = np.concatenate([rows(50) * 100, np.full((1, WIDTH), 1e4)])
    tokens, _, weights, _ = parts(large, 128, 1e-6)
    assert np.abs(weights).max() == 63
    products = tokens[:, :, None].astype(np.int32) * weights[None].astype(np.int32)
    pairs = products[:, ::2] + products[:, 1::2]
    assert np.abs(pairs).max() <= 2**15 - 1
    saturated = np.clip(pairs, -(2**15), 2**15 - 1).sum(axis=1)
    assert (saturated == tokens.astype(np.int32) @ weights.astype(np.int32)).all()


@pytest.mark.parametrize("family", ["bert", "modernbert"])
def test_weights_of_made_graphs_take_seven_bits(family: str) -> None:
    with OnnxReranker(model=str(tiny_checkpoints.onnx_export(family)), precision="int8") as reranker:
        reranker.warm_up()
        model = onnx.load(reranker._engine.graph.file)
    matrices = [numpy_helper.to_array(t) for t in model.graph.initializer if t.data_type == TensorProto.INT8]
    assert len(matrices) > 5
    assert all(np.abs(matrix.astype(int)).max() == 63 for matrix in matrices)


def test_own_graphs_whose_weights_are_stored_in_int8_are_computed_in_int8(tmp_path: Path) -> None:
    for family in ("modernbert", "deberta"):
        folder = tiny_checkpoints.onnx_export(family, "int8")
        with OnnxReranker(model=str(folder), precision="int8") as ours, OnnxReranker(model=str(folder)) as exact:
            output = ours.score(tiny_checkpoints.QUERIES[0], tiny_checkpoints.DOCUMENTS)
            expected = exact.score(tiny_checkpoints.QUERIES[0], tiny_checkpoints.DOCUMENTS)
        assert output.values != expected.values and np.corrcoef(output.values, expected.values)[0, 1] > 0.9
        assert output.notes[-1].startswith("computes in int8: ")


@pytest.mark.parametrize("reason", ["fp16", "no product"])
def test_what_cannot_be_computed_in_int8_is_refused(reason: str) -> None:
    model = layer(17)
    if reason == "fp16":
        model.graph.initializer[0].CopyFrom(numpy_helper.from_array(WEIGHT.astype(np.float16), "weight"))
    else:
        del model.graph.initializer[:]
        model.graph.input.append(helper.make_tensor_value_info("weight", TensorProto.FLOAT, [WIDTH, OUTPUTS]))
    with pytest.raises(UnsupportedGraph, match="no fp32 product with a constant matrix"):
        quantize(model, flat=True)


def test_a_model_without_layers_for_int8_is_refused_by_name(tmp_path: Path) -> None:
    import shutil

    folder = Path(shutil.copytree(tiny_checkpoints.onnx_export("modernbert"), tmp_path / "m"))
    model = onnx.load(folder / "model.onnx")
    new_nodes = []
    for tensor in model.graph.initializer:
        if len(tensor.dims) == 2:
            name = tensor.name
            tensor.name = f"{name} stored"
            new_nodes.append(helper.make_node("Relu", [tensor.name], [f"{name} positive"]))
            new_nodes.append(helper.make_node("Identity", [f"{name} positive"], [name]))
    nodes = [*new_nodes, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.save(model, folder / "model.onnx")
    with pytest.raises(ModelLoadError, match=r"cannot be computed in int8: it has no fp32 product .*; use fp32"):
        OnnxReranker(model=str(folder), precision="int8").warm_up()


def test_constants_of_inner_graphs_and_of_old_files_survive() -> None:
    """An If whose branches read a constant of the graph around them; constants listed as inputs, as before IR 4."""
    model = layer(13)
    inner = [
        helper.make_graph(
            [helper.make_node(op, ["y raw", "shift"], [f"y {op}"])],
            op,
            [],
            [helper.make_tensor_value_info(f"y {op}", TensorProto.FLOAT, ["rows", OUTPUTS])],
        )
        for op in ("Add", "Sub")
    ]
    graph = model.graph
    graph.node[0].output[0] = "y raw"
    graph.node.append(helper.make_node("If", ["yes"], ["y"], then_branch=inner[0], else_branch=inner[1]))
    graph.initializer.append(numpy_helper.from_array(np.array(True), "yes"))
    graph.initializer.append(numpy_helper.from_array(np.array([3], np.float32), "shift"))
    graph.input.extend(helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in graph.initializer)
    x = rows(4)
    result = quantize(model, flat=True)
    assert "weight" not in [value.name for value in result.graph.input]
    np.testing.assert_allclose(run(result, x), emulated(x) + 3, rtol=1e-5, atol=1e-5)


def test_the_embedded_model_ranks_alike_in_int8() -> None:
    query = "How many people live in Berlin?"
    texts = [
        "Berlin had a population of 3,520,031 registered inhabitants in an area of 891.82 square kilometers.",
        "Berlin is well known for its museums.",
        "About 8.4 million people live in New York City.",
        "New York City is famous for the Metropolitan Museum of Art.",
        "A bearded dragon needs a warm spot of about forty degrees.",
        "The city's inhabitants number some three and a half million.",
    ]
    expected = build("onnx:embedded").score(query, texts).values
    output = build({"type": "onnx", "model": "late-minilm-v1", "precision": "int8"}).score(query, texts).values
    assert np.abs(np.subtract(output, expected)).max() < 0.05 * (max(expected) - min(expected))
    assert np.argmax(output) == np.argmax(expected) == 0
