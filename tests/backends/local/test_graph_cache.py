"""The graph cache: graphs are found again, rebuilt when anything changed or broke, and never left incomplete."""

from __future__ import annotations

import errno
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import onnx
import pytest
from support import tiny_checkpoints

from rag_rerank import ModelLoadError
from rag_rerank.backends.local.onnx_graphs import build, cache
from rag_rerank.backends.onnx import OnnxReranker

QUERY, TEXTS = tiny_checkpoints.QUERIES[0], tiny_checkpoints.DOCUMENTS


@pytest.fixture
def assets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty cache for each test; exporting caches a graph too."""
    tiny_checkpoints.onnx_export("bert")
    monkeypatch.setattr(huggingface_hub.constants, "HF_ASSETS_CACHE", str(tmp_path / "assets"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    return tmp_path / "assets"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_checkpoints.onnx_export("bert"), tmp_path / "model"))


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The precision of each graph that is built, in order."""
    precisions: list[str] = []
    make = build.build

    def counted(draft: Path, folder: Any, file: Path, precision: Any, open_: Any) -> list[str]:
        precisions.append(precision)
        return make(draft, folder, file, precision, open_)

    monkeypatch.setattr(cache, "build", counted)
    return precisions


def cached_graphs(assets: Path) -> list[Path]:
    """Return all folders of the cache, drafts included."""
    return sorted((assets / "rag-rerank" / "graphs").iterdir())


def score(folder: Path, **options: Any) -> list[float]:
    with OnnxReranker(model=str(folder), **options) as reranker:
        return list(reranker.score(QUERY, TEXTS).values)


def external(folder: Path, name: str) -> None:
    """Move the weights of a folder's model into a file beside it."""
    model = onnx.load(folder / "model.onnx")
    (folder / "model.onnx").unlink()
    onnx.save_model(model, folder / "model.onnx", save_as_external_data=True, location=name, size_threshold=0)


def test_a_graph_is_made_once_for_each_precision(assets: Path, folder: Path, builds: list[str]) -> None:
    assert score(folder) == score(folder)
    assert score(folder, precision="int8") == score(folder, precision="int8")
    assert builds == ["fp32", "int8"]
    assert [sorted(file.name for file in graph.iterdir()) for graph in cached_graphs(assets)] == [
        ["graph.json", "model.onnx", "model.onnx_data"]
    ] * 2


PROBE = """
import sys
from rag_rerank.backends.onnx import OnnxReranker
with OnnxReranker(model=sys.argv[1]) as reranker:
    print(reranker.score({query!r}, ["warm", "cold"]).values)
print("onnx" in sys.modules)
"""


def start(folder: Path, assets: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "HF_ASSETS_CACHE": str(assets), "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", PROBE.format(query=QUERY), str(folder)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def test_a_kept_graph_is_loaded_without_onnx(assets: Path, folder: Path) -> None:
    score(folder)
    process = start(folder, assets)
    assert process.communicate()[0].splitlines()[-1] == "False"


def test_processes_that_make_the_same_graph_at_once_all_get_it(assets: Path, folder: Path) -> None:
    processes = [start(folder, assets) for _ in range(3)]
    answers = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * 3
    assert len({answer.splitlines()[0] for answer in answers}) == 1
    assert len(cached_graphs(assets)) == 1


def test_threads_that_make_the_same_graph_at_once_all_get_it(assets: Path, folder: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: score(folder), range(4)))
    assert all(answer == answers[0] for answer in answers)
    assert len(cached_graphs(assets)) == 1


def replaced(folder: Path) -> None:
    model = onnx.load(folder / "model.onnx")
    (bias,) = [tensor for tensor in model.graph.initializer if tensor.name.endswith("classifier.bias")]
    value = onnx.numpy_helper.to_array(bias) + 1
    bias.CopyFrom(onnx.numpy_helper.from_array(value, bias.name))
    onnx.save(model, folder / "model.onnx")


def test_another_file_makes_another_graph(assets: Path, folder: Path, builds: list[str]) -> None:
    before = score(folder)
    replaced(folder)
    assert score(folder) == pytest.approx([value + 1 for value in before], abs=1e-4)
    assert len(builds) == 2


def test_another_config_makes_another_graph(assets: Path, folder: Path, builds: list[str]) -> None:
    score(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "hidden_act": "gelu_new"}))
    score(folder)
    assert len(builds) == 2


