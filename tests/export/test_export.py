"""Export to ONNX: the files of the folder, and that no folder appears unless its logits are right.

That the logits of every family agree is proven in ``tests/golden``.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Literal

import pytest
from support import tiny_checkpoints
from support.tiny_checkpoints import DOCUMENTS, QUERIES

import rag_rerank.export.onnx_folder
from rag_rerank import ConfigError, ModelLoadError
from rag_rerank.backends.local.samples import TOLERANCE
from rag_rerank.backends.onnx import OnnxReranker
from rag_rerank.backends.torch import TorchReranker
from rag_rerank.export import export


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "models" / "mine"


def test_the_folder_holds_model_tokenizer_config_and_origin(out: Path) -> None:
    source = str(tiny_checkpoints.checkpoint("bert"))
    report = export(source, out, max_length=100)
    assert report.path == out
    assert sorted(file.name for file in out.iterdir()) == [
        "config.json",
        "model.onnx",
        "rag_rerank.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    assert list(out.parent.iterdir()) == [out]
    assert report.bytes == sum(file.stat().st_size for file in out.iterdir())
    assert report.pairs >= 10
    assert report.max_difference <= TOLERANCE
    origin = json.loads((out / "rag_rerank.json").read_text())
    assert (origin["source"], origin["revision"], origin["opset"]) == (source, None, 17)
    assert (origin["max_difference"], origin["pairs"]) == (report.max_difference, report.pairs)
    with pytest.raises(ModelLoadError, match="reads at most 100 tokens"):
        OnnxReranker(model=str(out), max_length=101).warm_up()


def test_an_empty_folder_may_be_given(out: Path) -> None:
    out.mkdir(parents=True)
    export(str(tiny_checkpoints.checkpoint("bert")), out)
    assert (out / "model.onnx").is_file()


def test_a_checkpoint_without_tokenizer_json_gets_one(tmp_path: Path, out: Path) -> None:
    folder = Path(shutil.copytree(tiny_checkpoints.checkpoint("bert"), tmp_path / "old"))
    expected = TorchReranker(model=str(folder)).score(QUERIES[0], DOCUMENTS)
    vocabulary = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    (folder / "vocab.txt").write_text("\n".join(vocabulary), encoding="utf-8")
    (folder / "tokenizer.json").unlink()
    export(str(folder), out)
    scores = OnnxReranker(model=str(out)).score(QUERIES[0], DOCUMENTS)
    assert scores.values == pytest.approx(expected.values, abs=1e-4)


def test_logits_that_differ_leave_nothing_behind(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, out: Path) -> None:
    monkeypatch.setattr(rag_rerank.export.onnx_folder, "TOLERANCE", 1e-12)
    with pytest.raises(ModelLoadError, match=r"a logit differs by \d\S+ from PyTorch's -?\d\S+, and only 1e-12 of it"):
        export(str(tiny_checkpoints.checkpoint("bert")), out)
    assert list(tmp_path.iterdir()) == []


def test_an_exporter_that_fails_leaves_nothing_behind(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, out: Path
) -> None:
    import torch

    def raise_error(*args: object, **options: object) -> None:
        Path(str(args[2])).write_bytes(b"half a file")
        raise RuntimeError("unsupported operator")

    monkeypatch.setattr(torch.onnx, "export", raise_error)
    with pytest.raises(ModelLoadError, match=r"cannot export .* unsupported operator"):
        export(str(tiny_checkpoints.checkpoint("bert")), out)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("weights", ["fp32", "int8"])
def test_weights_too_large_for_one_file_lie_in_one_more(
    monkeypatch: pytest.MonkeyPatch, out: Path, weights: Literal["fp32", "int8"]
) -> None:
    import onnx
    import torch

    trace = torch.onnx.export

    def scattered(model: object, inputs: object, file: str, **options: object) -> None:
        trace(model, inputs, file, **options)
        onnx.save_model(
            onnx.load(file), file, save_as_external_data=True, all_tensors_to_one_file=False, size_threshold=0
        )
        assert len(list(Path(file).parent.iterdir())) > 10

    monkeypatch.setattr(torch.onnx, "export", scattered)
    source = str(tiny_checkpoints.checkpoint("bert"))
    export(source, out, weights=weights)
    assert [file.name for file in sorted(out.glob("model*"))] == ["model.onnx", "model.onnx_data"][
        : 2 - (weights == "int8")
    ]
    scores = OnnxReranker(model=str(out)).score(QUERIES[0], DOCUMENTS).values
    assert scores == pytest.approx(TorchReranker(model=source).score(QUERIES[0], DOCUMENTS).values, abs=0.05)


def test_what_is_no_trained_cross_encoder_is_refused(tmp_path: Path, out: Path) -> None:
    with pytest.raises(ModelLoadError, match=r"Qwen3ForCausalLM.*only cross-encoders"):
        export(str(tiny_checkpoints.checkpoint("qwen3")), out)
    with pytest.raises(ModelLoadError, match="would be random"):
        export(str(tiny_checkpoints.checkpoint("bert", head=False)), out)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "kept.txt").write_text("kept")
    for out in (tmp_path, tmp_path / "kept.txt"):
        with pytest.raises(ConfigError, match="exists already"):
            export(str(tiny_checkpoints.checkpoint("bert")), out)
    with pytest.raises(ConfigError, match="no folder can be made in"):
        export(str(tiny_checkpoints.checkpoint("bert")), tmp_path / "kept.txt" / "below")
    assert [file.name for file in tmp_path.iterdir()] == ["kept.txt"]


def test_the_onnx_backend_names_the_export_for_a_safetensors_folder() -> None:
    with pytest.raises(ModelLoadError, match=r"no ONNX file; make one with: rag-rerank export .* -o DIR"):
        OnnxReranker(model=str(tiny_checkpoints.checkpoint("bert"))).warm_up()


def test_exporting_writes_nothing_to_the_terminal(out: Path, capfd: pytest.CaptureFixture[str]) -> None:
    export(str(tiny_checkpoints.checkpoint("bert")), out)
    assert capfd.readouterr() == ("", "")
