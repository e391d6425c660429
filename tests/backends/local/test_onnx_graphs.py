"""Graphs from files of many forms: rewritten correctly, or run as they are with a note, never a wrong graph."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from support import tiny_checkpoints
from support.tiny_checkpoints import DOCUMENTS, QUERIES

import rag_rerank.export
import rag_rerank.export.onnx_trace
from rag_rerank import ModelLoadError
from rag_rerank.backends.local.model_files import ModelFolder
from rag_rerank.backends.local.onnx_graphs import build
from rag_rerank.backends.onnx import OnnxReranker, _Session

Change = Callable[[Any], Any]


def changed_copy(path: Path, family: str, change: Change) -> Path:
    """Copy an exported folder with another file."""
    shutil.copytree(tiny_checkpoints.onnx_export(family), path)
    model = onnx.load(path / "model.onnx")
    model = change(model) or model
    onnx.checker.check_model(model)
    onnx.save(model, path / "model.onnx")
    return path


def runs(folder: Path) -> str:
    """Score with the optimised and with the model's own graph, see that they agree, and return the note."""
    with OnnxReranker(model=str(folder)) as ours, OnnxReranker(model=str(folder), optimize=False) as own:
        for query in QUERIES:
            scores, own_scores = ours.score(query, DOCUMENTS), own.score(query, DOCUMENTS)
            assert np.std(own_scores.values) > 0.01
            limits = 1e-4 * np.maximum(1, np.abs(own_scores.values))
            assert (np.abs(np.subtract(scores.values, own_scores.values)) <= limits).all()
        assert ours._engine.equal_lengths == (not scores.notes)
    return "; ".join(scores.notes)


def renamed(model: Any, name: Callable[[str], str]) -> None:
    """Give every value that is neither an input nor an output another name."""
    fixed = {value.name for value in (*model.graph.input, *model.graph.output)} | {""}
    for node in model.graph.node:
        for values in (node.input, node.output):
            values[:] = [value if value in fixed else name(value) for value in values]
    for tensor in model.graph.initializer:
        tensor.name = name(tensor.name)
    del model.graph.value_info[:]


def with_prefix(prefix: str) -> Change:
    def change(model: Any) -> None:
        renamed(model, lambda value: value.replace("cross_encoder.0.model.", prefix))

    return change


def matrices(model: Any) -> dict[str, Any]:
    return {tensor.name: tensor for tensor in model.graph.initializer if len(tensor.dims) == 2}


def as_gemm(model: Any, transposed: bool = True) -> None:
    """Write linear layers as Reshape, Gemm, Reshape, with the matrices named as PyTorch names them."""
    graph, constants = model.graph, matrices(model)
    makers = {output: node for node in graph.node for output in node.output}
    nodes, removed_outputs = [], set()
    graph.initializer.append(numpy_helper.from_array(np.array([-1]), "rest"))
    for node in graph.node:
        product = next((makers[v] for v in node.input if v in makers and makers[v].op_type == "MatMul"), None)
        bias = next((value for value in node.input if value.endswith(".bias")), None)
        if node.op_type != "Add" or product is None or bias is None or product.input[1] not in constants:
            nodes.append(node)
            continue
        weight = numpy_helper.to_array(constants[product.input[1]])
        name, x = bias.replace(".bias", ".weight"), product.input[0]
        stored = np.ascontiguousarray(weight.T if transposed else weight)
        ends = [
            numpy_helper.from_array(np.array([s]), f"{name}.{end}")
            for s, end in zip(weight.shape, ("in", "out"), strict=True)
        ]
        graph.initializer.extend([numpy_helper.from_array(stored, name), *ends])
        nodes += [
            helper.make_node("Concat", ["rest", f"{name}.in"], [f"{name}.flat shape"], axis=0),
            helper.make_node("Reshape", [x, f"{name}.flat shape"], [f"{name}.flat"]),
            helper.make_node("Gemm", [f"{name}.flat", name, bias], [f"{name}.gemm"], transB=int(transposed)),
            helper.make_node("Shape", [x], [f"{name}.shape"], end=-1),
            helper.make_node("Concat", [f"{name}.shape", f"{name}.out"], [f"{name}.out shape"], axis=0),
            helper.make_node("Reshape", [f"{name}.gemm", f"{name}.out shape"], [node.output[0]]),
        ]
        removed_outputs.add(product.output[0])
    remaining = [node for node in nodes if node.output[0] not in removed_outputs]
    del graph.node[:]
    graph.node.extend(remaining)