def test_another_runtime_or_recipe_makes_another_graph(
    monkeypatch: pytest.MonkeyPatch, assets: Path, folder: Path, builds: list[str]
) -> None:
    score(folder)
    monkeypatch.setattr(cache, "_runtime_version", lambda: "0.0.1")
    score(folder)
    monkeypatch.setattr(cache, "CACHE_VERSION", 0)
    score(folder)
    assert len(builds) == len(cached_graphs(assets)) == 3


@pytest.mark.parametrize("name", ["model.onnx_data", "model.onnx.data", "weights-1.bin"])
def test_other_weights_beside_the_same_file_make_another_graph(
    assets: Path, folder: Path, builds: list[str], name: str
) -> None:
    external(folder, name)
    before = score(folder)
    model = onnx.load(folder / "model.onnx", load_external_data=False)
    (bias,) = [tensor for tensor in model.graph.initializer if tensor.name.endswith("classifier.bias")]
    start = int(next(entry.value for entry in bias.external_data if entry.key == "offset"))
    weights = bytearray((folder / name).read_bytes())
    (value,) = struct.unpack_from("<f", weights, start)
    struct.pack_into("<f", weights, start, value + 1)
    (folder / name).write_bytes(weights)
    assert score(folder) == pytest.approx([value + 1 for value in before], abs=1e-4)
    assert len(builds) == 2


def test_the_hubs_cache_of_links_to_blobs_is_read(assets: Path, folder: Path, tmp_path: Path) -> None:
    expected = score(folder, optimize=False)
    external(folder, "model.onnx_data")
    blobs = tmp_path / "blobs"
    blobs.mkdir()
    for number, file in enumerate(sorted(folder.iterdir())):
        blob = blobs / f"{number:064x}"
        file.rename(blob)
        file.symlink_to(os.path.relpath(blob, folder))
    for precision in ("fp32", "int8"):
        with OnnxReranker(model=str(folder), precision=precision) as reranker:
            scores = reranker.score(QUERY, TEXTS)
            assert not any(build.OWN_GRAPH in note for note in scores.notes)
            assert scores.values == pytest.approx(expected, abs=1e-4 if precision == "fp32" else 5)


def test_weights_outside_the_folder_are_not_read(assets: Path, folder: Path) -> None:
    external(folder, "model.onnx_data")
    (folder / "model.onnx_data").rename(folder.parent / "model.onnx_data")
    model = onnx.load(folder / "model.onnx", load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = "../model.onnx_data"
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ModelLoadError):
        score(folder)


def cut(graph: Path) -> None:
    weights = graph / "model.onnx_data"
    weights.write_bytes(weights.read_bytes()[:-1])


