"""Which ONNX file of a model is run, in folders and on the hub."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.hub_server import MODEL, HubServer, point_to
from support.tiny_checkpoints import onnx_export

from rag_rerank import ModelLoadError, ModelUnavailable, Ranking, build
from rag_rerank.backends.onnx import OnnxReranker

TEXTS = ["the lake is warm", "the snow is cold"]
OTHER_NAMES = [
    "model_quantized.onnx",
    "onnx/model_quantized.onnx",
    "model_int8.onnx",
    "onnx/model_O3.onnx",
    "onnx/model_fp16.onnx",
    "onnx/model_qint8_avx512_vnni.onnx",
    "decision.onnx",
]


def rank(reranker: OnnxReranker) -> Ranking:
    return reranker.rerank("how warm is it?", TEXTS)


def scores(ranking: Ranking) -> dict[str, float | None]:
    return {hit.id: hit.raw_score for hit in ranking}


@pytest.fixture(scope="module")
def quantized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A graph that ONNX Runtime's own tool has quantized."""
    from onnxruntime.quantization import quantize_dynamic

    file = tmp_path_factory.mktemp("quantized") / "model_quantized.onnx"
    quantize_dynamic(onnx_export("bert") / "model.onnx", file)
    return file


def folder_with(path: Path, graphs: dict[str, Path]) -> Path:
    path.mkdir()
    for file in onnx_export("bert").glob("*.json"):
        shutil.copy(file, path)
    for name, graph in graphs.items():
        (path / name).parent.mkdir(exist_ok=True)
        shutil.copy(graph, path / name)
    return path


@pytest.mark.parametrize("name", OTHER_NAMES)
def test_the_only_graph_is_run_whatever_its_name_and_the_trace_says_so(
    name: str, quantized: Path, tmp_path: Path
) -> None:
    folder = folder_with(tmp_path / "m", {name: quantized})
    ranking = rank(build({"type": "onnx", "model": str(folder), "optimize": False}))
    assert f"the graph is {name}" in ranking.trace.notes
    renamed = folder_with(tmp_path / "n", {"model.onnx": quantized})
    assert scores(ranking) == scores(rank(OnnxReranker(model=str(renamed), optimize=False)))


def test_a_quantized_graph_runs_with_the_default_settings_too(quantized: Path, tmp_path: Path) -> None:
    folder = folder_with(tmp_path / "m", {"onnx/model_quantized.onnx": quantized})
    optimised, own = rank(OnnxReranker(model=str(folder))), rank(OnnxReranker(model=str(folder), optimize=False))
    for id, score in scores(own).items():
        assert scores(optimised)[id] == pytest.approx(score, abs=1e-4)


def test_model_onnx_is_run_where_it_is_beside_others_and_nothing_is_noted(quantized: Path, tmp_path: Path) -> None:
    own = onnx_export("bert") / "model.onnx"
    folder = folder_with(tmp_path / "m", {"onnx/model.onnx": own, "onnx/model_quantized.onnx": quantized})
    ranking = rank(OnnxReranker(model=str(folder)))
    assert not any("the graph is" in note for note in ranking.trace.notes)
    assert scores(ranking) == scores(rank(OnnxReranker(model=str(own.parent))))


def test_several_other_graphs_are_listed_and_file_chooses_one(quantized: Path, tmp_path: Path) -> None:
    graphs = {"onnx/model_quantized.onnx": quantized, "onnx/model_fp32.onnx": onnx_export("bert") / "model.onnx"}
    folder = folder_with(tmp_path / "m", graphs)
    with pytest.raises(ModelLoadError, match=r"the key file.*onnx/model_fp32.onnx, onnx/model_quantized.onnx(?m:$)"):
        OnnxReranker(model=str(folder)).warm_up()
    for file in ("onnx/model_fp32.onnx", "model_fp32.onnx"):
        chosen = OnnxReranker(model=str(folder), file=file)
        assert scores(rank(chosen)) == scores(rank(OnnxReranker(model=str(onnx_export("bert")))))
    with pytest.raises(ModelLoadError, match=r"no ONNX file 'model_q4.onnx'; it has onnx/model_fp32"):
        OnnxReranker(model=str(folder), file="model_q4.onnx").warm_up()


def test_a_graph_outside_of_the_model_cannot_be_named(quantized: Path, tmp_path: Path) -> None:
    folder = folder_with(tmp_path / "m", {"model.onnx": quantized})
    shutil.copy(quantized, tmp_path / "outside.onnx")
    for file in ("../outside.onnx", str(tmp_path / "outside.onnx")):
        with pytest.raises(ModelLoadError, match="has no ONNX file"):
            OnnxReranker(model=str(folder), file=file).warm_up()


def test_the_identity_covers_the_graph_that_is_run(quantized: Path, tmp_path: Path) -> None:
    folder = folder_with(tmp_path / "m", {"onnx/model_quantized.onnx": quantized})
    before = OnnxReranker(model=str(folder)).identity
    shutil.copy(onnx_export("bert") / "model.onnx", folder / "onnx" / "model_quantized.onnx")
    assert OnnxReranker(model=str(folder)).identity != before


def test_no_graph_at_all_is_an_error_with_advice(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match="rag-rerank export"):
        OnnxReranker(model=str(folder_with(tmp_path / "m", {}))).warm_up()


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quantized: Path) -> Iterator[HubServer]:
    """A hub whose model has a quantized graph only."""
    files = {file.name: file.read_bytes() for file in onnx_export("bert").glob("*.json")}
    with HubServer({**files, "onnx/model_quantized.onnx": quantized.read_bytes()}) as server:
        point_to(server.url, tmp_path / "cache", monkeypatch)
        yield server


def test_the_only_graph_on_the_hub_is_fetched_and_then_read_offline(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    ranking = rank(build(f"onnx:{MODEL}"))
    assert "the graph is onnx/model_quantized.onnx" in ranking.trace.notes
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert scores(rank(build(f"onnx:{MODEL}"))) == scores(ranking)


def test_only_the_chosen_graph_is_fetched_from_the_hub(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.files["onnx/model_fp32.onnx"] = (onnx_export("bert") / "model.onnx").read_bytes()
    with pytest.raises(ModelLoadError, match=r"the key file.*onnx/model_fp32.onnx, onnx/model_quantized.onnx(?m:$)"):
        rank(build(f"onnx:{MODEL}"))
    rank(OnnxReranker(model=MODEL, file="model_fp32.onnx"))
    assert not any(path.endswith("model_quantized.onnx") for path in hub.paths)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelUnavailable):
        OnnxReranker(model=MODEL, file="model_quantized.onnx").warm_up()