def behind(op: str) -> Change:
    """Insert an operator between every matrix and the product that reads it."""

    def change(model: Any) -> None:
        new_nodes, graph = [], model.graph
        for name, tensor in matrices(model).items():
            if not name.startswith("onnx::MatMul"):
                continue
            values = numpy_helper.to_array(tensor)
            tensor.CopyFrom(numpy_helper.from_array(values.T if op == "Transpose" else values, f"{name} stored"))
            attributes = {"perm": [1, 0]} if op == "Transpose" else {}
            new_nodes.append(helper.make_node(op, [tensor.name], [name], **attributes))
        nodes = [*new_nodes, *graph.node]
        del graph.node[:]
        graph.node.extend(nodes)

    return change


def as_nodes(model: Any) -> None:
    """Move all constants into Constant nodes."""
    graph = model.graph
    new_nodes = [helper.make_node("Constant", [], [t.name], value=t) for t in graph.initializer]
    nodes = [*new_nodes, *graph.node]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)


def listed_as_inputs(model: Any) -> None:
    """Write the file as versions of the format before 4 do."""
    graph = model.graph
    graph.input.extend(helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in graph.initializer)
    model.ir_version = 3


READ = {
    "optimum's names": with_prefix(""),
    "a longer prefix": with_prefix("model.cross_encoder."),
    "other names of products": lambda m: renamed(m, lambda v: v.replace("onnx::MatMul_", "val_")),
    "Gemm with a transposed matrix": as_gemm,
    "matrices behind Identity": behind("Identity"),
    "matrices behind Transpose": behind("Transpose"),
    "constants as nodes": as_nodes,
    "constants listed as inputs": listed_as_inputs,
}


@pytest.mark.parametrize("family", ["bert", "xlm-roberta", "late-interaction"])
@pytest.mark.parametrize("form", READ)
def test_files_of_other_exporters_are_read(tmp_path: Path, form: str, family: str) -> None:
    assert runs(changed_copy(tmp_path / "m", family, READ[form])) == ""


@pytest.mark.parametrize("opset", [14, 18])
def test_files_of_other_opsets_are_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, opset: int) -> None:
    monkeypatch.setattr(rag_rerank.export.onnx_trace, "OPSET", opset)
    rag_rerank.export.export(str(tiny_checkpoints.checkpoint("bert")), tmp_path / "m")
    assert onnx.load(tmp_path / "m" / "model.onnx").opset_import[0].version == opset
    assert runs(tmp_path / "m") == ""


def half(model: Any) -> None:
    """Store the matrices in fp16, expanded by Cast: weights of half the size, computed in fp32."""
    new_nodes = []
    for name, tensor in matrices(model).items():
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), f"{name} stored"))
        new_nodes.append(helper.make_node("Cast", [tensor.name], [name], to=onnx.TensorProto.FLOAT))
    nodes = [*new_nodes, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def test_weights_of_half_precision_are_read(tmp_path: Path) -> None:
    assert runs(changed_copy(tmp_path / "m", "bert", half)) == ""


def swapped(one: str, other: str) -> Change:
    """Swap the names of two constants of equal shape, so that the graph computes the same."""

    def change(model: Any) -> None:
        full = {short: next(name for name in names(model) if name.endswith(short)) for short in (one, other)}
        pair = {full[one]: full[other], full[other]: full[one]}
        renamed(model, lambda value: pair.get(value, value))

    return change


def names(model: Any) -> list[str]:
    return [t.name for t in model.graph.initializer] + [v for node in model.graph.node for v in node.output]


def distinct(model: Any) -> None:
    """Give every bias and norm different numbers, as training does: fresh ones are all equal, and stored once."""
    graph, chance = model.graph, np.random.default_rng(0)
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for node in [node for node in graph.node if node.op_type == "Identity" and node.input[0] in stored]:
        graph.initializer.append(numpy_helper.from_array(stored[node.input[0]], node.output[0]))
        graph.node.remove(node)
    for tensor in graph.initializer:
        values = numpy_helper.to_array(tensor)
        if tensor.name.endswith((".bias", "LayerNorm.weight")) and "classifier" not in tensor.name:
            noise = chance.normal(size=values.shape).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(values + np.float32(0.3) * noise, tensor.name))