def test_weights_are_on_the_disk_before_a_graph_is_kept(
    assets: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: set[int] = set()
    sync = os.fsync

    def note_sync(handle: int) -> None:
        synced.add(os.fstat(handle).st_ino)
        sync(handle)

    monkeypatch.setattr(os, "fsync", note_sync)
    score(folder)
    (graph,) = cached_graphs(assets)
    assert {(graph / name).stat().st_ino for name in ("model.onnx", "model.onnx_data")} <= synced


BREAKS = {
    "weights cut": cut,
    "weights gone": lambda graph: (graph / "model.onnx_data").unlink(),
    "graph gone": lambda graph: (graph / "model.onnx").unlink(),
    "no report": lambda graph: (graph / "graph.json").unlink(),
    "report cut": lambda graph: (graph / "graph.json").write_text("{"),
    "report of another kind": lambda graph: (graph / "graph.json").write_text("[]"),
    "report without notes": lambda graph: (graph / "graph.json").write_text('{"sizes": {}}'),
    "report of no text": lambda graph: (graph / "graph.json").write_bytes(b"\xff\xfe"),
    "one file more": lambda graph: (graph / "between.onnx").write_bytes(b""),
}


@pytest.mark.parametrize("damage", BREAKS)
def test_a_broken_graph_is_made_anew(assets: Path, folder: Path, builds: list[str], damage: str) -> None:
    expected = score(folder)
    (graph,) = cached_graphs(assets)
    BREAKS[damage](graph)
    assert score(folder) == expected
    assert len(builds) == 2
    assert cached_graphs(assets) == [graph]
    assert score(folder) == expected and len(builds) == 2


def test_a_cache_that_is_a_file_costs_a_note_and_leaves_nothing(assets: Path, folder: Path, builds: list[str]) -> None:
    assets.write_text("in the way")
    temporary = Path(tempfile.gettempdir())
    reranker = OnnxReranker(model=str(folder))
    (note,) = reranker.score(QUERY, TEXTS).notes
    assert note.startswith("the optimised graph is not kept: ")
    assert len(list(temporary.glob("rag-rerank-*"))) == 1
    reranker.close()
    assert list(temporary.glob("rag-rerank-*")) == []


def test_what_could_not_be_kept_is_removed_when_the_process_ends(assets: Path, folder: Path) -> None:
    assets.write_text("in the way")
    code = f"from rag_rerank.backends.onnx import OnnxReranker; OnnxReranker(model={str(folder)!r}).warm_up()"
    temporary = Path(tempfile.gettempdir())
    environment = {**os.environ, "HF_ASSETS_CACHE": str(assets), "TMPDIR": str(temporary)}
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    assert list(temporary.glob("rag-rerank-*")) == []


def test_a_cache_that_may_only_be_read_is_read(
    monkeypatch: pytest.MonkeyPatch, assets: Path, folder: Path, builds: list[str]
) -> None:
    expected = score(folder)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with OnnxReranker(model=str(folder)) as reranker:
        assert reranker.score(QUERY, TEXTS).notes == () and reranker.score(QUERY, TEXTS).values == expected
        assert len(builds) == 1
    replaced(folder)
    with OnnxReranker(model=str(folder)) as reranker:
        (note,) = reranker.score(QUERY, TEXTS).notes
        assert note.endswith("is not writable")


def test_kept_graphs_may_be_read_by_those_who_may_read_the_users_files(assets: Path, folder: Path) -> None:
    (folder.parent / "plain").mkdir()
    score(folder)
    (graph,) = cached_graphs(assets)
    assert graph.stat().st_mode == (folder.parent / "plain").stat().st_mode
    assert {file.stat().st_mode for file in graph.iterdir()} == {(folder / "config.json").stat().st_mode}


@pytest.fixture(params=["save", "rename"])
def full(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A disk that is full when the graph is written, or when it is put in its place."""

    def fail(*args: object, **options: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    if request.param == "save":
        monkeypatch.setattr(onnx, "save_model", fail)
    else:
        monkeypatch.setattr(Path, "rename", fail)
    yield
    monkeypatch.undo()


@pytest.mark.usefixtures("full")
def test_a_full_disk_is_a_typed_error_and_leaves_nothing(assets: Path, folder: Path) -> None:
    with pytest.raises(ModelLoadError, match=r"No space left on device\); make room, set HF_ASSETS_CACHE"):
        score(folder)
    assert cached_graphs(assets) == []


def test_drafts_of_killed_processes_are_removed_a_day_later(assets: Path, folder: Path) -> None:
    graphs = assets / "rag-rerank" / "graphs"
    for name, hours in (("old", 25), ("new", 23)):
        draft = graphs / f".{name}"
        draft.mkdir(parents=True)
        (draft / "model.onnx").write_bytes(b"half")
        os.utime(draft, (time.time() - hours * 3600,) * 2)
    score(folder)
    assert [graph.name for graph in cached_graphs(assets) if graph.name.startswith(".")] == [".new"]


def test_a_window_smaller_than_the_samples_is_no_obstacle(assets: Path, folder: Path) -> None:
    with OnnxReranker(model=str(folder), max_length=12) as reranker:
        assert reranker.score("how?", ["deep"]).notes == ()


def test_a_model_whose_window_is_smaller_than_the_samples_is_compared_on_their_beginnings(
    assets: Path, folder: Path
) -> None:
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**settings, "model_max_length": 12}))
    with OnnxReranker(model=str(folder), optimize=False) as own, OnnxReranker(model=str(folder)) as rebuilt:
        answers = [reranker.score("how deep is it, and how wide?", ["deep", "wide"]) for reranker in (own, rebuilt)]
    assert not any("its own graph" in note for note in answers[1].notes)
    assert answers[1].values == pytest.approx(answers[0].values, abs=1e-5)
