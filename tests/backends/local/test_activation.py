"""Graphs that end in a sigmoid or softmax: their raw scores are logits, those of the graph without it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from support import tiny_checkpoints
from support.tiny_checkpoints import DOCUMENTS, QUERIES

from rag_rerank import ModelLoadError
from rag_rerank.backends.onnx import OnnxReranker

Ending = Callable[[Any], list[Any]]


def constant(graph: Any, name: str, value: Any) -> str:
    graph.initializer.append(numpy_helper.from_array(np.array(value), name))
    return name


def with_ending(
    path: Path, family: str, ending: Ending, shape: tuple[Any, ...] = ("batch", 1), factor: float = 1
) -> Path:
    """Copy an exported folder; its logits, times a factor, are the ``x`` from which further nodes make ``scores``."""
    shutil.copytree(tiny_checkpoints.onnx_export(family), path)
    model = onnx.load(path / "model.onnx")
    graph = model.graph
    graph.node.append(helper.make_node("Mul", ["logits", constant(graph, "factor", np.float32(factor))], ["x"]))
    graph.node.extend(ending(graph))
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info("scores", TensorProto.FLOAT, list(shape)))
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    onnx.checker.check_model(model)
    onnx.save(model, path / "model.onnx")
    return path


def two_labels(graph: Any, *nodes: Any) -> list[Any]:
    """Make ``two``: the logits 1 and ``x + 1``, whose softmax has the log-odds ``x``."""
    one = constant(graph, "one", np.float32(1))
    zero = constant(graph, "zero", np.float32(0))
    return [
        helper.make_node("Add", ["x", one], ["second"]),
        helper.make_node("Mul", ["x", zero], ["nothing"]),
        helper.make_node("Add", ["nothing", one], ["first"]),
        helper.make_node("Concat", ["first", "second"], ["two"], axis=1),
        *nodes,
    ]


def written_out(graph: Any) -> list[Any]:
    one = constant(graph, "one", np.float32(1))
    return [
        helper.make_node("Neg", ["x"], ["negative"]),
        helper.make_node("Exp", ["negative"], ["exponential"]),
        helper.make_node("Add", ["exponential", one], ["total"]),
        helper.make_node("Div", [one, "total"], ["scores"]),
    ]


def in_half_precision(graph: Any) -> list[Any]:
    return [
        helper.make_node("Sigmoid", ["x"], ["probability"]),
        helper.make_node("Cast", ["probability"], ["half"], to=TensorProto.FLOAT16),
        helper.make_node("Cast", ["half"], ["scores"], to=TensorProto.FLOAT),
    ]


def fused(graph: Any) -> list[Any]:
    weight = constant(graph, "weight", np.ones((1, 1), np.float32))
    options = {"domain": "com.microsoft", "activation": "Sigmoid", "transB": 1}
    return [helper.make_node("FusedGemm", ["x", weight], ["scores"], **options)]


ENDINGS: dict[str, tuple[Ending, tuple[Any, ...]]] = {
    "sigmoid": (lambda graph: [helper.make_node("Sigmoid", ["x"], ["scores"])], ("batch", 1)),
    "sigmoid, flat": (
        lambda graph: [
            helper.make_node("Sigmoid", ["x"], ["probability"]),
            helper.make_node("Squeeze", ["probability", constant(graph, "last", [-1])], ["scores"]),
        ],
        ("batch",),
    ),
    "sigmoid, fused": (fused, ("batch", 1)),
    "sigmoid, written out": (written_out, ("batch", 1)),
    "two logits": (lambda graph: two_labels(graph, helper.make_node("Identity", ["two"], ["scores"])), ("batch", 2)),
    "softmax": (lambda graph: two_labels(graph, helper.make_node("Softmax", ["two"], ["scores"])), ("batch", 2)),
    "softmax, size not named": (
        lambda graph: two_labels(graph, helper.make_node("Softmax", ["two"], ["scores"], axis=-1)),
        ("batch", "labels"),
    ),
    "logarithm of softmax": (
        lambda graph: two_labels(graph, helper.make_node("LogSoftmax", ["two"], ["scores"])),
        ("batch", 2),
    ),
    "softmax, second label": (
        lambda graph: two_labels(
            graph,
            helper.make_node("Softmax", ["two"], ["both"], axis=-1),
            helper.make_node("Gather", ["both", constant(graph, "label", 1)], ["scores"], axis=1),
        ),
        ("batch",),
    ),
}


def logits(folder: Path, **options: Any) -> tuple[np.ndarray, tuple[str, ...]]:
    with OnnxReranker(model=str(folder), threads=1, **options) as reranker:
        scores = [reranker.score(query, DOCUMENTS) for query in QUERIES]
    return np.array([one.values for one in scores]), scores[0].notes


@pytest.mark.parametrize(
    ("name", "family", "optimize"),
    [
        *((name, "bert", False) for name in ENDINGS),
        *((name, "bert", True) for name in ("sigmoid", "softmax, second label")),
        ("sigmoid", "deberta", True),
    ],
)
def test_raw_scores_are_logits(tmp_path: Path, name: str, family: str, optimize: bool) -> None:
    ending, shape = ENDINGS[name]
    folder = with_ending(tmp_path / "m", family, ending, shape)
    values, notes = logits(folder, optimize=optimize)
    expected, _ = logits(tiny_checkpoints.onnx_export(family))
    np.testing.assert_allclose(values, expected, rtol=0, atol=1e-4)
    left_out = [note for note in notes if "at the end of its graph is left out" in note]
    assert len(left_out) == (0 if name == "two logits" else 1)


def test_saturated_probabilities_keep_the_order_of_the_logits(tmp_path: Path) -> None:
    folder = with_ending(tmp_path / "m", "bert", ENDINGS["sigmoid"][0], factor=50)
    expected, _ = logits(tiny_checkpoints.onnx_export("bert"))
    for optimize in (True, False):
        values, _ = logits(folder, optimize=optimize)
        if not optimize:
            np.testing.assert_allclose(values, 50 * expected, rtol=1e-3, atol=1e-2)
        assert np.isfinite(values).all() and len(set(values[0])) == len(set(expected[0]))
        assert (np.argsort(values, axis=1) == np.argsort(expected, axis=1)).all()


def test_a_probability_that_was_rounded_to_half_precision_is_not(tmp_path: Path) -> None:
    folder = with_ending(tmp_path / "m", "deberta", in_half_precision)
    values, _ = logits(folder, optimize=False)
    expected, _ = logits(tiny_checkpoints.onnx_export("deberta"))
    assert np.abs(values - expected).max() < 0.01


def test_the_optimised_graph_is_found_again_with_its_note(tmp_path: Path) -> None:
    folder = with_ending(tmp_path / "m", "deberta", ENDINGS["sigmoid"][0])
    first, second = logits(folder), logits(folder)
    assert first[1] == second[1] and (first[0] == second[0]).all()
    assert "the sigmoid at the end of its graph is left out, so that raw scores are logits" in first[1]


def test_what_holds_no_relevance_is_refused(tmp_path: Path) -> None:
    one = with_ending(tmp_path / "one", "bert", lambda graph: [helper.make_node("Softmax", ["x"], ["scores"])])
    with pytest.raises(ModelLoadError, match="softmax over one number"):
        OnnxReranker(model=str(one)).warm_up()
    ending, shape = ENDINGS["softmax, second label"]
    three = with_ending(tmp_path / "three", "bert", ending, shape)
    config = json.loads((three / "config.json").read_text())
    (three / "config.json").write_text(json.dumps({**config, "id2label": {"0": "a", "1": "b", "2": "c"}}))
    with pytest.raises(ModelLoadError, match="the probability of one of 3 labels"):
        OnnxReranker(model=str(three)).warm_up()