def twice_named(model: Any) -> None:
    model.graph.initializer.append(
        numpy_helper.from_array(np.zeros((2, 2), np.float32), "other.embeddings.word_embeddings.weight")
    )


WRONG: dict[str, tuple[str, Change, dict[str, Any]]] = {
    "no names": ("bert", lambda m: renamed(m, lambda v: f"v{abs(hash(v))}"), {}),
    "two encoders": ("bert", twice_named, {}),
    "word norm and another": ("bert", swapped("embeddings.LayerNorm.weight", "layer.1.output.LayerNorm.weight"), {}),
    "word norm's offsets": ("bert", swapped("embeddings.LayerNorm.bias", "layer.1.output.LayerNorm.bias"), {}),
    "query and key": ("roberta", swapped("layer.0.attention.self.query.bias", "layer.0.attention.self.key.bias"), {}),
    "layers": ("bert", swapped("layer.0.attention.self.value.bias", "layer.1.attention.self.value.bias"), {}),
    "narrowing and attention": (
        "bert",
        swapped("layer.0.output.dense.bias", "layer.0.attention.output.dense.bias"),
        {},
    ),
    "Gemm, not transposed": ("bert", lambda m: as_gemm(m, transposed=False), {}),
    "more heads": ("bert", lambda m: None, {"num_attention_heads": 8}),
    "one head": ("bert", lambda m: None, {"num_attention_heads": 1}),
    "heads that do not divide": ("bert", lambda m: None, {"num_attention_heads": 5}),
    "no heads": ("bert", lambda m: None, {"num_attention_heads": 0}),
    "heads unknown": ("bert", lambda m: None, {"num_attention_heads": ...}),
    "fewer layers": ("bert", lambda m: None, {"num_hidden_layers": 1}),
    "more layers": ("bert", lambda m: None, {"num_hidden_layers": 3}),
    "wider": ("bert", lambda m: None, {"hidden_size": 64}),
    "width unknown": ("bert", lambda m: None, {"hidden_size": ...}),
    "epsilon": ("bert", lambda m: None, {"layer_norm_eps": 0.01}),
    "epsilon as text": ("bert", lambda m: None, {"layer_norm_eps": "tiny"}),
    "one segment": ("bert", lambda m: None, {"type_vocab_size": 1}),
    "positions from elsewhere": ("xlm-roberta", lambda m: None, {"pad_token_id": 2}),
    "positions from 0": ("bert", lambda m: None, {"model_type": "roberta"}),
    "positions from 2": ("xlm-roberta", lambda m: None, {"model_type": "bert"}),
    "another activation": ("bert", lambda m: None, {"hidden_act": "relu"}),
    "relative positions": ("bert", lambda m: None, {"position_embedding_type": "relative_key"}),
    "an unknown architecture": ("bert", lambda m: None, {"model_type": "electra"}),
    "no architecture": ("bert", lambda m: None, {"model_type": ...}),
    "special tokens unknown": ("late-interaction", lambda m: None, {"special_ids": ...}),
    "special tokens as text": ("late-interaction", lambda m: None, {"special_ids": ["[CLS]"]}),
    "other special tokens": ("late-interaction", lambda m: None, {"special_ids": [2, 7]}),
    "a plain cross-encoder's head": ("late-interaction", lambda m: None, {"model_type": "bert"}),
    "a head over nothing": ("bert", lambda m: None, {"model_type": "late-interaction-bert", "special_ids": [2, 3]}),
}


