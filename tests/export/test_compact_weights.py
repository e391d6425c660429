"""Weights in 8 and in 4 bits, against the same schemes written in numpy, and as ONNX Runtime expands them."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from rag_rerank.backends.local.onnx_graphs.weights import Constants
from rag_rerank.export.compact_weights import CompactWeights, compact

WORDS, POSITIONS, WIDTH, WIDE = 4200, 600, 256, 320
SHAPES = {
    "words": (WORDS, WIDTH),
    "positions": (POSITIONS, WIDTH),
    "up": (WIDTH, WIDE),
    "down": (WIDTH, WIDE),
    "odd": (WIDTH, 300),
    "back": (300, WIDTH),
    "of pieces": (70_000, 1),
}


def random(name: str, seed: int = 0) -> Any:
    rng = np.random.default_rng([seed, *name.encode()])
    matrix = rng.normal(0, 0.05, SHAPES[name]).astype(np.float32)
    matrix[0] = 0
    return matrix


def graph(weights: dict[str, Any]) -> Any:
    """Return a model with two tables, a product, a transposed one, and two whose inputs do not all divide by 32."""
    nodes = [
        helper.make_node("Gather", ["words", "ids"], ["word"]),
        helper.make_node("Gather", ["positions", "ids"], ["position"]),
        helper.make_node("Gather", ["of pieces", "ids"], ["piece"]),
        helper.make_node("Add", ["word", "position"], ["sum"]),
        helper.make_node("Add", ["sum", "piece"], ["x"]),
        helper.make_node("MatMul", ["x", "up"], ["wide"]),
        helper.make_node("Gemm", ["wide", "down"], ["narrow"], transB=1),
        helper.make_node("MatMul", ["narrow", "odd"], ["other"]),
        helper.make_node("MatMul", ["other", "back"], ["y"]),
    ]
    made = helper.make_graph(
        nodes,
        "model",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, ["tokens"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["tokens", WIDTH])],
        [numpy_helper.from_array(matrix, name) for name, matrix in weights.items()],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def in_8_bits(matrix: Any, axis: int) -> Any:
    factors = np.abs(matrix).max(axis=axis, keepdims=True) / np.float32(127)
    return np.round(matrix / np.where(factors == 0, 1, factors)) * factors


def in_4_bits(rows: Any) -> Any:
    """Return rows after a trip through blocks of 32: the number of largest size becomes -8 steps."""
    out = np.empty_like(rows)
    for row in range(len(rows)):
        for start in range(0, rows.shape[1], 32):
            block = rows[row, start : start + 32]
            largest = block[np.abs(block).argmax()]
            step = np.float32(np.float16(largest / np.float32(-8)))
            numbers = np.clip(np.round(block / step), -8, 7) if step else np.zeros(32)
            out[row, start : start + 32] = numbers * step
    return out


def write(tmp_path: Path, weights: CompactWeights, seed: int = 0) -> tuple[dict[str, Any], Path]:
    original = {name: random(name, seed) for name in SHAPES}
    onnx.save(graph(original), tmp_path / "model.onnx")
    compact(tmp_path / "model.onnx", tmp_path / f"{weights}.onnx", weights)
    return original, tmp_path / f"{weights}.onnx"


def stored_in(file: Path, name: str) -> str:
    names = {tensor.name for tensor in onnx.load(file).graph.initializer}
    return next((form for form in ("int4", "int8") if f"{name}.{form}" in names), "fp32")


def test_int4_stores_blocks_of_32_inputs(tmp_path: Path) -> None:
    original, file = write(tmp_path, "int4")
    constants = Constants(onnx.load(file))
    assert np.array_equal(constants.get("words"), in_4_bits(original["words"]))
    assert np.array_equal(constants.get("up"), in_4_bits(original["up"].T).T)


def test_int4_leaves_small_tables_and_odd_sizes_in_8_bits_and_lists_in_fp32(tmp_path: Path) -> None:
    original, file = write(tmp_path, "int4")
    forms = {name: stored_in(file, name) for name in SHAPES}
    assert forms == {
        "words": "int4",
        "positions": "int8",
        "up": "int4",
        "down": "int4",
        "odd": "int4",
        "back": "int8",
        "of pieces": "fp32",
    }
    constants = Constants(onnx.load(file))
    assert constants.get("positions") == pytest.approx(in_8_bits(original["positions"], 1), abs=1e-7)
    assert constants.get("back") == pytest.approx(in_8_bits(original["back"], 0), abs=1e-7)
    assert np.array_equal(constants.get("of pieces"), original["of pieces"])


@pytest.mark.parametrize("weights", ["int8", "int4"])
def test_onnx_runtime_expands_what_the_weights_are_read_as(tmp_path: Path, weights: CompactWeights) -> None:
    _, file = write(tmp_path, weights)
    constants = Constants(onnx.load(file))
    read = {name: constants.get(name) for name in SHAPES}
    assert all(value is not None and value.dtype == np.float32 for value in read.values())
    ids = np.arange(0, POSITIONS, 7)
    stored = onnxruntime.InferenceSession(str(file)).run(None, {"ids": ids})[0]
    plain = onnxruntime.InferenceSession(graph(read).SerializeToString()).run(None, {"ids": ids})[0]
    assert stored == pytest.approx(plain, rel=1e-5, abs=1e-6)


def test_weights_that_were_in_4_bits_before_come_out_unchanged(tmp_path: Path) -> None:
    _, file = write(tmp_path, "int4")
    constants = Constants(onnx.load(file))
    once = {name: constants.get(name) for name in SHAPES}
    onnx.save(graph(once), tmp_path / "again.onnx")
    compact(tmp_path / "again.onnx", tmp_path / "twice.onnx", "int4")
    twice = Constants(onnx.load(tmp_path / "twice.onnx"))
    for name in ("words", "up", "down", "odd"):
        assert np.array_equal(twice.get(name), once[name])


def test_int4_takes_a_seventh_of_fp32(tmp_path: Path) -> None:
    _, file = write(tmp_path, "int4")
    forms = {name: stored_in(file, name) for name in SHAPES}
    tensors = {tensor.name: tensor for tensor in onnx.load(file).graph.initializer}
    for name in (name for name, form in forms.items() if form == "int4"):
        size = sum(len(tensors[f"{name}.{part}"].raw_data) for part in ("int4", "factors"))
        assert size == np.prod(SHAPES[name]) * 18 / 32