@pytest.mark.parametrize("mistake", WRONG)
def test_what_would_be_read_wrongly_is_left_alone_with_a_note(tmp_path: Path, mistake: str) -> None:
    family, change, config = WRONG[mistake]
    right = changed_copy(tmp_path / "right", family, distinct)
    assert runs(right) == ""
    model = onnx.load(right / "model.onnx")
    change(model)
    onnx.save(model, right / "model.onnx")
    settings = json_of(right) | config
    (right / "config.json").write_text(json.dumps({key: value for key, value in settings.items() if value is not ...}))
    assert runs(right).startswith("runs its own graph: ")


@pytest.mark.parametrize("labels", [2, 3])
def test_of_a_head_of_two_numbers_the_second_less_the_first_is_the_logit_and_more_are_refused(
    tmp_path: Path, labels: int
) -> None:
    def widened(model: Any) -> None:
        graph = model.graph
        names = {tensor.name: tensor for tensor in graph.initializer}
        for name in ("cross_encoder.0.model.classifier.weight", "cross_encoder.0.model.classifier.bias"):
            values = numpy_helper.to_array(names[name])
            rows = np.concatenate([values * factor for factor in (1, 3, 2)[:labels]])
            names[name].CopyFrom(numpy_helper.from_array(rows, name))
        graph.output[0].type.tensor_type.shape.dim[1].dim_value = labels

    folder = changed_copy(tmp_path / "m", "bert", widened)
    if labels > 2:
        with pytest.raises(ModelLoadError, match="not one logit a pair"):
            OnnxReranker(model=str(folder)).warm_up()
        return
    one = OnnxReranker(model=str(changed_copy(tmp_path / "one", "bert", lambda model: None)), optimize=False)
    expected = [2 * value for value in one.score(QUERIES[0], DOCUMENTS[:4]).values]
    for optimize in (False, True):
        values = OnnxReranker(model=str(folder), optimize=optimize).score(QUERIES[0], DOCUMENTS[:4]).values
        assert values == pytest.approx(expected, abs=1e-4)


def test_the_comparison_finds_every_array_that_is_a_little_wrong(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Each array in turn; the note names the logit that differs."""
    rewrite = build.rewrite
    folder = changed_copy(tmp_path / "m", "bert", distinct)
    arrays = rewrite(onnx.load(folder / "model.onnx"), json_of(folder)).graph.initializer
    floats = [tensor.name for tensor in arrays if tensor.data_type == onnx.TensorProto.FLOAT]
    assert len(floats) > 30
    for name in floats:

        def slightly_wrong(model: Any, config: Any, name: str = name) -> Any:
            graph = rewrite(model, config)
            (tensor,) = [tensor for tensor in graph.graph.initializer if tensor.name == name]
            values = numpy_helper.to_array(tensor)
            tensor.CopyFrom(numpy_helper.from_array(values + np.float32(0.02) * np.roll(values, 1), name))
            return graph

        monkeypatch.setattr(build, "rewrite", slightly_wrong)
        (note,) = build_in(tmp_path / name, folder)
        assert note.startswith("runs its own graph: the faster one gave a logit of "), name


def json_of(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "config.json").read_text())
    return content


def build_in(draft: Path, folder: Path) -> list[str]:
    """Build the graph of a folder in a new draft folder, and return its notes."""
    draft.mkdir()
    file = folder / "model.onnx"
    reranker = OnnxReranker(model=str(folder))
    model_folder = ModelFolder(folder, "m", None, None)

    def open_graph(graph: Path, optimised: Path | None) -> _Session:
        return _Session(graph, "m", reranker, is_ready=graph != file, optimised=optimised)

    return build.build(draft, model_folder, file, "fp32", open_graph)
